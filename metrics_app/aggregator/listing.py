"""Which keys have rows: those in memory, flushed or not, and those in the store, hour by hour.

A row that is written while one goes on from the first to the second is in both, never in neither.
"""

from __future__ import annotations

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fold import PartitionFold
from metrics_app.aggregator.row import Row
from metrics_app.aggregator.store import HourStore
from metrics_app.stats.summary import HourlySummary

# a row that only ever saw duplicates counts none of them, and has no numbers either: nothing was recorded
EMPTY_BYTES = len(rows.encode_row(Row(HourlySummary())))


def recent_keys(fold: PartitionFold, first: int, end: int, prefix: bytes) -> set[bytes]:
    """Keys with a prefix that have a row in memory in the hours from `first` up to `end`."""
    start, stop, skipped = rows.hour_key(first, b""), rows.hour_key(end, b""), len(rows.hour_key(0, b""))
    return {
        row_key[skipped:]
        for row_key, row in fold.cache.items()
        if start <= row_key < stop and row_key.startswith(prefix, skipped) and row.summary.count
    }


def stored_keys(
    store: HourStore, partition: int, hour: int, prefix: bytes, after: bytes, upto: bytes | None, most: int
) -> list[bytes]:
    """Keys with a prefix that have a row in the store in an hour, ascending.

    Args:
        after: greater ones only.
        upto: none above it; None for no such bound.
        most: it ends after so many rows.
    """
    found: list[bytes] = []
    db = store.held(partition)
    if db is None:
        return found
    begin = rows.hour_key(hour, prefix)
    skipped = len(begin) - len(prefix)
    with store.sound(partition):
        each = db.iter()
        each.seek(max(begin, rows.hour_key(hour, after + b"\0")))
        for _ in range(most):
            if not each.valid() or not (row_key := each.key()).startswith(begin):
                break
            key = row_key[skipped:]
            if upto is not None and key > upto:
                break
            if len(each.value()) > EMPTY_BYTES:
                found.append(key)
            each.next()
        each.status()  # at a damaged block an iterator just ends
    return found
