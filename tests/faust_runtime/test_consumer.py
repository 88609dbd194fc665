"""Samples travel through Faust in runs, and what is committed follows the place; on a real Kafka where that matters."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from metrics_app.app import create_app
from metrics_app.configuration import load
from metrics_app.faust_runtime.consumer import FETCH_WAIT_MS, RUN_BYTES, RunConsumer, runs
from metrics_app.kafka import connections
from metrics_app.settings import Settings
from metrics_app.wire import record as wire
from metrics_app.wire.chunk import Chunk
from tests.conftest import MakeSettings
from tests.faults.installation import Installation, eventually

KEYS = (b"k", b"d")  # those of partitions 0 and 1, of four


def record(offset: int, size: int) -> Any:
    return ConsumerRecord("samples", 1, offset, 1_700_000_000_000, 1, None, bytes(size), None, -1, size, ())


def offsets(found: list[Any]) -> list[list[int]]:
    return [[each.offset for each in run.value] for run in found]


@pytest.mark.kafka
async def test_no_partition_waits_long_for_others_that_have_nothing_new(settings: MakeSettings):
    app = create_app(settings(), "aggregator")
    consumer = cast(RunConsumer, app.consumer)._new_consumer_thread()._create_worker_consumer(app.transport)
    await consumer.start()
    try:
        assert consumer._fetcher._fetch_max_wait_ms == FETCH_WAIT_MS
    finally:
        await consumer.stop()


async def test_a_worker_that_ends_before_it_is_connected_has_nothing_to_commit():
    consumer = cast(RunConsumer, create_app(load(), "aggregator").consumer)
    await consumer.commit_and_end_transactions()


def test_records_of_a_fetch_make_one_run_that_is_named_after_the_first():
    found = runs([record(offset, 100) for offset in range(5, 9)])
    assert offsets(found) == [[5, 6, 7, 8]]
    assert (found[0].topic, found[0].partition, found[0].offset) == ("samples", 1, 5)


def test_a_run_is_no_larger_than_its_bound_but_has_at_least_one_record():
    half = RUN_BYTES // 2
    found = runs([record(0, half), record(1, half), record(2, 1), record(3, 3 * RUN_BYTES), record(4, half)])
    assert offsets(found) == [[0, 1], [2], [3], [4]]
    assert runs([]) == []


def test_records_without_a_value_are_in_a_run_too():
    """They are put aside, and so must be seen."""
    empty = record(0, 0)
    empty.value = None
    assert offsets(runs([empty, record(1, 1)]))[0][0] == 0


@pytest.mark.kafka
async def test_what_is_committed_reaches_the_end_of_the_topic(tmp_path):
    """Whoever watches the lag of the group sees none once everything is durable; a backlog is folded in runs."""
    with Installation(tmp_path, {"c": "collector"}) as installation:
        here = Settings(_env_file=None, kafka=f"127.0.0.1:{installation.kafka.port}")  # type: ignore[call-arg]
        async with connections.producer(here) as producer:
            for offset in range(500):
                await producer.send(here.samples_topic, packed(KEYS[offset % 2], offset), partition=offset % 2)
        installation.add("a", "aggregator")
        await asyncio.to_thread(installation.restart, "a")
        await eventually(lambda: installation.count("metrics_app_folded_values_total") == 500, 60)
        tps = [TopicPartition(here.samples_topic, partition) for partition in range(2)]
        async with AIOKafkaConsumer(bootstrap_servers=here.kafka, group_id=here.aggregator_id) as group:
            for _ in range(100):
                committed = [await group.committed(tp) for tp in tps]
                if committed == [250, 250]:
                    break
                await asyncio.sleep(0.1)
        assert committed == [250, 250]


def packed(key: bytes, value: float) -> bytes:
    return wire.encode([Chunk(key, int(time.time() // 3600), struct.pack("<d", value))])
