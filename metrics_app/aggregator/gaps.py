"""What lies in the changelog between our own records: read, so that nothing newer is missed and nothing older is last.

A worker that was presumed dead may write behind its successor (docs/adr/0004), and a flush that was not acknowledged
may have arrived. The owner sees it by the offsets its next flush gets. It then reads what came between: a row whose
last record there is an older state is written once more, for compaction keeps what is last. The local copy may claim
the offset once the owner's place has passed the newest state read: that state then holds nothing the copy has not got.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka import TopicPartition
from faust.types import TP

from metrics_app.aggregator.changelog import OLDEST
from metrics_app.aggregator.row import Version
from metrics_app.aggregator.store import HourStore
from metrics_app.broker import client
from metrics_app.settings import Settings

READ_S = 2.0
POLL_MS = 200

Records = list[tuple[bytes, bytes]]
ReadChangelog = Callable[[TP, int, int], Awaitable[Records]]


class Span(NamedTuple):
    """Records of ours, acknowledged together.

    Attributes:
        first: offset of the first.
        records: how many.
        appended_ms: log-append time.
    """

    first: int
    records: int
    appended_ms: int

    @property
    def stop(self) -> int:
        """The offset after the last."""
        return self.first + self.records


@dataclass(slots=True)
class Gap:
    """A stretch of the changelog that was not all written by us.

    Attributes:
        start: first offset not read yet.
        stop: the one after our last record.
        stop_ms: when that was appended.
        newest: the highest version read in it.
        not_before: monotonic time before which it is not read; a Kafka that was slow is left alone for a while.
    """

    start: int
    stop: int
    stop_ms: int = 0
    newest: Version = OLDEST
    not_before: float = 0.0

    def take(self, store: HourStore, partition: int, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Notes what was read from `start` to `stop`."""
        self.newest = max([self.newest, *(store.compare(partition, *record) for record in records)])
        self.start = self.stop


def changelog_reader(settings: Settings) -> ReadChangelog:
    """Reads the records of a changelog partition from an offset to before another, by a connection of its own.

    Raises, when called: KafkaError, TimeoutError, OSError.
    """

    async def read(tp: TP, start: int, stop: int) -> Records:
        source = TopicPartition(tp.topic, tp.partition)
        found: Records = []
        consumer = client.reader(settings)
        try:
            async with asyncio.timeout(READ_S):
                await consumer.start()
                consumer.assign([source])
                consumer.seek(source, start)
                while await consumer.position(source) < stop:
                    for batch in (await consumer.getmany(source, timeout_ms=POLL_MS)).values():
                        found += [(record.key, record.value) for record in batch if record.offset < stop]
        finally:
            await consumer.stop()  # also one whose start was cut short, or it would live on
        return found

    return read
