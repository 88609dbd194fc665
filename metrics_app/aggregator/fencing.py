"""What lies in the changelog between our own records: read, so that nothing newer is missed and nothing older is last.

A worker that was presumed dead may write behind its successor (docs/adr/0004), and a flush that was not acknowledged
may have arrived. The owner sees it by the offsets its next flush gets. It then reads what came between: a row whose
last record there is an older state is written once more, for compaction keeps what is last. The local copy may claim
the offset once the owner's place has passed the newest state read: that state then holds nothing the copy has not got.

Writes the rows of an hour to the changelog once more after it has closed (docs/adr/0004).

A worker that was presumed dead may have written an older state of a row behind the newer one. Reading compares stamps
and is not misled; compaction, which keeps what was written last, would be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import TopicPartition
from faust.types import TP

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.changelog import OLDEST
from metrics_app.aggregator.fold import HOUR_MS, PartitionFold
from metrics_app.aggregator.row import Version
from metrics_app.aggregator.store import HourStore
from metrics_app.kafka import connections
from metrics_app.settings import Settings

if TYPE_CHECKING:
    from metrics_app.aggregator.partitions import Active

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
        consumer = connections.reader(settings)
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


GRACE_MS = 60_000  # of the log's clock: longer than any flush that may still be under way
MOST_ROWS = 5000  # a flush, over all partitions
MOST_BYTES = 4 << 20  # a flush and partition


class Slice(NamedTuple):
    """Rows to write again.

    Attributes:
        go_on_from: row key of the next slice; None when every closed hour is done.
        sealed: first hour not sealed once these are written.
    """

    rows: list[tuple[bytes, bytes]]
    go_on_from: bytes | None
    sealed: int


def closed_before(fold: PartitionFold) -> int:
    """The hour before which all have closed, by the clock of the log."""
    return (fold.clock.confirmed_ms - GRACE_MS) // HOUR_MS


def sealed_before(fold: PartitionFold) -> int:
    """The first hour not sealed: none is that has not closed, should the clock have been set back."""
    return min(fold.place.sealed, max(0, closed_before(fold)))


def is_due(active: Active) -> bool:
    """Whether an hour has closed that is not sealed."""
    return closed_before(active.fold) > sealed_before(active.fold)


def next_slice(store: HourStore, partition: int, active: Active, most_rows: int) -> Slice:
    """The next rows to write again, as the store has them: all they hold is durable."""
    sealed, hour = sealed_before(active.fold), closed_before(active.fold)
    if not is_due(active) or most_rows <= 0:
        return Slice([], active.seal_from, sealed)
    start = active.seal_from or rows.hour_key(sealed, b"")
    found = store.scan(partition, start, rows.hour_key(hour, b""), most_rows, MOST_BYTES)
    if len(found) == most_rows or sum(len(value) for _, value in found) >= MOST_BYTES:
        return Slice(found, found[-1][0] + b"\0", sealed)
    return Slice(found, None, hour)
