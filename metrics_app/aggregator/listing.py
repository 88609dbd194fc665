"""Which keys have rows: those in memory, flushed or not, and those in the store, hour by hour.

Memory is looked at before the store, so that a row written meanwhile is found at least once. Rows that count no value
are left out, for a question about such a key is answered 404. So are rows whose key is no valid key (an older release
took keys that are no UTF-8), for nobody can ask for them.
"""

from __future__ import annotations

import rocksdict

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fold import PartitionFold
from metrics_app.aggregator.store import HourStore
from metrics_app.holdings import Stretch
from metrics_app.wire.keys import fault_of

STRETCH_ROWS = 1000  # looked at in one go, which takes about two milliseconds


def recent_keys(fold: PartitionFold, first: int, end: int, prefix: bytes) -> set[bytes]:
    """Keys with a prefix that have a row in memory in the hours from `first` up to `end`."""
    start, stop, skipped = rows.hour_key(first, b""), rows.hour_key(end, b""), len(rows.hour_key(0, b""))
    found = {
        row_key[skipped:]
        for row_key, row in fold.cache.items()
        if start <= row_key < stop and row_key.startswith(prefix, skipped) and row.summary.count
    }
    return {key for key in found if fault_of(key) is None}


def stored_keys(
    store: HourStore, partition: int, hour: int, prefix: bytes, after: bytes, upto: bytes | None, most: int
) -> Stretch:
    """Keys with a prefix that have a row in the store in an hour, ascending.

    Args:
        after: greater ones only.
        upto: none above it; None for no such bound.
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
        stretch = _stretch(each, begin, skipped, upto, most)
        each.status()  # at a damaged block an iterator just ends
    return stretch


def _stretch(each: rocksdict.RdictIter, begin: bytes, skipped: int, upto: bytes | None, most: int) -> Stretch:
    found: list[bytes] = []
    key = b""
    for _ in range(STRETCH_ROWS):
        if len(found) == most or not each.valid() or not (row_key := each.key()).startswith(begin):
            return Stretch(found, None)
        key = row_key[skipped:]
        if upto is not None and key > upto:
            return Stretch(found, None)
        if rows.counts_values(each.value()) and fault_of(key) is None:
            found.append(key)
        each.next()
    return Stretch(found, key)
