"""What a flush sends to the changelog, on a real Kafka."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from metrics_app.aggregator.fencing import Acknowledged, Records, changelog_reader
from metrics_app.aggregator.flusher import Flusher
from metrics_app.aggregator.fold import FoldLimits
from metrics_app.aggregator.partitions import Partitions
from metrics_app.kafka import connections, topics
from metrics_app.settings import Settings
from metrics_app.telemetry import Telemetry

pytestmark = pytest.mark.kafka

BATCH_BYTES = 1024


@pytest.fixture
def here(settings):
    """Settings with batches that hold a few rows."""
    return settings(partitions=4, max_record_bytes=BATCH_BYTES)


@pytest.fixture
async def flusher(table, here):
    await topics.wait(here, print)
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
    await flusher._drop_producer()


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


def offsets(spans: list[Acknowledged]) -> list[int]:
    return [offset for span in spans for offset in range(span.first, span.first + span.records)]


async def test_the_offsets_of_a_flush_are_those_its_rows_have_in_the_changelog(flusher, here):
    """Also over several batches, and with a row larger than a batch."""
    rows: Records = [(b"key-%d" % n, b"%d" % n * 50) for n in range(40)]
    rows[7] = (b"large", bytes(3 * BATCH_BYTES))
    producer = await flusher._connected()
    first = await flusher._send(producer, {0: rows, 2: rows[:1], 3: []})
    again = await flusher._send(producer, {0: rows[:2]})
    assert len(first[0]) > 3
    assert offsets(first[0] + again[0]) == list(range(42))
    assert (offsets(first[2]), first[3]) == ([0], [])
    found = await written(here, 0, 42)
    assert found == [(offset, key, value) for offset, (key, value) in enumerate(rows + rows[:2])]


async def test_what_others_wrote_between_our_records_is_read_and_no_more(flusher, here):
    producer = await flusher._connected()
    await flusher._send(producer, {0: [(b"key-%d" % n, b"%d" % n) for n in range(10)]})
    tp = flusher.table.changelog_tp(0)
    assert await flusher.read_changelog(tp, 3, 6) == [(b"key-%d" % n, b"%d" % n) for n in (3, 4, 5)]
