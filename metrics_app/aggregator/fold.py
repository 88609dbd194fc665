"""Folds the records of one partition, in the order of offsets, into rows of key and hour.

Called by `agent` with each record, by `partitions` for what has changed, and by `reader` for the newest state of a row.

Everything here is a function of the log and of the rows stored so far: no I/O, no Faust, and of the worker's own clock
only whether it confirms the log's (`source_log`). A record is applied to a row only if its offset is above the row's
stamp. So the log may be replayed from any earlier offset, over rows of mixed age, and the result is the same. That is
what makes at-least-once delivery count exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from metrics_app.aggregator import row as rows
from metrics_app.aggregator import small_row
from metrics_app.aggregator.deduplication import Parts, RecordClaims, SeenIds, ids_of
from metrics_app.aggregator.flush import AnyRow, Flush
from metrics_app.aggregator.local_state import reading
from metrics_app.aggregator.ranges import Ranges
from metrics_app.aggregator.row import Checkpoint, Row, with_loss
from metrics_app.aggregator.small_row import MOST_VALUES, SmallRow
from metrics_app.aggregator.source_log import ANY_TIME, LogClock, Witness
from metrics_app.aggregator.tally import Tally
from metrics_app.holdings import Loss
from metrics_app.stats import codec
from metrics_app.wire.chunk import HOUR_MAX, Chunk

HOUR_MS = 3_600_000
LATEST_MS = HOUR_MAX * HOUR_MS
VALUES_MAX = 2**62  # of a row: its counts, and their sums, can still be encoded


@dataclass(frozen=True, slots=True)
class FoldLimits:
    """Bounds of the fold.

    Attributes:
        retention_hours: older hours are not folded any more.
        id_horizon_hours: how long an id is remembered.
        exact_distinct: distinct values of a row up to which its quantiles are exact.
        max_senders: numbering senders fenced per row; further ones are counted unfenced.
        max_ranges: runs of numbers without a gap, of all its senders, noted per row; what would begin another one is
            counted unfenced. A row so stays below what Kafka takes in one request.
        max_clean_rows: unchanged rows kept in memory per partition.
        clock_tolerance_s: how far the log's clock and the worker's own may differ.
        max_ahead_s: how far ahead of its clock a collector takes a timestamp.
    """

    retention_hours: int = 31 * 24
    id_horizon_hours: int = 24
    exact_distinct: int = 1000
    max_senders: int = 1024
    max_ranges: int = 16_384
    max_clean_rows: int = 10_000
    clock_tolerance_s: float = 10.0
    max_ahead_s: float = 300.0

    @property
    def tolerance_ms(self) -> int:
        """The tolerance of clocks in milliseconds."""
        return round(self.clock_tolerance_s * 1000)

    @property
    def small_values(self) -> int:
        """Values up to which a row may be a small one."""
        return min(MOST_VALUES, self.exact_distinct) if self.max_senders else 0


class Arrival(NamedTuple):
    """The record that is being folded.

    Attributes:
        offset: where it stands in the log.
        hour: the hour by the agreed clock.
        hour_not_begun: the first hour of which no sample can have been taken when Kafka stamped the record.
        claims: what its ids claim.
    """

    offset: int
    hour: int
    hour_not_begun: int
    claims: RecordClaims


@dataclass(slots=True)
class PartitionFold:
    """State of one partition while this worker owns it.

    Attributes:
        load: reads a stored value by row key; None when there is none.
        load_all: the same for several, ascending; one read for all costs half of one for each.
        checkpoint: the last flushed checkpoint; nothing at or below its offset needs folding, only checking.
        ids: what was claimed under ids.
        offset: the last offset applied in memory.
        clock: what time it is in the log.
        losses: records that were gone before they could be folded.
        small_values: those of the limits, which are asked for at each value.
        flushing: the last flush taken.
    """

    load: Callable[[bytes], bytes | None]
    limits: FoldLimits
    checkpoint: Checkpoint
    ids: SeenIds = field(default_factory=SeenIds)
    offset: int = field(init=False)
    clock: LogClock = field(init=False)
    losses: tuple[Loss, ...] = field(init=False)
    small_values: int = field(init=False)
    cache: dict[bytes, AnyRow] = field(default_factory=dict)
    dirty: dict[bytes, AnyRow] = field(default_factory=dict)
    flushing: Flush | None = None
    load_all: Callable[[list[bytes]], Sequence[bytes | None]] | None = None

    def __post_init__(self) -> None:
        self.offset = self.checkpoint.offset
        self.clock = LogClock(self.checkpoint.log_ms, self.checkpoint.clock_ms, self.limits.tolerance_ms)
        self.losses = self.checkpoint.losses
        self.small_values = self.limits.small_values

    def apply(self, offset: int, timestamp_ms: int, chunks: Sequence[Chunk], witness: Witness = ANY_TIME) -> Tally:
        """Folds one record.

        Args:
            offset: its source offset, the one after `self.offset` or, in a replay, any lower one.
            timestamp_ms: its log-append time.
            chunks: its content, which `record.decode` has let through.
            witness: what the worker knows of the time.

        Raises:
            ReadError: a row could not be read. After this, as after any other exception, half of the record may be in.
        """
        tally = Tally()
        record = self._arrived(offset, min(max(timestamp_ms, 0), LATEST_MS), witness, chunks)
        oldest = record.hour - self.limits.retention_hours
        kept = [(rows.hour_key(chunk.hour, chunk.key), chunk) for chunk in chunks if chunk.hour >= oldest]
        if len(kept) != len(chunks):
            tally.expired += sum(chunk.count for chunk in chunks if chunk.hour < oldest)
        self._fetch([row_key for row_key, _ in kept])
        for row_key, chunk in kept:
            self._fold_chunk(row_key, chunk, record, tally)
        self.offset = max(self.offset, offset)
        return tally

    def _arrived(self, offset: int, timestamp_ms: int, witness: Witness, chunks: Sequence[Chunk]) -> Arrival:
        self.clock.read(timestamp_ms, witness.own_ms)
        agreed = self.clock.agreed_ms(witness.own_ms)
        latest = max(agreed, timestamp_ms, witness.own_ms if witness.disputed else 0)
        not_begun = timestamp_ms + round(self.limits.max_ahead_s * 1000) + self.limits.tolerance_ms
        earliest = min(agreed, timestamp_ms + self.limits.tolerance_ms)  # a stamp before it in a backlog may be wrong
        claims = self._claims(chunks, offset, earliest // HOUR_MS, latest // HOUR_MS)
        return Arrival(offset, agreed // HOUR_MS, not_begun // HOUR_MS + 1, claims)

    def _claims(self, chunks: Sequence[Chunk], offset: int, hour: int, latest_hour: int) -> RecordClaims:
        """What the ids of a record may claim.

        Args:
            hour: the hour before whose horizon ids are not asked for, the earliest that any witness names.
            latest_hour: the hour from which on they are remembered, the latest that any witness names: where clocks
                differ an id is kept longer, never shorter.
        """
        ids = {id_ for chunk in chunks if chunk.ids for id_ in ids_of(chunk)}
        with reading("ids"):
            claimed = self.ids.claimed(ids, self.checkpoint.epoch, offset, hour - self.limits.id_horizon_hours)
        return RecordClaims(self.ids, latest_hour, offset, claimed)

    def lose(self, offset: int, loss: Loss) -> None:
        """Steps to an offset, over records that are gone."""
        self.offset = offset
        self.losses = with_loss(self.checkpoint._replace(losses=self.losses), loss).losses

    def _fold_chunk(self, row_key: bytes, chunk: Chunk, record: Arrival, tally: Tally) -> None:
        row = self.cache[row_key]
        if self.flushing is not None:
            self.flushing.encode(row_key)
        if type(row) is SmallRow:
            is_new = row.epoch == self.checkpoint.epoch and row.stamp < record.offset
            if is_new and (folded := row.add(chunk, self.small_values)):
                self._note(row_key, row, chunk, folded, record, tally)
                return
        self._fold_whole(row_key, self._whole(row_key, row), chunk, record, tally)

    def _fold_whole(self, row_key: bytes, row: Row, chunk: Chunk, record: Arrival, tally: Tally) -> None:
        fresh = record.claims.claim(chunk)
        if row.epoch == self.checkpoint.epoch and row.stamp >= record.offset:
            tally.replayed += chunk.count
            return
        if row.epoch != self.checkpoint.epoch:  # offsets of another incarnation of the topic say nothing about this one
            row.epoch, row.stamp = self.checkpoint.epoch, rows.NO_STAMP
        if row.summary.count + chunk.count > VALUES_MAX:
            tally.overfull += chunk.count
            return
        fold = self._fold_histogram if chunk.histogram else self._fold_values
        self._note(row_key, row, chunk, fold(chunk, row, fresh, tally), record, tally)

    def _note(self, row_key: bytes, row: AnyRow, chunk: Chunk, folded: int, record: Arrival, tally: Tally) -> None:
        tally.folded += folded
        if chunk.hour < record.hour:
            row.late += folded
            tally.late += folded
        elif chunk.hour >= record.hour_not_begun:
            tally.ahead += folded
        self.dirty[row_key] = row

    def _fold_values(self, chunk: Chunk, row: Row, fresh: Parts | None, tally: Tally) -> int:
        """Adds those values of a chunk that are new, and returns how many they are."""
        values = np.frombuffer(chunk.values, "<f8")
        sent = len(values)
        if fresh is not None:
            values = _of_parts(values, fresh)
            tally.duplicate_ids += sent - len(values)
        elif chunk.sender:
            values = self._unclaimed(chunk, row, values, tally)
            tally.duplicate_numbers += sent - len(values)
        new = len(values)
        row.leave_out(sent - new)
        if new:
            row.summary.add(values)
        return new

    def _fold_histogram(self, chunk: Chunk, row: Row, fresh: Parts | None, tally: Tally) -> int:
        """Merges a histogram if all of its values are new, and returns how many they are; it cannot be divided."""
        if fresh is not None:
            new = sum(stop - start for start, stop in fresh)
            tally.duplicate_ids += chunk.count - new
        else:
            new = self._claimed_whole(chunk, row, tally) if chunk.sender else chunk.count
        if new < chunk.count:
            row.leave_out(chunk.count - new)
            return 0
        row.summary.merge(codec.decode(chunk.histogram, self.limits.exact_distinct))
        return new

    def _claimed_whole(self, chunk: Chunk, row: Row, tally: Tally) -> int:
        """How many numbers of a histogram are new. Claims them if all are.

        A sender cuts its numbers in the same way in every attempt, so a histogram is new or known. One that overlaps
        with something else is left out: what was known is a duplicate, what was not is missing (ADR 5).
        """
        ranges = self._ranges(chunk, row, tally)
        if ranges is None:
            return chunk.count
        new = ranges.claim_whole(chunk.first, chunk.count)
        tally.duplicate_numbers += chunk.count - new
        if 0 < new < chunk.count:
            if row.ranges < self.limits.max_ranges:
                ranges.reach(chunk.first + chunk.count)
            tally.overlapping += new
        return new

    def _unclaimed(self, chunk: Chunk, row: Row, values: np.ndarray, tally: Tally) -> np.ndarray:
        """The values of a numbered chunk that its sender has not delivered before. Claims their numbers."""
        ranges = self._ranges(chunk, row, tally)
        if ranges is None:
            return values
        parts = ranges.claim(chunk.first, len(values))
        return _of_parts(values, [(start - chunk.first, stop - chunk.first) for start, stop in parts])

    def _ranges(self, chunk: Chunk, row: Row, tally: Tally) -> Ranges | None:
        """The numbers that the chunk's sender has used; None beyond a bound, where values count without protection."""
        ranges = row.senders.get(chunk.sender)
        is_full = ranges is None and len(row.senders) >= self.limits.max_senders
        begins_another = ranges is None or ranges.is_apart(chunk.first, chunk.count)
        if is_full or (begins_another and row.senders and row.ranges >= self.limits.max_ranges):
            row.unfenced += chunk.count
            tally.unfenced += chunk.count
            return None
        if ranges is None:
            ranges = row.senders[bytes(chunk.sender)] = Ranges()
        return ranges

    def _fetch(self, row_keys: list[bytes]) -> None:
        """Brings rows into memory, those that are not there by one read of the store."""
        missing = sorted({row_key for row_key in row_keys if row_key not in self.cache})
        for row_key, row in zip(missing, self._load(missing), strict=True):
            self.cache[row_key] = row or SmallRow(self.checkpoint.epoch)

    def _load(self, row_keys: list[bytes]) -> list[AnyRow | None]:
        with reading("a row"):
            values = map(self.load, row_keys) if self.load_all is None else self.load_all(row_keys)
            return [None if value is None else self._decoded(value) for value in values]

    def _decoded(self, value: bytes) -> AnyRow:
        return small_row.decode(value, self.small_values) or rows.decode_row(value, self.limits.exact_distinct)

    def _whole(self, row_key: bytes, row: AnyRow) -> Row:
        """The row as a `Row`, in every place that has it."""
        if type(row) is SmallRow:
            row = row.whole(self.limits.exact_distinct)
            for those in (self.cache, self.dirty, self.flushing.taken if self.flushing else {}):
                if row_key in those:
                    those[row_key] = row
        assert isinstance(row, Row)
        return row

    def find(self, key: bytes, hour: int) -> Row | None:
        """The newest state of a row, flushed or not; None if nothing is known to be folded into it."""
        row_key = rows.hour_key(hour, key)
        row = self.cache.get(row_key) or self._load([row_key])[0]
        if isinstance(row, SmallRow):
            row = row.whole(self.limits.exact_distinct)
        return row if row is not None and (row.count or row.incomplete) else None

    def take(self, as_of: float) -> Flush:
        """The changes since the last flush, stamped with the last applied offset.

        Args:
            as_of: epoch seconds at which the partition held nothing beyond the last applied offset.
        """
        checkpoint = Checkpoint(
            self.checkpoint.epoch,
            self.offset,
            as_of,
            self.clock.newest_ms,
            self.checkpoint.sealed,
            self.clock.confirmed_ms,
            self.losses,
        )
        ids, encoded_ids = self.ids.take(checkpoint.epoch)
        flush = self.flushing = Flush(checkpoint, self.dirty, ids, encoded_ids, dict(self.dirty))
        self.dirty = {}
        return flush

    def flushed(self, flush: Flush) -> None:
        """Notes that rows and checkpoint of a flush are in the store, and forgets the oldest unchanged rows."""
        self.checkpoint = flush.checkpoint
        self.flushing = None
        self.ids.flushed(flush.ids)
        excess = len(self.cache) - len(self.dirty) - self.limits.max_clean_rows
        if excess > 0:
            clean = [row_key for row_key in self.cache if row_key not in self.dirty][:excess]
            for row_key in clean:
                del self.cache[row_key]

    def failed(self, flush: Flush) -> None:
        """Takes the changes of a flush back, to go out with the next one."""
        self.flushing = None
        self.dirty = flush.taken | self.dirty
        self.ids.failed(flush.ids)


def _of_parts(values: np.ndarray, parts: Parts) -> np.ndarray:
    if len(parts) == 1:  # nearly always, and all of it
        return values[slice(*parts[0])]
    return np.concatenate([values[start:stop] for start, stop in parts]) if parts else values[:0]
