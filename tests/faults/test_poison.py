"""Records in the samples topic that nobody can fold: put aside with their origin, and their neighbours count."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk
from tests.faults.installation import Installation, assert_exact, assert_none_failed, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

GOOD = record.encode([Chunk(b"never", 498_740, b"\0" * 8)])
POISON: list[bytes | None] = [
    b"\x80garbage",
    None,
    b"",
    pickle.dumps({"key": "never", "value": 1}),
    b"\0" * 900_000,
    b"\0" * 1_500_000,  # larger than what the dead-letter topic takes: its letter is without it
    GOOD[:2] + b"\x63" + GOOD[3:],  # version 99
    GOOD[:-1] + bytes([GOOD[-1] ^ 1]),  # one bit turned
]
FOLDED, DEAD = "metrics_app_folded_values_total", "metrics_app_dead_lettered_records_total"


async def test_poison_between_good_records_is_put_aside_and_the_others_count(tmp_path: Path):
    sent: set[tuple[int, int]] = set()

    async def poison(installation: Installation) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=installation.kafka.bootstrap, max_request_size=2 << 20)
        async with producer:
            for turn, value in enumerate(POISON):
                await installation.grows(FOLDED, by=1000, within_s=10)
                metadata = await producer.send_and_wait("samples", value, key=b"poison", partition=turn % 4)
                sent.add((metadata.partition, metadata.offset))
        await installation.grows(FOLDED, by=10_000, within_s=20)
        await eventually(lambda: installation.count(DEAD) == len(POISON), 10)
        await installation.fresh()

    with Installation(tmp_path, {"a": "all", "b": "all"}) as installation:
        run = await installation.under_load(poison, installation.plan())
        assert_exact(run)
        assert_none_failed(run)
        assert [worker.starts for worker in installation.workers.values()] == [1, 1], "nobody ended over it"
        letters = await dead_letters(installation, len(POISON))
        assert {(partition, offset) for partition, offset, _ in letters} == sent
        print(sorted(reason for _, _, reason in letters))
        assert all(reason for _, _, reason in letters)


async def dead_letters(installation: Installation, count: int) -> list[tuple[int, int, str]]:
    """(partition, offset, reason) that the letters name as their origin."""
    consumer = AIOKafkaConsumer(bootstrap_servers=installation.kafka.bootstrap, auto_offset_reset="earliest")
    found: list[tuple[int, int, str]] = []
    async with consumer:
        consumer.subscribe(["samples-dead-letters"])
        async with asyncio.timeout(20):
            while len(found) < count:
                letter = await consumer.getone()
                of = {name: value.decode() for name, value in letter.headers}
                found.append((int(of["partition"]), int(of["offset"]), of["reason"]))
    return found
