"""Answers the query role: what is in a row, which keys have rows, and whether this worker may answer at all.

Called by `role`.

Called through the protocols of `holdings`; roles do not import each other.

Memory is read before the store, so that a row that is written meanwhile is found at least once. Keys whose rows count
no value are not listed, for a question about such a key is answered 404. Nor are keys that are not valid today (an
older release took keys that are no UTF-8), for nobody can ask for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import faust
import rocksdict

from metrics_app.aggregator import glancing
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fold import PartitionFold
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.row import Row
from metrics_app.aggregator.store import HourStore
from metrics_app.aggregator.table import HourlyTable
from metrics_app.errors import NotYetError, OwnerUnavailableError, Progress
from metrics_app.holdings import (
    ACTIVE,
    FINAL_AFTER_S,
    RECOVERING,
    STANDBY,
    FoundRow,
    Glance,
    Glances,
    Look,
    Loss,
    Stretch,
)
from metrics_app.wire.metric_key import fault_of


class Copies(Protocol):
    """How the copies of partitions come along; `replica.Replica`."""

    @property
    def current(self) -> set[int]:
        """Standby partitions whose copies have had all there was."""

    @property
    def progress(self) -> dict[int, Progress]:
        """Of owned partitions that are being recovered."""


class TableReader:
    """Rows of this worker: of its active partitions from memory or store, of any other copy from the store."""

    def __init__(
        self,
        app: faust.App,
        table: HourlyTable,
        partitions: Partitions,
        copies: Copies,
        final_after_s: float = FINAL_AFTER_S,
    ) -> None:
        self.app = app
        self.table = table
        self.partitions = partitions
        self.copies = copies
        self.final_after_s = final_after_s

    def holds(self, partition: int) -> str | None:
        """The role in which this worker can answer for a partition now, None when it cannot.

        While partitions move, nothing is folded and Faust lets go of everything in memory; the copies on disk stay, and
        are as good as they were. One that has never been whole is not answered from.
        """
        if self._is_settled and partition in self.partitions.owned and partition in self.partitions.checkpoints:
            return ACTIVE
        try:
            if not self.table.store.is_whole(partition):
                return None
        except OSError:  # the disk fails for a moment: the copy is not read, so nothing is answered from it
            return None
        return STANDBY if partition in self.copies.current else RECOVERING

    @property
    def _is_settled(self) -> bool:
        return self.app.tables.actives_ready and not self.app.rebalancing

    def read(self, partition: int, key: bytes, hour: int) -> FoundRow | None:
        """The row, None when there is none.

        Raises:
            NotYetError: held here without the row, by a copy that follows or by one that is behind.
            OwnerUnavailableError: not held here now, or the disk cannot be read.
        """
        with self._readable(partition):
            role = self.holds(partition)
            if role == ACTIVE:
                return self._read_active(partition, key, hour)
            found = self._read_copy(partition, key, hour, role) if role is not None else None
        if found is not None:
            return found
        if role is None:
            raise self.unavailable(partition)
        raise NotYetError(f"partition {partition} is held here as a copy only, which does not have it (yet)")

    @contextmanager
    def _readable(self, partition: int) -> Iterator[None]:
        """Within it, a disk that cannot be read now is a refusal that may be tried again."""
        try:
            with self.table.store.sound(partition):
                yield
        except OSError as error:
            raise OwnerUnavailableError(f"partition {partition} cannot be read now: {error}") from error

    def recent_keys(self, partition: int, hours: range, prefix: bytes) -> set[bytes]:
        """Keys with a row in memory in one of these hours; other copies than the active one have none there."""
        if self.holds(partition) != ACTIVE:
            return set()
        with self._readable(partition):
            return recent_keys(self.partitions.of(partition).fold, hours.start, hours.stop, prefix)

    def stored_keys(
        self,
        partition: int,
        hour: int,
        prefix: bytes,
        after: bytes,
        upto: bytes | None,
        most: int,
        contains: bytes = b"",
    ) -> Stretch:
        """Keys with a row in the store in an hour, ascending; what the arguments mean is in the protocol.

        Raises:
            OwnerUnavailableError: not held here now, or the disk cannot be read.
        """
        if self.holds(partition) is None:
            raise OwnerUnavailableError(f"partition {partition} is not held here now")
        with self._readable(partition):
            return stored_keys(self.table.store, partition, hour, prefix, after, upto, most, contains)

    def recent_glances(self, partition: int, hours: range, look: Look) -> list[Glance]:
        """Glances at the rows in memory in these hours; other copies than the active one have none there."""
        if self.holds(partition) != ACTIVE:
            return []
        with self._readable(partition):
            return glancing.recent(self.partitions.of(partition).fold, hours, look)

    def stored_glances(self, partition: int, hour: int, look: Look, after: bytes) -> Glances:
        """Glances at rows in the store in an hour; what the arguments mean is in the protocol.

        Raises:
            OwnerUnavailableError: not held here now, or the disk cannot be read.
        """
        if self.holds(partition) is None:
            raise OwnerUnavailableError(f"partition {partition} is not held here now")
        with self._readable(partition):
            return glancing.stored(self.table.store, partition, hour, look, after)

    def behind(self, partition: int) -> str | None:
        """Why the copy here may lack what was accepted a moment ago; None for an active one that has been shown not to.

        Whatever holds the fold up, Kafka, garbage, or a fault of our own, is seen here by what it has not reached.
        """
        if self.holds(partition) != ACTIVE:
            return "it is a copy"
        if why := self.partitions.stopped.get(partition):
            return why
        with self._readable(partition):
            return self.partitions.of(partition).doubt()

    def unavailable(self, partition: int) -> OwnerUnavailableError:
        """Why this worker does not answer for a partition, and how far its recovery has come."""
        progress = self.copies.progress.get(partition)
        detail = f"partition {partition} is not held here, or not completely yet"
        return OwnerUnavailableError(detail, [] if progress is None else [progress])

    def _read_active(self, partition: int, key: bytes, hour: int) -> FoundRow | None:
        active = self.partitions.of(partition)
        row, behind = active.fold.find(key, hour), self.behind(partition)
        if row is None and behind:
            raise NotYetError(f"partition {partition} may hold it and cannot say so yet: {behind}")
        return None if row is None else self._found(row, active.as_of(time.time()), behind is not None, ACTIVE)

    def _read_copy(self, partition: int, key: bytes, hour: int, role: str) -> FoundRow | None:
        value = self.table.store.read(partition, rows.hour_key(hour, key))
        if value is None:
            return None
        row = rows.decode_row(value, self.partitions.limits.exact_distinct)
        return self._found(row, min(self.table.checkpoint(partition).as_of, time.time()), True, role)

    def losses(self, partition: int) -> Sequence[Loss]:
        """What this copy knows to have been lost; nothing when the partition is not held here now."""
        role = self.holds(partition)
        with self._readable(partition):
            if role == ACTIVE:
                return self.partitions.of(partition).fold.losses
            return () if role is None else self.table.checkpoint(partition).losses

    def _found(self, row: Row, as_of: float, stale: bool, role: str) -> FoundRow:
        if row.incomplete:
            raise OwnerUnavailableError(
                "a row of that hour was found damaged in the changelog; what was recorded before is not known here"
            )
        apart = row.missing, row.duplicates, row.late
        return FoundRow(row.summary, *apart, as_of, stale, role, row.stamp, self.final_after_s)


STRETCH_ROWS = 1000  # looked at in one go, which takes about two milliseconds


def recent_keys(fold: PartitionFold, first: int, end: int, prefix: bytes) -> set[bytes]:
    """Keys with a prefix that have a row in memory in the hours from `first` up to `end`."""
    start, stop, skipped = rows.hour_key(first, b""), rows.hour_key(end, b""), len(rows.hour_key(0, b""))
    found = {
        row_key[skipped:]
        for row_key, row in fold.cache.items()
        if start <= row_key < stop and row_key.startswith(prefix, skipped) and row.count
    }
    return {key for key in found if fault_of(key) is None}


def stored_keys(
    store: HourStore,
    partition: int,
    hour: int,
    prefix: bytes,
    after: bytes,
    upto: bytes | None,
    most: int,
    contains: bytes = b"",
) -> Stretch:
    """Keys with a prefix that have a row in the store in an hour, ascending.

    Args:
        after: greater ones only.
        upto: none above it; None for no such bound.
        contains: what else a key has in it.
        most: it ends after so many keys, and after STRETCH_ROWS rows, of which not all may have one.
    """
    db = store.held(partition)
    if db is None:
        return Stretch([], None)
    begin = rows.hour_key(hour, prefix)
    skipped = len(begin) - len(prefix)
    with store.sound(partition):
        each = db.iter()
        each.seek(max(begin, rows.hour_key(hour, after + b"\0")))
        stretch = _stretch(each, begin, skipped, upto, most, contains)
        each.status()  # at a damaged block an iterator just ends
    return stretch


def _stretch(
    each: rocksdict.RdictIter, begin: bytes, skipped: int, upto: bytes | None, most: int, contains: bytes
) -> Stretch:
    found: list[bytes] = []
    key = b""
    for _ in range(STRETCH_ROWS):
        if len(found) == most or not each.valid() or not (row_key := each.key()).startswith(begin):
            return Stretch(found, None)
        key = row_key[skipped:]
        if upto is not None and key > upto:
            return Stretch(found, None)
        if contains in key and rows.counts_values(each.value()) and fault_of(key) is None:
            found.append(key)
        each.next()
    return Stretch(found, key)


PATIENCE_S = 10.0


class CaughtUp:
    """A check of readiness: what was accepted before is folded, so that a key without a row is known to have none.

    It does not wait for that for ever. With a long backlog a worker takes samples meanwhile, and says of such keys that
    it cannot tell yet.
    """

    def __init__(self, partitions: Partitions, clock: Callable[[], float] = time.monotonic) -> None:
        self._partitions = partitions
        self._clock = clock
        self._since: float | None = None

    def problem(self) -> str | None:
        """What is still to be folded; None when nothing is, or when it takes long."""
        if not (behind := self._partitions.unproven):
            self._since = None
            return None
        now = self._clock()
        self._since = now if self._since is None else self._since
        if now - self._since > PATIENCE_S:
            return None
        return f"folding what was accepted before, of partitions {', '.join(map(str, sorted(behind)))}"
