"""Reads a batch once more: to divide it, to tell which numbers it holds, or to correct its hours.

Called by `engine` and `outcome`.

What collectors have to be told of values that will not arrive, or not soon, so that answers call them missing.

A number that was given out and is not there is a hole only when a higher one has arrived. So a sender says how far its
numbers reach, in a batch without values: after it has dropped some, before it sends a backlog, and before its process
ends with more than one batch to send. Should it be killed meanwhile, answers say what is missing.
"""

from __future__ import annotations

import gzip
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from msgspec.structs import replace

from metrics_app.client.buffer import Batch, Waiting, batch_of
from metrics_app.client.series import BatchBody, Series, is_packed_table, series_body, unpacked
from metrics_app.wire.chunk import VALUE_BYTES


class Numbered(NamedTuple):
    """What a sender numbers: values of a key in an hour."""

    sender: UUID
    key: str
    hour: int


def body_of(batch: Batch) -> BatchBody:
    """Decodes the body of a batch."""
    return unpacked(gzip.decompress(batch.body) if batch.gzipped else batch.body)


def count_of(series: Series) -> int:
    """Number of values in a series."""
    histogram = series.histogram
    if histogram is None:
        return len(series.values) // VALUE_BYTES
    return int(histogram["zeros"] + histogram["tiny"] + sum(histogram["counts"]))


def ends_of(batch: Batch) -> dict[Numbered, int]:
    """For each numbered series of a batch, the number that follows its last value."""
    body = body_of(batch)
    ends: dict[Numbered, int] = {}
    for series in body.series:
        what = Numbered(body.sender, series.key, series.hour)
        ends[what] = max(ends.get(what, 0), series.first + count_of(series))
    return ends


def halves_of(batch: Batch) -> list[Batch]:
    """The batch as two smaller ones with the same numbers; empty when it cannot be divided."""
    body = body_of(batch)
    if len(body.series) > 1:
        middle = len(body.series) // 2
        parts = [body.series[:middle], body.series[middle:]]
    else:
        parts = [[half] for half in _halves(body.series[0])]
    return [_batch(body.sender, part) for part in parts]


def as_series(batch: Batch) -> Batch | None:
    """A batch that is a table, as series, for a collector that takes no tables; None for one that is none."""
    inflated = gzip.decompress(batch.body) if batch.gzipped else batch.body
    if not is_packed_table(inflated):
        return None
    sender, rows = unpacked(inflated)
    joined: list[Series] = []
    for row in rows:
        last = joined[-1] if joined else None
        if last is not None and (row.key, row.hour, row.first) == (last.key, last.hour, last.first + count_of(last)):
            last.values += row.values
        else:
            joined.append(Series(row.key, row.hour, row.first, row.values))
    body = gzip.compress(series_body(sender, joined), 6, mtime=0)
    return replace(batch, gzipped=True, body=body)


def moved(batch: Batch, hours: Mapping[int, int]) -> list[Batch]:
    """The values of a batch that belong to some hours, moved to other hours and numbered from 0 by a new sender.

    Args:
        batch: whose values of these hours no collector has taken.
        hours: hour -> the one it should have been.
    """
    sender, firsts = uuid.uuid4(), dict[tuple[str, int], int]()
    taken: list[Series] = []
    for series in body_of(batch).series:
        if series.hour in hours:
            place = series.key, hours[series.hour]
            first = firsts.get(place, 0)
            firsts[place] = first + count_of(series)
            taken.append(Series(*place, first, series.values, series.histogram))
    return [replace(_batch(sender, taken), moved=True)] if taken else []


def tidings_of(ends: Mapping[Numbered, int]) -> list[Batch]:
    """Batches without a value, one a sender, that say which numbers were given out: what is not there is missing."""
    by_sender: dict[UUID, list[Any]] = {}
    for what, end in ends.items():
        # with its empty values, which `Series` would leave out
        by_sender.setdefault(what.sender, []).append({"key": what.key, "hour": what.hour, "first": end, "values": b""})
    return [batch_of(sender, series, 0, len(series)) for sender, series in by_sender.items()]


def _batch(sender: UUID, series: Sequence[Series]) -> Batch:
    return batch_of(sender, series, _total(count_of, series), _total(_items, series))


def _total(measure: Callable[[Series], int], series: Iterable[Series]) -> int:
    return sum(map(measure, series))


def _items(series: Series) -> int:
    return len(series.values) // VALUE_BYTES if series.histogram is None else len(series.histogram["counts"])


def _halves(series: Series) -> list[Series]:
    values = len(series.values) // VALUE_BYTES
    if values < 2:  # a histogram cannot be divided
        return []
    middle = values // 2
    cut = middle * VALUE_BYTES
    return [
        Series(series.key, series.hour, series.first, series.values[:cut]),
        Series(series.key, series.hour, series.first + middle, series.values[cut:]),
    ]


MOST = 20_000  # keys and hours; beyond it the first are forgotten


class Tidings:
    """How far numbers reach, as far as it has to be told."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._ends: dict[Numbered, int] = {}

    @property
    def owed(self) -> bool:
        """Whether a collector must still be told of numbers."""
        return bool(self._ends)

    def note(self, waiting: Waiting) -> None:
        """Notes that a collector must be told the numbers of this batch; does nothing if the batch is unreadable."""
        try:
            batch = waiting.load()
        except OSError:
            return
        if batch is None:
            return
        ends = ends_of(batch)
        with self._guard:
            for what, end in ends.items():
                self._ends[what] = max(end, self._ends.pop(what, 0))
            for what in list(self._ends)[:-MOST]:
                del self._ends[what]

    def batches(self) -> list[Batch]:
        """The request bodies that tell the noted numbers."""
        with self._guard:
            return tidings_of(self._ends)

    def told(self) -> None:
        """Forgets the noted numbers: a collector knows them now."""
        with self._guard:
            self._ends.clear()
