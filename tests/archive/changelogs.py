"""Changelogs on a real Kafka, of rows whose values are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.row import Checkpoint, Row
from metrics_app.kafka import connections, topics
from metrics_app.settings import Settings
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.partition import partition_of

HOUR = 490_000
Records = list[tuple[bytes, bytes]]


def row_of(values: Iterable[float], stamp: int = 1, late: int = 0) -> bytes:
    one = Row(HourlySummary(), stamp=stamp, late=late)
    one.summary.add(np.array(list(values), float))
    return rows.encode_row(one)


def sealed(before: int, offset: int = 100) -> tuple[bytes, bytes]:
    """A checkpoint that says that all hours before one are sealed."""
    checkpoint = Checkpoint(0, offset, as_of=before * 3600.0, sealed=before)
    return rows.CHECKPOINT_KEY, rows.encode_checkpoint(checkpoint)


def written(states: Mapping[tuple[str, int], bytes]) -> Records:
    return [(rows.hour_key(hour, key.encode()), value) for (key, hour), value in states.items()]


async def append(here: Settings, records: Records, upto: int | None = None, offset: int = 100) -> None:
    """Appends rows to the partitions of their keys, and behind them, in each partition, a checkpoint."""
    await topics.ensure(here)
    async with connections.producer(here) as producer:
        for row_key, value in records:
            partition = partition_of(rows.split_hour_key(row_key)[1], here.partitions)
            await producer.send(here.changelog_topic, value, row_key, partition=partition)
        await producer.flush()
        if upto is not None:
            for partition in range(here.partitions):
                key, value = sealed(upto, offset)
                await producer.send_and_wait(here.changelog_topic, value, key, partition=partition)
