"""After a seek, Faust's consumer hands on the record that was sought, though later records are still on their way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.transport.consumer import Fetcher
from faust.types import TP

from metrics_app.app import create_app
from metrics_app.configuration import load
from metrics_app.faust_runtime.consumer import RunConsumer

SAMPLES = TP("samples", 0)
Step = int | Callable[[], Any]


@pytest.fixture
async def consumer(monkeypatch: pytest.MonkeyPatch) -> RunConsumer:
    """Faust's own consumer and loop; only Kafka is missing below it."""
    found = cast(RunConsumer, create_app(load(), "aggregator").consumer)

    async def nothing(*_: Any) -> None:
        pass

    monkeypatch.setattr(found, "_seek", nothing)
    return found


async def handed_on(consumer: RunConsumer, *steps: Step) -> list[int]:
    """What Faust hands on of these offsets as they are fetched; a step that is called happens between two of them."""
    handed: list[int] = []
    fetcher = Fetcher(consumer.app)

    async def callback(message: Any) -> None:
        handed.append(message.offset)

    async def fetched(timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109  as in Faust
        for step in steps:
            if callable(step):
                await step()
            else:
                yield SAMPLES, SimpleNamespace(topic="samples", partition=0, offset=step, key=None, value=None)
        fetcher._stopped.set()

    consumer.callback = callback
    setattr(consumer, "getmany", fetched)  # noqa: B010  # mypy knows it for a method
    async with asyncio.timeout(10):
        await consumer._drain_messages(fetcher)
    return handed


def to(consumer: RunConsumer, offset: int) -> Step:
    return lambda: consumer.deliver_from(SAMPLES, offset)


async def test_the_sought_record_comes_though_one_fetched_before_came_first(consumer):
    steps = [5, 9, to(consumer, 6), 10, 11, to(consumer, 6), 12, 6, 7, 8]
    assert await handed_on(consumer, *steps) == [5, 9, 10, 11, 12, 6, 7, 8]


async def test_faust_alone_drops_the_record_that_was_sought(consumer):
    """The trap: on the day this fails, `ReadOffsets` may be deleted."""
    steps: list[Step] = [5, 9, lambda: consumer.seek(SAMPLES, 6), 10, 6, 7]
    assert await handed_on(consumer, *steps) == [5, 9, 10]


async def test_once_it_has_come_what_comes_twice_is_dropped_as_before(consumer):
    assert await handed_on(consumer, 1, to(consumer, 0), 0, 1, 0, 1, 2) == [1, 0, 1, 1, 2]


async def test_a_partition_that_moves_takes_its_note_along(consumer):
    async def moves() -> None:
        consumer._read_offset.pop(SAMPLES, None)

    assert await handed_on(consumer, 5, to(consumer, 3), moves, 7, 6) == [5, 7]
