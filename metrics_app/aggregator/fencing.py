"""Keeps a zombie's writes from winning: a worker that has lost its partition, does not know it, and still writes.

Called by `flusher`, once for each flush, through the fence of each partition that this worker owns.

The story. Worker A hangs (SIGSTOP, a machine that swaps, a cut network) for longer than the session timeout. The group
gives its partition to B. A wakes up, and the rows of one flush that it had handed to its producer may still reach the
changelog, behind newer rows of B. The same happens to a worker whose own flush was not acknowledged and arrived anyway.
Kafka does not fence such a write (docs/adr/0004 says why transactions are no way out).

Why the answer is right all the same:

1. A version decides, not the order of writing. A row carries the offset up to which it is complete, and whoever reads
   the changelog keeps the row with the higher version. While both records exist, A's has no effect.
2. Compaction keeps what was written last, which may be A's. So B has to write its row once more:
   - B sees by the offsets its own flush gets that somebody else has written in between, a gap. It reads the gap, and
     each row whose newest record there is older than its own is overwritten: B repeats it with the next flush.
   - When an hour has closed, B seals it: every row of it is repeated once, whether a gap was seen or not.
3. The local copy claims a changelog offset only when everything up to it is B's own, or was read and is not newer than
   B's checkpoint. Otherwise this copy, as the standby of a later owner, would miss a newer row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka import TopicPartition
from faust.types import TP

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.changelog import OLDEST
from metrics_app.aggregator.fold import HOUR_MS, PartitionFold
from metrics_app.aggregator.origin import Reached
from metrics_app.aggregator.row import Version
from metrics_app.aggregator.store import HourStore
from metrics_app.kafka import connections
from metrics_app.settings import Settings

GRACE_MS = 60_000  # of the log's clock: longer than any flush that may still be under way
MOST_ROWS = 5000  # repeated by one flush, over all partitions
MOST_BYTES = 4 << 20  # repeated by one flush of one partition, to seal an hour
READ_AGAIN_S = 10.0  # delay before an unreadable gap is read again; flushing goes on meanwhile
READ_S = 2.0
POLL_MS = 200

Records = list[tuple[bytes, bytes]]
ReadChangelog = Callable[[TP, int, int], Awaitable[Records]]


class Acknowledged(NamedTuple):
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


class Repeat(NamedTuple):
    """Rows to write once more, as they are stored: all they hold is durable.

    Attributes:
        seal_from: row key from which sealing goes on after them; None when every closed hour is sealed.
        sealed: first hour that is not sealed once they are written.
    """

    rows: Records
    seal_from: bytes | None
    sealed: int


class DistrustError(Exception):
    """The changelog cannot be the one that the local copy was taken from: it gives offsets out again."""


@dataclass(slots=True)
class Fence:
    """What the owner of one partition knows of other writers to its changelog, and what it does about them.

    Attributes:
        seal_from: row key from which sealing goes on; None when it begins with the first hour not sealed.
        gap: what others wrote between our records; None when everything since recovery is ours.
    """

    store: HourStore
    tp: TP
    seal_from: bytes | None = None
    gap: Gap | None = None

    def is_due(self, fold: PartitionFold) -> bool:
        """Whether there are rows to repeat."""
        return closed_before(fold) > sealed_before(fold) or self.store.has_overwritten(self.tp.partition)

    def repeat(self, fold: PartitionFold, most_rows: int) -> Repeat:
        """The next rows to repeat: those of closed hours first, then those that were overwritten."""
        sealing = self._next_to_seal(fold, most_rows)
        overwritten = self.store.overwritten_rows(self.tp.partition, most_rows - len(sealing.rows))
        return sealing._replace(rows=list(dict([*sealing.rows, *overwritten]).items()))

    def _next_to_seal(self, fold: PartitionFold, most_rows: int) -> Repeat:
        sealed, hour = sealed_before(fold), closed_before(fold)
        if hour <= sealed or most_rows <= 0:
            return Repeat([], self.seal_from, sealed)
        start = self.seal_from or rows.hour_key(sealed, b"")
        found = self.store.scan(self.tp.partition, start, rows.hour_key(hour, b""), most_rows, MOST_BYTES)
        if len(found) == most_rows or sum(len(value) for _, value in found) >= MOST_BYTES:
            return Repeat(found, found[-1][0] + b"\0", sealed)
        return Repeat(found, None, hour)

    def written(self, repeat: Repeat, row_keys: Iterable[bytes]) -> None:
        """Notes that these rows are the newest records of the changelog now."""
        self.store.repeated(self.tp.partition, row_keys)
        self.seal_from = repeat.seal_from

    def reached(self, sent: list[Acknowledged]) -> Reached | None:
        """How far in the changelog the local copy has everything; None if that has not changed.

        Args:
            sent: where our records of one flush are.

        Raises:
            DistrustError: they lie before what the copy has; what becomes of it is found at the next assignment.
        """
        start = self.store.reached(self.tp).offset + 1
        first, stop = min(span.first for span in sent), max(span.stop for span in sent)
        ended = Reached(stop - 1, max(span.appended_ms for span in sent))
        if first < start:
            raise DistrustError(f"{self.tp} gives offsets from {first} on, and had given those up to {start - 1}")
        if self.gap is None and (first, stop - first) == (start, sum(span.records for span in sent)):
            return ended
        self.gap = self.gap or Gap(start, stop)
        self.gap.stop, self.gap.stop_ms = stop, ended.appended_ms
        return None

    def gap_to_read(self) -> Gap | None:
        """The gap, if there is one and it may be read now."""
        return self.gap if self.gap is not None and time.monotonic() >= self.gap.not_before else None

    def unreadable(self, gap: Gap) -> None:
        """Leaves a gap alone for a while."""
        gap.not_before = time.monotonic() + READ_AGAIN_S

    def close(self, gap: Gap, records: Records, checkpoint: Version) -> None:
        """Takes the records of a gap, and claims its end once our checkpoint has passed all of them."""
        gap.take(self.store, self.tp.partition, records)
        if gap.newest <= checkpoint:
            self.store.write(self.tp, [], gap.stop - 1, gap.stop_ms)
            self.gap = None


def closed_before(fold: PartitionFold) -> int:
    """The hour before which all have closed, by the clock of the log."""
    return (fold.clock.confirmed_ms - GRACE_MS) // HOUR_MS


def sealed_before(fold: PartitionFold) -> int:
    """The first hour that is not sealed. If the clock was set back, no hour counts as sealed that has not closed."""
    return min(fold.checkpoint.sealed, max(0, closed_before(fold)))


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
