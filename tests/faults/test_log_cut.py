"""A broker that lost power: the ends of its logs are cut, in the middle of a batch, on real processes.

What was acknowledged by a single broker lies in its machine's page cache, so a loss of power may take it. What had been
folded of it stays counted, it is said, and everything that comes afterwards counts once.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
import urllib.error
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from aiokafka import AIOKafkaProducer

from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk
from metrics_app.wire.metric_key import key_bytes
from metrics_app.wire.partition import partition_of
from tests.faults.installation import Installation, eventually
from tests.faults.pace import stretched
from tests.faults.test_state import KEYS, PARTITIONS, Ledger

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

SAMPLES, CHANGELOG = "samples", "metrics-aggregator-hours-changelog"
SETTINGS = {
    "METRICS_PARTITIONS": str(PARTITIONS),
    "METRICS_FLUSH_INTERVAL_S": "0.3",
    "METRICS_SESSION_TIMEOUT_S": "6",
}
BATCH_HEAD = struct.Struct(">qi")  # of a record batch: base offset, bytes that follow
TAKEN_WITHIN_S = 30.0
TRUNCATED = "metrics_app_log_truncated_total"


class Batch(NamedTuple):
    """Where a batch lies in its segment."""

    at: int
    size: int


def batches(segment: Path) -> list[Batch]:
    """The batches of a segment, the oldest first."""
    content, found, at = segment.read_bytes(), list[Batch](), 0
    while at + BATCH_HEAD.size <= len(content):
        _, follow = BATCH_HEAD.unpack_from(content, at)
        found.append(Batch(at, BATCH_HEAD.size + follow))
        at += found[-1].size
    return found


def cut(installation: Installation, topic: str, whole: int) -> None:
    """Cuts off a number of whole batches of each partition, and half of the one before."""
    for partition in range(PARTITIONS):
        segment = max((installation.kafka.storage.log / f"{topic}-{partition}").glob("*.log"))
        torn = batches(segment)[-1 - whole]
        os.truncate(segment, torn.at + torn.size // 2)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("log-cut"), {"a": "all"}, SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def ledger(installation: Installation) -> Ledger:
    return Ledger(installation.workers["a"])


def send(ledger: Ledger) -> None:
    """A value of each key, sent again under the same name until it is taken."""
    name, give_up = uuid.uuid4().hex, time.monotonic() + stretched(TAKEN_WITHIN_S)
    while True:
        try:
            return ledger.send(name=name)
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > give_up:
                raise
            time.sleep(0.05)


def lose_power(installation: Installation, cuts: dict[str, int]) -> None:
    """Kills the broker, cuts its logs by so many batches, and starts it again."""
    installation.kafka.kill()
    for topic, whole in cuts.items():
        cut(installation, topic, whole)
    installation.kafka.start()


async def outgrow(bootstrap: str, ledger: Ledger) -> None:
    """Appends, at once, more records to each partition than it has lost: its end alone says nothing any more."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for key in KEYS * 3:
            value = record.encode([Chunk(key.encode(), ledger.hour, struct.pack("<d", 1.0))])
            await producer.send_and_wait(SAMPLES, value, partition=partition_of(key_bytes(key), PARTITIONS))
            ledger.counts[key] += 1


@pytest.mark.parametrize(
    ("cuts", "seen"),
    [
        pytest.param({SAMPLES: 1}, False, id="samples outgrown at once"),
        pytest.param({SAMPLES: 1}, True, id="samples", marks=pytest.mark.slow),
        pytest.param({CHANGELOG: 6}, False, id="changelog", marks=pytest.mark.slow),
    ],
)
def test_a_running_worker_whose_broker_lost_the_ends_of_its_logs_counts_everything_once(
    installation: Installation, ledger: Ledger, cuts: dict[str, int], seen: bool
) -> None:
    """It had folded what was cut and keeps it; what comes takes the places of that. Then from the changelog alone.

    Args:
        seen: whether the worker has seen that the log is short, before the log is longer than it was.
    """
    for _ in range(3):
        send(ledger)
        ledger.assert_exact()
    before = installation.count(TRUNCATED)
    lose_power(installation, cuts)
    if seen:
        asyncio.run(eventually(lambda: installation.count(TRUNCATED) >= before + PARTITIONS, 30))
    asyncio.run(outgrow(installation.kafka.bootstrap, ledger))
    ledger.assert_exact(60)
    installation.workers["a"].stop()
    installation.wipe("a")
    installation.restart("a")
    send(ledger)
    ledger.assert_exact(60)


@pytest.mark.slow
def test_a_worker_that_was_not_there_sees_that_the_log_is_another_though_it_is_longer(
    installation: Installation, ledger: Ledger
) -> None:
    """The ends of the samples are lost and outgrown before it starts."""
    for _ in range(3):
        send(ledger)
    ledger.assert_exact()
    installation.workers["a"].stop()
    lose_power(installation, {SAMPLES: 1})
    asyncio.run(outgrow(installation.kafka.bootstrap, ledger))
    installation.restart("a")
    ledger.assert_exact(60)
    assert installation.count(TRUNCATED) == PARTITIONS
