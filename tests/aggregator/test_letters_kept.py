"""What the flusher does with a Kafka that refuses, and with what it has not asked for; the producer is faked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from metrics_app.aggregator import flusher as module
from metrics_app.aggregator.flusher import Flusher
from metrics_app.aggregator.fold import FoldLimits
from metrics_app.aggregator.partitions import Partitions
from metrics_app.telemetry import Telemetry

HEADERS = [("reason", b"garbage")]


class Producer:
    """Takes what is not too large, unless Kafka is away."""

    kept: list[tuple[bytes, dict[str, bytes]]]

    def __init__(self, most_bytes: int = 1000) -> None:
        self.most_bytes = most_bytes
        self.kept = []
        self.is_away = False
        self.starts = 0

    async def start(self) -> None:
        self.starts += 1
        await asyncio.sleep(0.01)
        if self.is_away:
            raise KafkaConnectionError("away")

    async def send_and_wait(self, _topic: str, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        if len(value) > self.most_bytes:
            raise MessageSizeTooLargeError("too large")
        self.kept.append((value, dict(headers)))


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> Producer:
    async def abandon(_producer: Any) -> None:
        pass

    monkeypatch.setattr("metrics_app.aggregator.flusher.abandon", abandon)
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    return Producer()


async def nothing_between(*_: Any) -> list[tuple[bytes, bytes]]:
    return []


@pytest.fixture
def flusher(table: Any, producer: Any) -> Flusher:
    return Flusher(table, Partitions(table, FoldLimits()), Telemetry(), 1.0, 8.0, lambda: producer, nothing_between)


async def test_a_letter_that_is_too_large_for_its_topic_is_kept_without_the_record_and_says_so(
    flusher: Flusher, producer: Producer
) -> None:
    """Else the partition would stand still for ever; the record itself stays in the samples topic for its retention."""
    await asyncio.wait_for(flusher.dead_letter("dead", b"x" * 1001, HEADERS), 5)
    assert producer.kept == [(b"", {"reason": b"garbage", "left-out": b"1001"})]


async def test_a_letter_counts_as_kept_only_when_it_is_also_while_the_worker_stops(
    flusher: Flusher, producer: Producer
) -> None:
    """Else the flush at the end would pass the record over, and nobody would ever see it again."""
    producer.is_away = True
    letter = asyncio.create_task(flusher.dead_letter("dead", b"x", HEADERS))
    await asyncio.sleep(0.05)
    await flusher.stop()
    await asyncio.sleep(0.05)
    assert not letter.done()
    letter.cancel()


async def test_two_letters_at_the_same_time_make_one_producer(flusher: Flusher, producer: Producer) -> None:
    await asyncio.gather(*(flusher.dead_letter("dead", each, HEADERS) for each in (b"x", b"y")))
    assert (producer.starts, len(producer.kept)) == (1, 2)
