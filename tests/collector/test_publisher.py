"""The publisher against a real Kafka that is killed, frozen and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from metrics_app import clocks
from metrics_app.collector.publisher import MAYBE_KEPT, NOTHING_KEPT, Publisher
from metrics_app.errors import OverloadedError
from metrics_app.faust_runtime.producer import abandon
from metrics_app.kafka import connections, topics
from metrics_app.kafka.connections import PATIENCE
from metrics_app.kafka.embedded import EmbeddedKafka
from metrics_app.settings import Settings
from metrics_app.telemetry import Telemetry
from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk
from metrics_app.wire.partition import partition_of
from tests.conftest import MakeSettings

from .fakes import collector, until

pytestmark = pytest.mark.kafka
DEADLINE_S = 1.0


@asynccontextmanager
async def publisher(settings: Settings, telemetry: Telemetry | None = None) -> AsyncIterator[Publisher]:
    running = Publisher(settings, telemetry or Telemetry())
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


async def until_connected(running: Publisher, within_s: float = 20) -> None:
    await until(lambda: running.problem() is None, within_s)


def chunk(key: str, *values: float) -> Chunk:
    return Chunk(key.encode(), 498740, struct.pack(f"<{len(values)}d", *values))


async def stored(settings: Settings) -> dict[int, list[list[Chunk]]]:
    """The records of the samples topic, by partition."""
    found: dict[int, list[list[Chunk]]] = {partition: [] for partition in range(settings.partitions)}
    for message in await connections.everything(settings, settings.samples_topic, found):
        if chunks := record.decode(message.value):  # one without any asks the time
            found[message.partition].append(chunks)
    return found


async def values_of(settings: Settings, key: str) -> list[float]:
    chunks = [one for records in (await stored(settings)).values() for sent in records for one in sent]
    return [value for one in chunks if one.key == key.encode() for value in struct.unpack(f"<{one.count}d", one.values)]


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A running broker that the test may kill."""
    with EmbeddedKafka(tmp_path / "kafka", 0) as broker:
        yield broker


@contextmanager
def frozen(broker: EmbeddedKafka) -> Iterator[None]:
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


async def refusal(running: Publisher, *chunks: Chunk) -> OverloadedError:
    with pytest.raises(OverloadedError) as caught:
        await running.publish(chunks)
    return caught.value


async def test_published_chunks_are_in_their_partitions_when_publish_returns(settings: MakeSettings) -> None:
    here, telemetry = settings(partitions=4), Telemetry()
    chunks = [chunk(f"key-{n}", n, n + 0.5) for n in range(50)]
    async with publisher(here, telemetry) as running:
        await until_connected(running)
        await running.publish(chunks)
        found = await stored(here)
    for partition, records in found.items():
        assert [one for sent in records for one in sent] == [c for c in chunks if partition_of(c.key, 4) == partition]
    produced = telemetry.registry.get_sample_value("metrics_app_produced_records_total")
    assert produced == sum(map(len, found.values())) == 4
    assert telemetry.registry.get_sample_value("metrics_app_pending_bytes") == 0


async def test_many_requests_become_few_records_and_none_is_lost(settings: MakeSettings) -> None:
    here = settings(partitions=2)
    async with publisher(here) as running:
        await until_connected(running)
        await asyncio.gather(*(running.publish([chunk(f"k{n % 10}", n)]) for n in range(500)))
        found = await stored(here)
    records = [sent for partition in found.values() for sent in partition]
    values = [v for sent in records for one in sent for v in struct.unpack(f"<{one.count}d", one.values)]
    assert sorted(values) == list(range(500))
    assert len(records) <= 20


async def test_a_request_larger_than_a_record_goes_into_several(settings: MakeSettings) -> None:
    here = settings(partitions=1, max_record_bytes=4096)
    chunks = [chunk(f"key-{n}", *range(100)) for n in range(40)]
    async with publisher(here) as running:
        await until_connected(running)
        await running.publish(chunks)
        found = await stored(here)
    assert len(found[0]) == 10
    assert [one for sent in found[0] for one in sent] == chunks


async def test_nothing_to_publish_is_no_wait(settings: MakeSettings) -> None:
    async with publisher(settings(partitions=1)) as running:
        await until_connected(running)
        await running.publish([])


async def test_without_kafka_requests_are_refused_at_once_and_it_is_said_why(make_settings: MakeSettings) -> None:
    here = make_settings()
    async with publisher(here) as running, collector(here, running) as listening:
        started = time.monotonic()
        reply = await listening.post(b'[["a",1],["b",2]]')
        assert time.monotonic() - started < here.request_deadline_s
        assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
        assert NOTHING_KEPT in reply.json["detail"]
        assert here.kafka in (running.problem() or "")
        assert listening.counts() == {"received": 2, "accepted": 0, "rejected": 0, "refused": 2}


async def test_kafka_that_starts_later_is_found(make_settings: MakeSettings, tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path / "kafka", 0)
    broker.start()
    broker.stop()
    here = make_settings(kafka=broker.bootstrap, partitions=1)
    try:
        async with publisher(here) as running:
            await asyncio.sleep(0.3)
            assert running.problem() is not None
            await asyncio.to_thread(broker.start)
            await until_connected(running)
            await running.publish([chunk("a", 1)])
            assert await values_of(here, "a") == [1]
    finally:
        broker.stop()


async def test_a_killed_kafka_refuses_quickly_and_keeps_its_word_after_its_return(
    make_settings: MakeSettings, own_kafka: EmbeddedKafka
) -> None:
    here, telemetry = make_settings(kafka=own_kafka.bootstrap, partitions=2, request_deadline_s=DEADLINE_S), Telemetry()
    kept: set[float] = set()
    denied: set[float] = set()
    slowest_s = 0.0
    stop = asyncio.Event()

    async def send_numbers(running: Publisher, first: int) -> None:
        nonlocal slowest_s
        number = first
        while not stop.is_set():
            number += 10
            started = time.monotonic()
            try:
                await running.publish([chunk("a", number), chunk("b", number)])
                kept.add(number)
            except OverloadedError as error:
                slowest_s = max(slowest_s, time.monotonic() - started)
                if NOTHING_KEPT in str(error):
                    denied.add(number)
                await asyncio.sleep(0.01)

    async with publisher(here, telemetry) as running:
        await until_connected(running)
        sending = [asyncio.create_task(send_numbers(running, first)) for first in range(10)]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(own_kafka.kill)
        await until(lambda: running.problem() is not None)
        await asyncio.sleep(0.5)
        before = len(kept)
        await asyncio.to_thread(own_kafka.start)
        await until_connected(running)
        await until(lambda: len(kept) > before)
        stop.set()
        await asyncio.gather(*sending)
        for key in ("a", "b"):
            found = await values_of(here, key)
            assert len(found) == len(set(found))
            assert kept <= set(found)
            assert not denied & set(found)
    assert before
    assert denied
    assert slowest_s < DEADLINE_S + 0.5
    assert telemetry.registry.get_sample_value("metrics_app_pending_bytes") == 0


async def test_a_frozen_kafka_gives_unknown_outcomes_then_quick_refusals_and_recovers(
    make_settings: MakeSettings, own_kafka: EmbeddedKafka
) -> None:
    here, telemetry = make_settings(kafka=own_kafka.bootstrap, partitions=1, request_deadline_s=DEADLINE_S), Telemetry()
    async with publisher(here, telemetry) as running:
        await until_connected(running)
        await running.publish([chunk("a", 1)])
        with frozen(own_kafka):
            late = await refusal(running, chunk("a", 2))
            assert (late.reason, MAYBE_KEPT in str(late)) == ("deadline", True)
            await until(lambda: running.problem() is not None, PATIENCE * DEADLINE_S + 5)
            quick = await refusal(running, chunk("a", 3))
            assert (quick.reason, NOTHING_KEPT in str(quick)) == ("kafka", True)
            assert telemetry.registry.get_sample_value("metrics_app_pending_bytes") == 0
        await until_connected(running)
        await running.publish([chunk("a", 4)])
        found = await values_of(here, "a")
    assert [value for value in found if value != 2] == [1, 4]


async def test_an_abandoned_producer_fails_what_it_holds_at_once_and_leaves_no_task(
    make_settings: MakeSettings, own_kafka: EmbeddedKafka
) -> None:
    here = make_settings(kafka=own_kafka.bootstrap, partitions=2)
    await topics.ensure(here)
    tasks = asyncio.all_tasks()
    producer = connections.producer(here)
    await producer.start()
    await producer.send_and_wait(here.samples_topic, b"x", partition=0)
    with frozen(own_kafka):
        held = [await producer.send(here.samples_topic, b"x", partition=partition) for partition in (0, 1, 0)]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(1):
            await abandon(producer)
        outcomes = await asyncio.gather(*held, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [KafkaConnectionError] * 3
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks


async def test_waiting_samples_are_bounded_and_their_memory_comes_back(
    make_settings: MakeSettings, own_kafka: EmbeddedKafka
) -> None:
    here = make_settings(
        kafka=own_kafka.bootstrap, partitions=1, request_deadline_s=DEADLINE_S, max_pending_bytes=1 << 20
    )
    telemetry = Telemetry()
    async with publisher(here, telemetry) as running:
        await until_connected(running)
        await running.publish([chunk("a", 1)])
        with frozen(own_kafka):
            requests = [asyncio.create_task(running.publish([chunk("b", *range(10_000))])) for _ in range(20)]
            await asyncio.sleep(0.2)
            refused = [task for task in requests if task.done()]
            pending = telemetry.registry.get_sample_value("metrics_app_pending_bytes") or 0
            assert len(refused) == 7
            assert (1 << 20) - 81_000 < pending <= 1 << 20
            outcomes = await asyncio.gather(*requests, return_exceptions=True)
        assert {getattr(outcome, "reason", "") for outcome in outcomes} == {"memory", "deadline"}
        await until(lambda: telemetry.registry.get_sample_value("metrics_app_pending_bytes") == 0)
        await until_connected(running)
        await running.publish([chunk("c", 1)])
        assert await values_of(here, "c") == [1]


async def test_a_request_given_up_before_its_record_left_is_never_stored(settings: MakeSettings) -> None:
    here = settings(partitions=1, linger_ms=300)
    async with publisher(here) as running:
        await until_connected(running)
        task = asyncio.create_task(running.publish([chunk("gone", 1)]))
        await asyncio.sleep(0.05)
        task.cancel()
        await running.publish([chunk("here", 1)])
        assert (await values_of(here, "gone"), await values_of(here, "here")) == ([], [1])


async def test_a_producer_that_failed_for_good_is_replaced(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap in the sequence numbers is what a batch that failed for good leaves behind."""
    made, new = [], connections.producer

    def noted(*args: Any, **options: Any) -> Any:
        made.append(new(*args, **options))
        return made[-1]

    monkeypatch.setattr(connections, "producer", noted)
    here = settings(partitions=1)
    async with publisher(here) as running:
        await until_connected(running)
        await running.publish([chunk("a", 1)])
        made[-1]._txn_manager.increment_sequence_number(TopicPartition(here.samples_topic, 0), 100)
        assert MAYBE_KEPT in str(await refusal(running, chunk("a", 2)))
        await until_connected(running)
        assert len(made) == 2
        await running.publish([chunk("a", 3)])
        assert await values_of(here, "a") == [1, 3]


async def test_a_stop_sends_what_is_queued_and_refuses_the_rest(settings: MakeSettings) -> None:
    here = settings(partitions=1, linger_ms=200)
    running = Publisher(here, Telemetry())
    await running.start()
    await until_connected(running)
    queued = asyncio.create_task(running.publish([chunk("a", 1)]))
    await asyncio.sleep(0.02)
    stopping = asyncio.create_task(running.stop())
    await asyncio.sleep(0.02)
    late = await refusal(running, chunk("a", 2))
    assert (late.reason, NOTHING_KEPT in str(late)) == ("stopping", True)
    await queued
    await stopping
    assert await values_of(here, "a") == [1]


async def test_a_stop_does_not_wait_for_a_kafka_that_is_away(
    make_settings: MakeSettings, own_kafka: EmbeddedKafka
) -> None:
    here = make_settings(kafka=own_kafka.bootstrap, partitions=1, request_deadline_s=DEADLINE_S)
    running = Publisher(here, Telemetry())
    await running.start()
    await until_connected(running)
    with frozen(own_kafka):
        request = asyncio.create_task(refusal(running, chunk("a", 1)))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(DEADLINE_S + 5):
            await running.stop()
        assert MAYBE_KEPT in str(await request)


async def test_the_whole_way_answers_202_after_the_ack(settings: MakeSettings) -> None:
    here = settings(partitions=2)
    async with publisher(here) as running, collector(here, running) as listening:
        await until_connected(running)
        reply = await listening.post(b'[["a",1],["b",2],["a",-1]]')
        assert (reply.status, reply.json["accepted"]) == (202, 2)
        assert await values_of(here, "a") == [1]
        assert listening.counts() == {"received": 3, "accepted": 2, "rejected": 1, "refused": 0}


@pytest.mark.parametrize("off_s", [-40 * 86_400, -7200, 7200, 40 * 86_400])
async def test_a_collector_that_does_not_know_the_hour_takes_nothing_until_it_does(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, off_s: float
) -> None:
    """Also not the very first request; and what is set right is seen without one."""
    own = SimpleNamespace(off_s=off_s)
    clock = SimpleNamespace(time=lambda: time.time() + own.off_s, monotonic=time.monotonic)
    monkeypatch.setattr(clocks, "time", clock)
    here, telemetry = settings(partitions=2), Telemetry()
    async with publisher(here, telemetry) as running:
        await until_connected(running)
        with pytest.raises(OverloadedError, match="clock of this machine") as refused:
            await running.publish([chunk("k", 1.0)])
        assert refused.value.reason == "clock"
        assert "more than the 10 s" in str(running.clocks.warning())
        own.off_s = 0.0
        await running.publish([chunk("k", 1.0)])
    assert sum(len(records) for records in (await stored(here)).values()) == 1


async def test_large_requests_leave_room_for_small_ones(make_settings: MakeSettings, own_kafka: EmbeddedKafka) -> None:
    here = make_settings(kafka=own_kafka.bootstrap, partitions=1, request_deadline_s=DEADLINE_S, max_pending_rows=1_000)
    many = [chunk(f"many-{number}", 1) for number in range(600)]
    async with publisher(here) as running:
        await until_connected(running)
        with frozen(own_kafka):
            first = asyncio.create_task(running.publish(many))
            await asyncio.sleep(0.1)
            refused = await refusal(running, *many)
            assert (refused.reason, "over 900 rows" in str(refused)) == ("rows", True)
            small = asyncio.create_task(running.publish([chunk("small", 1)]))
            await asyncio.sleep(0.1)
            assert not small.done(), "it waits for Kafka, as every request does"
        await small
        await asyncio.gather(first, return_exceptions=True)
        assert await values_of(here, "small") == [1]


async def test_one_request_may_have_more_rows_than_may_wait(settings: MakeSettings) -> None:
    """Otherwise nobody could ever send it."""
    here = settings(partitions=2, max_pending_rows=1_000)
    many = [chunk(f"many-{number}", 1) for number in range(2_000)]
    async with publisher(here) as running:
        await until_connected(running)
        await running.publish(many)
        assert await values_of(here, "many-1999") == [1]
