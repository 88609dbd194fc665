"""Base-2 exponential histogram of scale 6: the buckets of OTLP and of Prometheus native histograms.

Called by `codec`, `comparison`, `summary` and `wire.columnar_body`.

The buckets are those of `scale6.py`. What is not above 2**-20 is OTLP's zero bucket, of which the true zeros are
counted apart. A bucket's estimate 2lu/(l+u) is within ERROR_BOUND of everything in it. Buckets are found by comparing
with exact bounds, not with a logarithm, so that every machine agrees.

Memory: 8 bytes a bucket over the octaves in use, 512 bytes each; response times spanning 1 ms to 10 s take 7 KB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics_app.stats import block_sum, exact_sum
from metrics_app.stats.block_sum import BLOCK
from metrics_app.stats.exact_sum import NOTHING, WHOLE
from metrics_app.stats.scale6 import (
    ERROR_BOUND,
    FIRST_BUCKET,
    FIRST_OCTAVE,
    LAST_OCTAVE,
    OCTAVE,
    PER_OCTAVE,
    SCALE,
    ZERO_MAX,
    bound,
)

__all__ = [
    "ERROR_BOUND",
    "FIRST_OCTAVE",
    "LAST_OCTAVE",
    "PER_OCTAVE",
    "SCALE",
    "ZERO_MAX",
    "Counts",
    "Histogram",
    "Ranked",
    "Values",
    "bounds",
    "buckets_of",
]

Values = NDArray[np.float64]
Counts = NDArray[np.int64]


class Ranked(NamedTuple):
    """What is known of the value at a rank: lo <= value <= hi, and |estimate - value| <= error_bound * value."""

    estimate: float
    lo: float
    hi: float
    error_bound: float


# Slices of 1/128 octave are narrower than any bucket, so each holds at most one bound. The bits of a value before the
# last 45, its exponent and 7 bits of its mantissa, are the slice it is in. What is added to the bits turns the slice
# into the bucket, and makes the last 45 carry into it when they are above the bound in the slice.
_SLICE_SHIFT = 52 - SCALE - 1


def _steps() -> Counts:
    """What is added in each slice. Those below the first one are never read, and so take no memory."""
    octaves = np.arange(FIRST_OCTAVE, LAST_OCTAVE + 1)[:, None]
    edges = np.append(np.ldexp(np.array(OCTAVE), octaves).ravel(), 2.0 ** (LAST_OCTAVE + 1)).view(np.int64)
    slices = np.arange(edges[0] >> _SLICE_SHIFT, (edges[-1] >> _SLICE_SHIFT) + 1)
    starts = slices << _SLICE_SHIFT
    after = np.searchsorted(edges, starts)  # of the first bound in or behind a slice, the bucket above it
    most = (1 << _SLICE_SHIFT) - 1
    steps: Counts = np.zeros(slices[-1] + 1, np.int64)
    steps[slices] = after - 1 - slices << _SLICE_SHIFT
    steps[slices] += most - np.minimum(edges[after] - starts, most)
    return steps


_STEPS = _steps()
_WHOLE_BUCKET = int(math.log2(WHOLE)) * PER_OCTAVE  # the first one of values above WHOLE


def buckets_of(values: Values) -> Counts:
    """Bucket number of each value, all above ZERO_MAX."""
    return _numbers(values) + FIRST_BUCKET


def _numbers(values: Values) -> Counts:
    """Bucket number of each value, all above ZERO_MAX, counted from FIRST_BUCKET."""
    bits = values.view(np.int64)
    found: Counts = _STEPS.take(bits >> _SLICE_SHIFT)
    found += bits
    found >>= _SLICE_SHIFT
    return found


def bounds(bucket: int) -> tuple[float, float]:
    """Lower (exclusive) and upper (inclusive) bound of a bucket."""
    return bound(bucket), bound(bucket + 1)


@lru_cache(LAST_OCTAVE * PER_OCTAVE)
def _known_of(bucket: int) -> Ranked:
    """What is known of a value in a bucket; 2lu/(l+u) is within the bound of everything in it."""
    lo, hi = bounds(bucket)
    return Ranked(2 * lo * hi / (lo + hi), lo, hi, ERROR_BOUND)


class Histogram:
    """Counts per bucket, with the exact sums and extremes of what was counted. Its state depends on nothing but that.

    Attributes:
        zeros, tiny: values equal to 0, and in (0, ZERO_MAX].
        offset: number of the bucket that counts[0] is of; a multiple of PER_OCTAVE, as is the length of counts.
        low, high: least and greatest value.
    """

    __slots__ = ("_ends", "counts", "high", "low", "offset", "sums", "tiny", "zeros")

    def __init__(self) -> None:
        self.zeros = 0
        self.tiny = 0
        self.offset = 0
        self.counts: Counts = np.zeros(0, np.int64)
        self._ends: Counts | None = None  # running totals of counts, until these change
        self.low = math.inf
        self.high = -math.inf
        self.sums = NOTHING

    @property
    def cut(self) -> int:
        """How many values may have lost less than a unit each in the sums: those in (0, WHOLE]."""
        end = min(max(_WHOLE_BUCKET - self.offset, 0), len(self.counts))
        return self.tiny + int(self.counts[:end].sum())

    def add(self, values: Values) -> None:
        """Counts each value of an array once; finite, 0 to 2**44."""
        for start in range(0, len(values), BLOCK):
            block = values[start : start + BLOCK]
            low, high = float(block.min()) + 0.0, float(block.max()) + 0.0  # + 0.0 makes -0.0 a plain zero
            self.low, self.high = min(self.low, low), max(self.high, high)
            self.sums = self.sums.plus(block_sum.of_array(block, low, high))
            if low <= ZERO_MAX:
                nonzero = int(np.count_nonzero(block))
                self.zeros += len(block) - nonzero
                block = block[block > ZERO_MAX]
                self.tiny += nonzero - len(block)
            if len(block):
                counts = np.bincount(_numbers(block))
                first = int((counts > 0).argmax())
                self.count_in(FIRST_BUCKET + first, counts[first:])

    def add_counts(self, values: Values, times: Counts) -> None:
        """Counts each value as often as the array beside it says; ascending, at least one."""
        if int(times.sum()) <= 4 * len(values):  # repeating them costs less than sums in Python integers
            self.add(np.repeat(values, times))
            return
        self.low, self.high = min(self.low, float(values[0])), max(self.high, float(values[-1]))
        self.sums = self.sums.plus(exact_sum.of_counts(zip(values.tolist(), times.tolist(), strict=True)))
        zeros, small = np.searchsorted(values, [0.0, ZERO_MAX], side="right").tolist()
        self.zeros += int(times[:zeros].sum())
        self.tiny += int(times[zeros:small].sum())
        if small < len(values):
            buckets = buckets_of(values[small:])
            self._cover(int(buckets[0]), int(buckets[-1]))
            np.add.at(self.counts, buckets - self.offset, times[small:])

    def merge(self, other: Histogram) -> None:
        """Counts what another histogram has counted."""
        self.zeros += other.zeros
        self.tiny += other.tiny
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.sums = self.sums.plus(other.sums)
        self.count_in(other.offset, other.counts)

    def count_in(self, offset: int, counts: Sequence[int] | Counts) -> None:
        """Counts values known by bucket alone, the first bucket being `offset`; sums and extremes are the caller's."""
        if len(counts):
            self._cover(offset, offset + len(counts) - 1)
            at = offset - self.offset
            self.counts[at : at + len(counts)] += counts

    def ranked(self, rank: int, count: int) -> Ranked:
        """What is known of the value at a rank, 0 to count - 1, of all `count` values."""
        if rank == 0:
            return Ranked(self.low, self.low, self.low, 0.0)
        if rank == count - 1:
            return Ranked(self.high, self.high, self.high, 0.0)
        if rank < self.zeros:
            return Ranked(0.0, 0.0, 0.0, 0.0)
        if rank < self.zeros + self.tiny:
            return self._clamped(0.0, 0.0, ZERO_MAX, 1.0)
        nth = rank - self.zeros - self.tiny
        if self._ends is None:
            self._ends = np.cumsum(self.counts)
        return self._clamped(*_known_of(self.offset + int(self._ends.searchsorted(nth, side="right"))))

    def at_most(self, limit: float) -> tuple[int, int]:
        """The number of values <= limit lies between these two, which are equal where a bucket ends."""
        total = self.zeros + self.tiny + int(self.counts.sum())
        if limit < self.low:
            return 0, 0
        if limit >= self.high:
            return total, total
        known, cut = self._around(limit)
        return max(known, 1), min(known + cut, total - 1)  # low is one of them, high is not

    def _around(self, limit: float) -> tuple[int, int]:
        """Values in the buckets that end at or below a limit in [low, high), and in the one that it cuts."""
        if limit < ZERO_MAX:
            return self.zeros, self.tiny if limit else 0
        known = self.zeros + self.tiny
        if limit == ZERO_MAX:
            return known, 0
        bucket = int(buckets_of(np.array([limit]))[0])
        at = bucket - self.offset
        if at < 0:
            return known, 0
        ends = limit == bounds(bucket)[1]
        return known + int(self.counts[: at + ends].sum()), 0 if ends else int(self.counts[at])

    def _clamped(self, estimate: float, lo: float, hi: float, error_bound: float) -> Ranked:
        if lo < self.low or hi > self.high:
            estimate, lo, hi = (min(max(each, self.low), self.high) for each in (estimate, lo, hi))
        return Ranked(estimate, lo, hi, error_bound if lo < hi else 0.0)

    def _cover(self, first: int, last: int) -> None:
        """Makes room for the buckets first to last, which are to be changed."""
        self._ends = None
        end = self.offset + len(self.counts)
        if self.offset <= first and last < end:
            return
        first, last = first // PER_OCTAVE * PER_OCTAVE, last // PER_OCTAVE * PER_OCTAVE + PER_OCTAVE
        if len(self.counts):
            first, last = min(first, self.offset), max(last, end)
        counts: Counts = np.zeros(last - first, np.int64)
        counts[self.offset - first : end - first] = self.counts
        self.offset, self.counts = first, counts
