"""A reader of Kafka ends whenever it is stopped, also just after its assignment has changed."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from metrics_app.kafka import connections, topics
from metrics_app.settings import Settings
from tests.conftest import MakeSettings

pytestmark = pytest.mark.kafka

PARTITIONS = 8
TURNS = 8
PATIENCE_S = 10.0


async def stopped_after_assignments(here: Settings, consumer: AIOKafkaConsumer, turns: int) -> bool:
    """Whether it ends that gets another partition while it fetches, and is stopped so many turns of the loop later."""
    await consumer.start()
    for partition in range(PARTITIONS):
        consumer.assign([TopicPartition(here.samples_topic, partition)])
        await consumer.getmany(timeout_ms=20)
        await asyncio.sleep(0.01)  # the next fetch is under way, and lasts
    consumer.assign([TopicPartition(here.samples_topic, 0)])
    for _ in range(turns):
        await asyncio.sleep(0)
    stopping = asyncio.ensure_future(consumer.stop())
    done, _ = await asyncio.wait({stopping}, timeout=PATIENCE_S)
    if not done:
        stopping.cancel()  # goes on to close its connections
        await asyncio.wait({stopping})
    return bool(done)


async def filled(here: Settings) -> None:
    await topics.ensure(here)
    async with connections.producer(here) as producer:
        for partition in range(PARTITIONS):
            await producer.send_and_wait(here.samples_topic, b"x", partition=partition)


async def test_a_reader_ends_that_is_stopped_just_after_an_assignment(settings: MakeSettings) -> None:
    here = settings(partitions=PARTITIONS)
    await filled(here)
    for turns in range(TURNS):
        assert await stopped_after_assignments(here, connections.reader(here), turns)


async def test_a_reader_that_never_had_an_assignment_and_one_that_is_stopped_twice_end(settings: MakeSettings) -> None:
    here = settings(partitions=PARTITIONS)
    await filled(here)
    reader = connections.reader(here)
    await reader.start()
    for _ in range(2):
        await asyncio.wait_for(reader.stop(), PATIENCE_S)
    await asyncio.wait_for(connections.reader(here).stop(), PATIENCE_S)


async def test_the_trap_is_there(settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails after an upgrade of aiokafka, `faust_runtime.ending` may go."""
    here = settings(partitions=PARTITIONS)
    await filled(here)
    monkeypatch.setattr("metrics_app.faust_runtime.ending.certain", lambda consumer: consumer)
    monkeypatch.setattr("tests.faust_runtime.test_ending.PATIENCE_S", 1.0)
    ended = [await stopped_after_assignments(here, connections.reader(here), turns) for turns in range(TURNS)]
    assert not all(ended)
