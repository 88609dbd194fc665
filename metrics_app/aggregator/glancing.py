"""Looks over rows without decoding them: how many values each has, and what its quantile is surely not above.

Called by `reader`.

A ranking of a million keys needs the values of a hundred rows, and of all others only that they have no place among
these. That costs a tenth of decoding them.
"""

from __future__ import annotations

import rocksdict

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.flush import AnyRow
from metrics_app.aggregator.fold import PartitionFold
from metrics_app.aggregator.small_row import SmallRow
from metrics_app.aggregator.store import HourStore
from metrics_app.holdings import Glance, Glances, Look

STRETCH_GLANCES = 400  # rows looked at in one go, which takes about two milliseconds
STRETCH_BYTES = 1 << 20  # the same for rows with large histograms

_PREFIX_BYTES = rows.HOUR_PREFIX_BYTES


def recent(fold: PartitionFold, hours: range, look: Look) -> list[Glance]:
    """Glances at the rows in memory, in no order."""
    start, stop = rows.hour_key(hours.start, b""), rows.hour_key(hours.stop, b"")
    found = []
    for row_key, row in fold.cache.items():
        if start <= row_key < stop and row.count:
            hour, key = rows.split_hour_key(row_key)
            if look.takes(key):
                found.append(Glance(key, hour, row.count, _greatest(row)))
    return found


def _greatest(row: AnyRow) -> float:
    return row.values[-1] if isinstance(row, SmallRow) else row.summary.max


def stored(store: HourStore, partition: int, hour: int, look: Look, after: bytes) -> Glances:
    """Glances at the rows of an hour in the store, ascending, above `after`."""
    db = store.held(partition)
    if db is None:
        return Glances([], None)
    begin = rows.hour_key(hour, look.prefix)
    with store.sound(partition):
        each = db.iter()
        each.seek(max(begin, rows.hour_key(hour, after + b"\0")))
        found = _stretch(each, hour, begin, look)
        each.status()  # at a damaged block an iterator just ends
    return found


def _stretch(each: rocksdict.RdictIter, hour: int, begin: bytes, look: Look) -> Glances:
    found: list[Glance] = []
    key, size = b"", 0
    for _ in range(STRETCH_GLANCES):
        if not each.valid() or not (row_key := each.key()).startswith(begin):
            return Glances(found, None)
        key = row_key[_PREFIX_BYTES:]
        if look.contains in key:
            value = each.value()
            size += len(value)
            if (glance := rows.glance(value, look.q))[0]:
                found.append(Glance(key, hour, *glance))
            if size > STRETCH_BYTES:
                break
        each.next()
    return Glances(found, key)
