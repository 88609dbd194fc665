"""One of three brokers is lost: what is sent waits for Kafka, and no longer.

With three replicas on three brokers each write waits for the lost one, whoever leads, until Kafka takes it for dead
(`broker.session.timeout.ms`). What a collector adds to that is measured here.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from metrics_app.collector.publisher import NOTHING_KEPT, Publisher
from metrics_app.errors import OverloadedError
from metrics_app.kafka import connections
from metrics_app.kafka.cluster import EmbeddedCluster
from metrics_app.settings import Settings
from metrics_app.telemetry import Telemetry
from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk
from metrics_app.wire.partition import partition_of
from tests.conftest import MakeSettings
from tests.faults import pace
from tests.faults.pace import stretched
from tests.kafka.leaders import leaders, until_led_by

from .fakes import until

pytestmark = pytest.mark.kafka
PARTITIONS = 6
FENCED_AFTER_S = 6.0  # longer than a collector's patience, so that it connects anew meanwhile
AFTER_ELECTION_S = 1.0


class Sender:
    """Publishes numbers under a key of one partition, one after the other, and remembers what became of each."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.key = next(
            key for key in map(str, itertools.count()) if partition_of(key.encode(), PARTITIONS) == partition
        )
        self.kept: dict[float, float] = {}  # number -> when it was acknowledged
        self.denied: set[float] = set()

    async def run(self, running: Publisher) -> None:
        for number in itertools.count():
            try:
                await running.publish([Chunk(self.key.encode(), 498740, struct.pack("<d", number))])
                self.kept[number] = time.monotonic()
            except OverloadedError as error:
                if NOTHING_KEPT in str(error):
                    self.denied.add(number)
            await asyncio.sleep(0.02)

    def first_after(self, moment_s: float) -> float | None:
        return next((at for at in self.kept.values() if at >= moment_s), None)


@asynccontextmanager
async def senders(settings: Settings) -> AsyncIterator[list[Sender]]:
    """One for each partition, all of which have got through once."""
    running = Publisher(settings, Telemetry())
    await running.start()
    sending = [Sender(partition) for partition in range(PARTITIONS)]
    tasks = [asyncio.create_task(sender.run(running)) for sender in sending]
    try:
        await until(lambda: all(sender.kept for sender in sending), 40)
        yield sending
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await running.stop()


async def assert_exact(settings: Settings, sending: list[Sender]) -> None:
    found: dict[bytes, list[float]] = {}
    for message in await connections.everything(settings, settings.samples_topic, range(PARTITIONS)):
        for chunk in record.decode(message.value):
            found.setdefault(chunk.key, []).extend(struct.unpack(f"<{chunk.count}d", chunk.values))
    for sender in sending:
        numbers = found[sender.key.encode()]
        assert len(numbers) == len(set(numbers))
        assert sender.kept.keys() <= set(numbers)
        assert not sender.denied & set(numbers)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(tmp_path / "kafka", fenced_after_s=FENCED_AFTER_S) as running:
        yield running


@pytest.mark.parametrize("how", ["killed", pytest.param("frozen", marks=pytest.mark.slow)])
async def test_a_lost_broker_holds_up_what_is_sent_for_as_long_as_kafka_takes_and_a_second(
    how: str, cluster: EmbeddedCluster, make_settings: MakeSettings
) -> None:
    pace.begin()
    here = make_settings(kafka=cluster.bootstrap, partitions=PARTITIONS, replication=3)
    async with senders(here) as sending:
        assert 1 in (await leaders(cluster.nodes[2], here.samples_topic)).values()
        pid, gone_s = cluster.nodes[1].pid, time.monotonic()
        assert pid is not None
        os.kill(pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        elected_s = await until_led_by(cluster.nodes[2], here.samples_topic, {2, 3})
        await until(lambda: all(sender.first_after(elected_s) for sender in sending), 40)
        back_s = max(sender.first_after(elected_s) or 0 for sender in sending)
        print(f"{how}: new leaders after {elected_s - gone_s:.2f} s, all taken again {back_s - elected_s:.2f} s later")
        assert back_s - elected_s <= stretched(AFTER_ELECTION_S)
        if how == "frozen":
            os.kill(pid, signal.SIGCONT)
    await assert_exact(here, sending)
