"""Values become series, and series batches: what the client's own thread does 20 times a second."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from time import monotonic

from metrics_app.client.batch import MAX_BODY_BYTES, MAX_ITEMS, SERIES_BYTES, Batch, Series, batch_of
from metrics_app.client.histogram import Histogram
from metrics_app.client.intake import Taken
from metrics_app.client.numbering import Numbering
from metrics_app.client.options import Options
from metrics_app.wire.chunk import VALUE_BYTES

SLICE = 1024  # values handled in one step of C code, during which no other thread of the app runs
RUN = 16_384  # values of a series at most
PARTS = 4  # of what may wait is a batch at most one, so that a few always may
BUCKET_BYTES = 3  # of a histogram in a body, about
WINDOW_S = 1.0
KEPT_HOURS = 3


class _Open:
    """A series that may still grow."""

    __slots__ = ("count", "first", "histogram", "values")

    def __init__(self, first: int, summed: bool) -> None:
        self.first = first
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
        self._done: list[tuple[str, int, _Open]] = []
        self._rate: Counter[str] = Counter()
        self._hot: set[str] = set()
        self._window_ends = 0.0
        self._sealed: list[Batch] = []

    @property
    def empty(self) -> bool:
        """Whether there is nothing to put into a batch."""
        return not (self._open or self._done or self._sealed)

    def add(self, taken: Taken) -> None:
        """Numbers values and takes them in."""
        key, hour, values = taken
        if not self.numbering.knows(hour):  # the clock was set back by hours
            self._sealed += self.seal()
            self.numbering = Numbering()
        step = min(SLICE, self._run)
        for at in range(0, len(values), step):
            self._add(key, hour, values[at : at + step] if len(values) > step else values)
        self.numbering.forget(hour - KEPT_HOURS)

    def _add(self, key: str, hour: int, values: list[float]) -> None:
        first = self.numbering.take(key, hour, len(values))
        summed = self._is_hot(key, len(values))
        series = self._open.get((key, hour))
        if series is not None and (
            summed != (series.histogram is not None) or len(series.values) + len(values) > self._run
        ):
            self._done.append((key, hour, self._open.pop((key, hour))))
            series = None
        if series is None:
            series = self._open[key, hour] = _Open(first, summed)
        series.add(values)
        if not summed:
            self.values += len(values)

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

    def seal(self) -> Iterator[Batch]:
        """Everything gathered, in batches that a collector takes."""
        series = [*self._done, *((key, hour, one) for (key, hour), one in self._open.items())]
        sealed, self._sealed, self._done, self._open, self.values = self._sealed, [], [], {}, 0
        yield from sealed
        part: list[Series] = []
        count = items = size = 0
        for key, hour, one in series:
            its_items = one.items
            its_size = SERIES_BYTES + len(key) + its_items * (BUCKET_BYTES if one.histogram else VALUE_BYTES)
            if part and (items + its_items > self._max_items or size + its_size > self._max_bytes):
                yield batch_of(self.numbering.sender, part, count, items)
                part, count, items, size = [], 0, 0, 0
            part.append(_sealed(key, hour, one))
            count, items, size = count + one.count, items + its_items, size + its_size
        if part:
            yield batch_of(self.numbering.sender, part, count, items)


def _sealed(key: str, hour: int, series: _Open) -> Series:
    if series.histogram is not None:
        return Series(key, hour, series.first, histogram=series.histogram.body())
    return Series(key, hour, series.first, values=_little_endian(series.values))


def _little_endian(values: array[float]) -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
