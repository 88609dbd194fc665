"""Makes series of values and batches of series, 20 times a second, in the client's own thread.

Called by `engine`.

Running numbers of values: what lets the aggregator tell what is missing from what came twice.

A histogram of scale 6 in plain Python: what a client sends instead of values when there are too many of them.

It has the same buckets as `stats/histogram.py` and sums of the same exactness as `stats/exact_sum.py`, so that the
aggregator merges it without loss. Per value it costs 0.4 us, all of it in loops of the interpreter's own C code.
"""

from __future__ import annotations

import math
import sys
import uuid
from array import array
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from itertools import groupby, repeat
from operator import mul
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID

from metrics_app.client.buffer import MAX_BODY_BYTES, MAX_ITEMS, SERIES_BYTES, Batch, batch_of
from metrics_app.client.intake import TakenValues
from metrics_app.client.options import Options
from metrics_app.client.series import Series
from metrics_app.stats.exact_sum import UNIT_BITS
from metrics_app.stats.scale6 import END_BUCKET, FIRST_BUCKET, bound
from metrics_app.wire.chunk import VALUE_BYTES

SLICE = 1024  # values handled in one step of C code, during which no other thread of the app runs
RUN = 16_384  # values of a series at most
PARTS = 4  # of what may wait is a batch at most one, so that a few always may
BUCKET_BYTES = 3  # of a histogram in a body, about
WINDOW_S = 1.0


class _Open:
    """A series that may still grow."""

    __slots__ = ("count", "first", "histogram", "hour", "key", "sender", "values")

    def __init__(self, key: str, hour: int, place: Numbers, summed: bool) -> None:
        self.key = key
        self.hour = hour
        self.sender, self.first = place
        self.count = 0
        self.values = array("d")
        self.histogram = SentHistogram() if summed else None

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
        """Approximate number of bytes in a body."""
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

    def add(self, taken: TakenValues) -> None:
        """Numbers the values and adds them to their series."""
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

    def _fits(self, series: _Open, place: Numbers, summed: bool, count: int) -> bool:
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
        """Turns all gathered series into batches within the limits of a collector, each of one sender."""
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


KEPT_HOURS = 4  # whose numbers are remembered: those used last


class Numbers(NamedTuple):
    """The number of a value: a sender's, and which one it is of a key and hour."""

    sender: UUID
    first: int


class _NumberedHour:
    """The numbers given out in an hour: by key, the next one."""

    __slots__ = ("next", "sender")

    def __init__(self, sender: UUID) -> None:
        self.sender = sender
        self.next: Counter[str] = Counter()


class Numbering:
    """Numbers per key and hour, from 0 without a hole, under a sender of its own.

    A value gets its number when it leaves the app's threads. One that is dropped later leaves a hole, which answers
    show as `missing`: it was recorded, and it is not counted.

    Only the hours used last are remembered. An hour that comes back after it was forgotten, because the clock was set
    back, is numbered from 0 under a sender of its own: no number is given out twice.

    Attributes:
        sender: names this numbering; no other process, nor this one after a fork, has the same.
    """

    def __init__(self) -> None:
        self.sender = uuid.uuid4()
        self._hours: OrderedDict[int, _NumberedHour] = OrderedDict()
        self._newest_forgotten = -1
        self._void: set[int] = set()

    def take(self, key: str, hour: int, count: int) -> Numbers:
        """Assigns `count` numbers to values of a key and hour, and returns the first."""
        numbers = self._hour(hour)
        first = numbers.next[key]
        numbers.next[key] = first + count
        return Numbers(numbers.sender, first)

    def void(self, hour: int) -> None:
        """Gives an hour a new sender, because values of another hour used its numbers. Any thread may call it."""
        self._void.add(hour)

    def _hour(self, number: int) -> _NumberedHour:
        is_void = number in self._void
        hour = None if is_void else self._hours.get(number)
        if hour is None:
            self._void.discard(number)
            may_be_known = is_void or number <= self._newest_forgotten
            hour = self._hours[number] = _NumberedHour(uuid.uuid4() if may_be_known else self.sender)
        self._hours.move_to_end(number)
        if len(self._hours) > KEPT_HOURS:
            forgotten, _ = self._hours.popitem(last=False)
            self._newest_forgotten = max(self._newest_forgotten, forgotten)
        return hour


_UNIT = 2.0**UNIT_BITS
_BOUNDS = [bound(bucket) for bucket in range(FIRST_BUCKET, END_BUCKET + 1)]


class SentHistogram:
    """Counts of values, finite, 0 to 2**44; 100 bytes a bucket in use, 300 on their own.

    Attributes:
        count: number of values.
    """

    __slots__ = ("_above", "_high", "_low", "_squares", "_units", "_zeros", "count")

    def __init__(self) -> None:
        self.count = 0
        self._above: Counter[int] = Counter()  # by number of bounds below the value; 0 is the zero bucket
        self._zeros = 0
        self._low = math.inf
        self._high = -math.inf
        self._units = 0
        self._squares = 0

    def add(self, values: Sequence[float]) -> None:
        """Counts each of the values; there must be at least one."""
        self.count += len(values)
        self._low, self._high = min(self._low, *values), max(self._high, *values)
        self._zeros += values.count(0.0)
        self._above.update(map(bisect_left, repeat(_BOUNDS), values))
        units = list(map(int, map(_UNIT.__mul__, values)))
        self._units += sum(units)
        self._squares += sum(map(mul, units, units))

    @property
    def buckets(self) -> int:
        """Number of buckets in use."""
        return len(self._above)

    def body(self) -> dict[str, Any]:
        """The member `histogram` of a series of `POST /samples`, for JSON or MessagePack."""
        used = self._above.keys() - {0}
        first, end = (min(used), max(used) + 1) if used else (1, 1)
        return {
            "min": float(self._low),
            "max": float(self._high),
            "sum": f"{self._units:x}",
            "squares": f"{self._squares:x}",
            "zeros": self._zeros,
            "tiny": self._above[0] - self._zeros,
            "offset": FIRST_BUCKET + first - 1,
            "counts": [self._above[above] for above in range(first, end)],
        }
