"""Values become series, and series batches: what the client's own thread does 20 times a second."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from time import monotonic
from uuid import UUID

from metrics_app.client.batch import MAX_BODY_BYTES, MAX_ITEMS, SERIES_BYTES, Batch, Series, batch_of
from metrics_app.client.histogram import Histogram
from metrics_app.client.intake import Taken
from metrics_app.client.numbering import Numbering, Place
from metrics_app.client.options import Options
from metrics_app.wire.chunk import VALUE_BYTES

SLICE = 1024  # values handled in one step of C code, during which no other thread of the app runs
RUN = 16_384  # values of a series at most
PARTS = 4  # of what may wait is a batch at most one, so that a few always may
BUCKET_BYTES = 3  # of a histogram in a body, about
WINDOW_S = 1.0


class _Open:
    """A series that may still grow."""

    __slots__ = ("count", "first", "histogram", "hour", "key", "sender", "values")

    def __init__(self, key: str, hour: int, place: Place, summed: bool) -> None:
        self.key = key
        self.hour = hour
        self.sender, self.first = place
        self.count = 0
        self.values = array("d")
        self.histogram = Histogram() if summed else None

    def add(self, values: list[float]) -> None:
        self.count += len(values)
        if self.histogram is not None:
            self.histogram.add(values)
        else:
            self.values.extend(values)

    @property
    def items(self) -> int:
        return self.histogram.buckets if self.histogram is not None else self.count

    @property
    def size(self) -> int:
        """Bytes in a body, about."""
        return SERIES_BYTES + len(self.key) + self.items * (BUCKET_BYTES if self.histogram else VALUE_BYTES)

    def sealed(self) -> Series:
        if self.histogram is not None:
            return Series(self.key, self.hour, self.first, histogram=self.histogram.body())
        return Series(self.key, self.hour, self.first, values=_little_endian(self.values))


class Gathering:
    """Series since the last batch.

    A key with more than `histogram_above` values within a second goes on as a histogram, and starts the next second as
    one. A series is cut once and for all when it gets into a batch.

    Attributes:
        numbering: gives the values their numbers as they come here.
        values: values not yet in a batch that are not in a histogram either.
    """

    def __init__(self, options: Options) -> None:
        self._above = options.histogram_above
        self._max_items = min(MAX_ITEMS, max(1, options.max_values // PARTS))
        self._max_bytes = min(MAX_BODY_BYTES, options.max_bytes // PARTS)
        self._run = max(1, min(RUN, self._max_items, self._max_bytes // VALUE_BYTES // 2))
        self.numbering = Numbering()
        self.values = 0
        self._open: dict[tuple[str, int], _Open] = {}
        self._done: list[_Open] = []
        self._rate: Counter[str] = Counter()
        self._hot: set[str] = set()
        self._window_ends = 0.0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to put into a batch."""
        return not (self._open or self._done)

    def add(self, taken: Taken) -> None:
        """Numbers values and takes them in."""
        key, hour, values = taken
        step = min(SLICE, self._run)
        for at in range(0, len(values), step):
            self._add(key, hour, values[at : at + step] if len(values) > step else values)

    def _add(self, key: str, hour: int, values: list[float]) -> None:
        place = self.numbering.take(key, hour, len(values))
        summed = self._is_hot(key, len(values))
        series = self._open.get((key, hour))
        if series is None or not self._fits(series, place, summed, len(values)):
            if series is not None:
                self._done.append(series)
            series = self._open[key, hour] = _Open(key, hour, place, summed)
        series.add(values)
        if not summed:
            self.values += len(values)

    def _fits(self, series: _Open, place: Place, summed: bool, count: int) -> bool:
        same = summed == (series.histogram is not None) and place.sender == series.sender
        return same and len(series.values) + count <= self._run

    def _is_hot(self, key: str, count: int) -> bool:
        if not self._above:
            return False
        now = monotonic()
        if now >= self._window_ends:
            self._hot = {hot for hot, values in self._rate.items() if values > self._above}
            self._rate.clear()
            self._window_ends = now + WINDOW_S
        self._rate[key] += count
        return key in self._hot or self._rate[key] > self._above

    def seal(self) -> list[Batch]:
        """Everything gathered, in batches that a collector takes: of one sender each."""
        series = sorted([*self._done, *self._open.values()], key=_sender)
        self._done, self._open, self.values = [], {}, 0
        return [
            batch_of(
                sender, [one.sealed() for one in part], sum(one.count for one in part), sum(one.items for one in part)
            )
            for sender, of_one in groupby(series, _sender)
            for part in self._parts(of_one)
        ]

    def _parts(self, series: Iterator[_Open]) -> Iterator[list[_Open]]:
        part: list[_Open] = []
        items = size = 0
        for one in series:
            if part and (items + one.items > self._max_items or size + one.size > self._max_bytes):
                yield part
                part, items, size = [], 0, 0
            part.append(one)
            items, size = items + one.items, size + one.size
        if part:
            yield part


def _sender(series: _Open) -> UUID:
    return series.sender


def _little_endian(values: array[float]) -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
