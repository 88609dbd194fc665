"""What a flush sends to the changelog, on a real Kafka."""

from __future__ import annotations

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fencing import changelog_reader
from metrics_app.aggregator.flusher import Flusher
from metrics_app.aggregator.fold import HOUR_MS, FoldLimits
from metrics_app.aggregator.partitions import Partitions
from metrics_app.kafka import connections, reaching, topics
from metrics_app.settings import Settings
from metrics_app.telemetry import Telemetry
from metrics_app.wire.chunk import Chunk

pytestmark = pytest.mark.kafka

BATCH_BYTES = 1024
HOUR = 498_740


@pytest.fixture
def here(settings):
    """Settings with batches that hold a few rows."""
    return settings(partitions=4, max_record_bytes=BATCH_BYTES)


@pytest.fixture
async def flusher(table, here):
    await reaching.wait(here, print)
    await topics.ensure(here)
    table.changelog_topic.topics = [here.changelog_topic]
    flusher = Flusher(
        table,
        Partitions(table, FoldLimits()),
        Telemetry(),
        1.0,
        8.0,
        lambda: connections.producer(here),
        changelog_reader(here),
    )
    yield flusher
    await flusher.stop()


async def written(settings: Settings, partition: int, count: int) -> list[tuple[int, bytes, bytes]]:
    """Offset, key and value of the records of a changelog partition."""
    tp = TopicPartition(settings.changelog_topic, partition)
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka, auto_offset_reset="earliest") as consumer:
        consumer.assign([tp])
        found: list[tuple[int, bytes, bytes]] = []
        while len(found) < count:
            batches = await consumer.getmany(tp, timeout_ms=5000)
            assert batches, f"only {len(found)} of {count} records"
            found += [(record.offset, record.key, record.value) for record in batches[tp]]
        return found


def fold(flusher: Flusher, partition: int, offset: int, values: dict[bytes, int]) -> None:
    """Folds a record with so many different values of each key."""
    chunks = [Chunk(key, HOUR, np.arange(float(count)).tobytes()) for key, count in values.items()]
    flusher.partitions.of(partition).fold.apply(offset, HOUR * HOUR_MS, chunks)


async def test_the_offsets_of_a_flush_are_those_its_rows_have_in_the_changelog(flusher, here):
    """Also over several batches, and with a row larger than a batch: the local copy claims just what was sent."""
    flusher.partitions.assign({0, 2})
    few = {b"key-%d" % n: 1 + n % 3 for n in range(40)}
    fold(flusher, 0, 0, few | {b"large": 500})
    fold(flusher, 2, 0, {b"key": 1})
    await flusher.flush()
    store, large = flusher.table.store, rows.hour_key(HOUR, b"large")
    assert [store.persisted_offset(flusher.table.changelog_tp(partition)) for partition in (0, 2)] == [41, 1]
    fold(flusher, 0, 1, {b"key-1": 1, b"key-2": 1})
    await flusher.flush()
    assert store.persisted_offset(flusher.table.changelog_tp(0)) == 44
    found = await written(here, 0, 45)
    assert [offset for offset, _, _ in found] == list(range(45))
    assert max(len(value) for _, _, value in found) > BATCH_BYTES
    newest = {key: value for _, key, value in found}
    assert len(newest) == 42
    assert large in newest
    assert newest == {key: store.read(0, key) for key in newest}


async def test_what_others_wrote_between_our_records_is_read_and_no_more(flusher, here):
    flusher.partitions.assign({0})
    fold(flusher, 0, 0, {b"key-%d" % n: 1 for n in range(10)})
    await flusher.flush()
    found = await written(here, 0, 11)
    tp = flusher.table.changelog_tp(0)
    assert await flusher.read_changelog(tp, 3, 6) == [(key, value) for _, key, value in found[3:6]]
