"""Writes the rows of an hour to the changelog once more after it has closed (docs/adr/0004).

A worker that was presumed dead may have written an older state of a row behind the newer one. Reading compares stamps
and is not misled; compaction, which keeps what was written last, would be.
"""

from __future__ import annotations

from typing import NamedTuple

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fold import HOUR_MS, PartitionFold
from metrics_app.aggregator.partitions import Active
from metrics_app.aggregator.store import HourStore

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
