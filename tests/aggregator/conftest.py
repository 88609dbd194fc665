from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import faust
import pytest
from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from metrics_app.aggregator.active import ActivePartition
from metrics_app.aggregator.fencing import Fence
from metrics_app.aggregator.flusher import Flusher
from metrics_app.aggregator.fold import PartitionFold
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.table import HourlyTable, new_table
from metrics_app.telemetry import Telemetry
from tests.sim.link import Link


def active_of(fold: PartitionFold) -> ActivePartition:
    """Partition 1 with this fold, for a test in which nothing is written."""
    return ActivePartition(1, fold, Fence(cast(Any, None), TP("changelog", 1)))


class Changelog:
    """Takes what flushers send, and gives it back; one partition of it is used.

    Attributes:
        records: keys and values, by offset.
        link: the way there: "down" refuses all.
        is_away: whether it cannot be read.
        read: from which offset to which it was read.
    """

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes]] = []
        self.link = Link(self._append, time.time)
        self.is_away = False
        self.read: list[tuple[int, int]] = []

    def _append(self, _topic: str, _partition: int, key: bytes, value: bytes) -> int:
        self.records.append((key, value))
        return len(self.records) - 1

    async def between(self, _tp: TP, start: int, stop: int) -> list[tuple[bytes, bytes]]:
        if self.is_away:
            raise KafkaConnectionError("away")
        self.read.append((start, stop))
        return self.records[start:stop]


def flusher_of(partitions: Partitions, changelog: Changelog | None = None) -> Flusher:
    """A flusher to that changelog, None: one of its own, which does not end the process of the test."""
    to = changelog or Changelog()

    def give_up(why: str) -> NoReturn:
        raise AssertionError(why)

    producer: Any = to.link.producer
    return Flusher(partitions.table, partitions, Telemetry(), 1.0, 8.0, producer, to.between, give_up)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[HourlyTable]:
    """A table on a real RocksDB, of an app that is never started."""
    app = faust.App("table-test", broker="kafka://127.0.0.1:1", datadir=str(tmp_path), autodiscover=False)
    table = new_table(app, partitions=4)
    yield table
    table.store.revoke_partitions(table, {table.changelog_tp(partition) for partition in range(4)})
