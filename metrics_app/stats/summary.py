"""The statistics of one key in one hour, and how good each of them is.

Called by `codec`, `comparison`, `intervals`, `aggregator` and others.

Everything is exact while at most `exact_distinct` distinct values were added. Then quantiles come from a histogram,
within 0.5416 % of the true value; count, min and max stay exact, and so do sum, average and stddev unless there are
values in (0, 2**-12], of which the histogram's sums cut off less than 2**-64 each. Every answer says which it is. All
of it depends only on which values were added, not on their order, their batches or the merges in between: two summaries
of the same values, with the same `exact_distinct`, answer alike to the last bit and encode to the same bytes.

Memory: 184 bytes for one value and 8 for each further one until it is counted, at RECENT_MAX or when the row is read;
then 16 for each distinct value. A histogram takes 512 per octave of its range.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from metrics_app.stats import block_sum, exact_sum
from metrics_app.stats.distinct import Distinct, sorted_counts
from metrics_app.stats.enclosed import Answer, Moments, down, up
from metrics_app.stats.exact_sum import Sums
from metrics_app.stats.histogram import Counts, Histogram, Ranked, Values, bounds
from metrics_app.stats.statistic import STATS, Stat, parse_stat

__all__ = [
    "EXACT_DISTINCT",
    "STATS",
    "Answer",
    "Bucket",
    "Buckets",
    "HourlySummary",
    "Stat",
    "parse_stat",
    "value_of",
]

EXACT_DISTINCT = 1000
SMALL = 32  # values up to which a loop is faster than numpy's calls
OF_MOMENTS = {"sum", "average", "stddev"}
RECENT_MAX = 8192  # values of smaller additions that wait to be counted together


class Bucket(NamedTuple):
    """`number` values above `gt`, up to and including `le`."""

    gt: float
    le: float
    number: int


class Buckets(NamedTuple):
    """Scale-6 buckets as OTLP has them: counts[i] values in (2**((offset+i)/64), 2**((offset+i+1)/64)].

    `zero_count` values are not above 2**-20, the zero threshold. Neither the first nor the last count is 0.
    """

    zero_count: int
    offset: int
    counts: Counts

    @property
    def listed(self) -> list[Bucket]:
        """Those that hold anything, ascending, without the zero bucket."""
        return [Bucket(*bounds(self.offset + at), int(self.counts[at])) for at in np.flatnonzero(self.counts).tolist()]


class HourlySummary:
    """Statistics of the values added.

    Attributes:
        exact_distinct: distinct values, >= 0, up to which quantiles are exact; beyond that they never are again.
        count: number of values.
    """

    __slots__ = ("_distinct", "_histogram", "_recent", "count", "exact_distinct")

    def __init__(self, exact_distinct: int = EXACT_DISTINCT) -> None:
        self.exact_distinct = exact_distinct
        self.count = 0
        # Each value is in one of these. Reading may move values from the first to the others, which changes no answer.
        self._recent = array("d")
        self._distinct: Distinct | None = None
        self._histogram: Histogram | None = None

    @classmethod
    def of_counts(cls, values: list[float], times: list[int], exact_distinct: int = EXACT_DISTINCT) -> HourlySummary:
        """The summary of each value as often as the list beside it says.

        Args:
            values: ascending, no two equal, 0 <= value <= 2**44.
            times: as long, each at least 1.
        """
        summary = cls(exact_distinct)
        summary.count = sum(times)
        if summary.count == len(values) <= SMALL:
            summary._recent = array("d", values)
        elif values:
            summary._take(np.array(values), np.array(times, np.int64))
        return summary

    @classmethod
    def of_histogram(cls, histogram: Histogram, count: int, exact_distinct: int = EXACT_DISTINCT) -> HourlySummary:
        """The summary of the `count` values in a histogram, which is taken over, not copied."""
        summary = cls(exact_distinct)
        summary.count = count
        summary._histogram = histogram
        return summary

    def add(self, values: Values) -> None:
        """Adds the values of a one-dimensional float64 array, each finite and 0 <= value <= 2**44."""
        self.count += len(values)
        if len(values) >= RECENT_MAX:
            self._add_many(values)
            return
        self._recent.frombytes(np.ascontiguousarray(values, np.float64).view(np.uint8))  # type: ignore[arg-type]  # a buffer
        if len(self._recent) >= RECENT_MAX:
            self._settle()

    def merge(self, other: HourlySummary) -> None:
        """Adds everything that another summary holds; the other one stays as it is."""
        exact = other.exact
        self.count += other.count
        if not exact:
            self._switched().merge(other._switched())
        elif other._distinct is not None:
            self._take(other._distinct.values, other._distinct.times)
        self._recent.extend(other._recent)
        if len(self._recent) >= RECENT_MAX:
            self._settle()

    @property
    def exact(self) -> bool:
        """Whether quantiles are exact."""
        known = 0 if self._distinct is None else len(self._distinct.values)
        if self._histogram is None and known + len(self._recent) > self.exact_distinct:
            self._settle()
        return self._histogram is None

    @property
    def distinct(self) -> tuple[list[float], list[int]] | None:
        """The distinct values, ascending, and how often each was added; None when quantiles are not exact."""
        if not self.exact:
            return None
        if self._distinct is None and len(self._recent) <= SMALL:
            return sorted_counts(self._recent)
        counted = self._counted()
        return counted.values.tolist(), counted.times.tolist()

    @property
    def histogram(self) -> Histogram | None:
        """The histogram that quantiles come from, not to be changed; None while they are exact."""
        if not self.exact:
            self._settle()
        return self._histogram

    @property
    def min(self) -> float:
        """Least value; ValueError when there is none."""
        return self.ranked(0).estimate

    @property
    def max(self) -> float:
        """Greatest value; ValueError when there is none."""
        return self.ranked(self.count - 1).estimate

    @property
    def sum(self) -> float:
        """Sum of the values; `moments` says how good it is."""
        return self.moments.sum.value

    @property
    def moments(self) -> Moments:
        """What sum, average and standard deviation come from."""
        if (histogram := self.histogram) is not None:
            return Moments(self.count, histogram.sums, histogram.cut, histogram.low, histogram.high)
        counted = self._counted()
        low, high = (float(counted.values[0]), float(counted.values[-1])) if self.count else (0.0, 0.0)
        return Moments(self.count, self._sums(counted.values, counted.times), 0, low, high)

    def quantile(self, q: Fraction | float) -> Answer:
        """The value at rank q * (count - 1) of the sorted values, which is exact; interpolated between whole ranks.

        That is numpy's definition. While quantiles are not exact, it is interpolated in the same way between the
        estimates of two buckets, never outside [min, max]. The error bound is relative: 0.005416, or 1.0 where values
        in (0, 2**-20] take part, whose estimate is 0.

        Args:
            q: 0 (least) to 1 (greatest); a float stands for exactly the number that it is, and 0.07 is not 7/100.

        Raises:
            ValueError: `q` is out of range or NaN, or there is no value.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q {q!r}: expected 0.0 to 1.0")
        part, whole = q.as_integer_ratio()
        rank, rest = divmod(part * (self.count - 1), whole)
        below = self.ranked(rank)
        above = self.ranked(rank + 1) if rest else below
        if below == above:  # as most are, in a histogram of many values: nothing lies between
            return Answer(below.estimate, below.lo, below.hi, not below.error_bound, below.error_bound)
        numerator, denominator = _interpolated(below.estimate, above.estimate, rest, whole)
        value = numerator / denominator  # of integers, which Python rounds once, to the nearest
        error_bound = max(below.error_bound, above.error_bound)
        if not error_bound:
            return Answer(value, value, value, True, 0.0)
        lo, hi = (Fraction(*_interpolated(*ends, rest, whole)) for ends in ((below.lo, above.lo), (below.hi, above.hi)))
        return Answer(value, down(lo), up(hi), False, error_bound)

    def scale6_buckets(self) -> Buckets:
        """The values as buckets of a scale-6 exponential histogram, also while quantiles are exact."""
        if (histogram := self.histogram) is None:
            histogram = Histogram()
            if self.count:
                counted = self._counted()
                histogram.add_counts(counted.values, counted.times)
        used = np.flatnonzero(histogram.counts)
        first, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
        return Buckets(histogram.zeros + histogram.tiny, histogram.offset + first, histogram.counts[first:end].copy())

    def at_most(self, limit: float) -> tuple[int, int]:
        """The number of values <= limit lies between these two; they are equal while quantiles are exact."""
        if (histogram := self.histogram) is not None:
            return histogram.at_most(limit)
        counted = self._counted()
        number = int(counted.times[: np.searchsorted(counted.values, limit, side="right")].sum())
        return number, number

    def settled(self) -> HourlySummary:
        """The same for who asks more than once: itself, or a copy in the form in which answers are read off."""
        if self._histogram is not None or self._distinct is not None or len(self._recent) > SMALL:
            return self
        copy = HourlySummary(self.exact_distinct)
        copy.count, copy._distinct = self.count, self._counted()
        return copy

    def ranked(self, rank: int) -> Ranked:
        """What is known of the value at a rank, 0 to count - 1; ValueError when there is no value."""
        self.require_values()
        if (histogram := self.histogram) is not None:
            return histogram.ranked(rank, self.count)
        value = self._counted().at(rank)
        return Ranked(value, value, value, 0.0)

    def require_values(self) -> None:
        """ValueError when there is none."""
        if not self.count:
            raise ValueError("nothing was added")

    def _sums(self, values: Values, times: Counts) -> Sums:
        above = values[values > 0.0]
        bits = exact_sum.bits_for(float(above[0])) if len(above) else exact_sum.UNIT_BITS
        if bits == exact_sum.UNIT_BITS and SMALL < self.count <= 4 * len(values):
            # repeating them costs less than sums in Python integers
            return block_sum.of_array(np.repeat(values, times), float(values[0]), float(values[-1]))
        return exact_sum.of_counts(zip(values.tolist(), times.tolist(), strict=True), bits)

    def _counted(self) -> Distinct:
        """All values of an exact summary; a small summary is not converted to the larger form."""
        if self._distinct is None and len(self._recent) <= SMALL:
            values, times = sorted_counts(self._recent)
            return Distinct(np.array(values), np.array(times, np.int64))
        self._settle()
        assert self._distinct is not None
        return self._distinct

    def _add_many(self, values: Values) -> None:
        if self._histogram is None:
            distinct, times = np.unique(values + 0.0, return_counts=True)
            if len(distinct) <= self.exact_distinct:
                self._take(distinct, times)
                return
        self._switched().add(values)

    def _settle(self) -> None:
        if self._recent:
            values, self._recent = np.frombuffer(self._recent), array("d")
            self._add_many(values)

    def _take(self, values: Values, times: Counts) -> None:
        if self._histogram is not None:
            self._histogram.add_counts(values, times)
            return
        if self._distinct is None:
            self._distinct = Distinct()
        self._distinct.add_counts(values, times)
        if len(self._distinct.values) > self.exact_distinct:
            self._switched()

    def _switched(self) -> Histogram:
        if self._histogram is None:
            self._histogram = Histogram()
            if self._distinct is not None:
                self._histogram.add_counts(self._distinct.values, self._distinct.times)
                self._distinct = None
        return self._histogram


def values_of(summary: HourlySummary, stats: Iterable[str]) -> dict[str, Answer]:
    """The answers to several names of statistics; what several of them are made of is made once.

    Raises:
        InvalidQueryError, ValueError: as `value_of`.
    """
    found: dict[str, Answer] = {}
    moments = summary.moments
    for stat in stats:
        if stat in OF_MOMENTS:
            summary.require_values()
            found[stat] = getattr(moments, stat)
        else:
            found[stat] = value_of(summary, stat)
    return found


def value_of(summary: HourlySummary, stat: str) -> Answer:
    """The answer to a statistic's name, "median" or "p99.9" say; a count is an int.

    Raises:
        InvalidQueryError: part "stat".
        ValueError: there is no value, and it is neither count nor sum.
    """
    name, q = parse_stat(stat)
    if q is not None:
        return summary.quantile(q)
    if name in ("count", "min", "max"):
        value: float = getattr(summary, name)
        return Answer(value, value, value, True, 0.0)
    if name != "sum":
        summary.require_values()
    answer: Answer = getattr(summary.moments, name)
    return answer


def _interpolated(a: float, b: float, part: int, whole: int) -> tuple[int, int]:
    """Numerator and denominator of a + (b - a) * part / whole."""
    a_units, a_unit = a.as_integer_ratio()
    b_units, b_unit = b.as_integer_ratio()
    unit = max(a_unit, b_unit)  # both are powers of two
    return a_units * (unit // a_unit) * (whole - part) + b_units * (unit // b_unit) * part, unit * whole
