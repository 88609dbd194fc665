"""Compares the values of two times: are those of one slower? Quantiles against quantiles, and a verdict.

Called by `query.compared` and `query.ranking`.

For p50, p95 and p99 each side gets an interval from order statistics (`intervals.py`), of a confidence such that all
six hold at once with 95 %: 12 tails of 0.05 / 12 each (Bonferroni). Then the true shift of a quantile, and its ratio,
lie between what the ends of the two intervals allow, all three at once with 95 %, whatever the distributions are. So if
the quantiles have not changed, the chance that an interval says one has is at most FALSE_ALARM; it is far less in fact,
for the ends of both intervals would have to be off. An estimate's bucket is part of its interval.

    same      all three ratios surely lie within MARGIN of 1
    slower    else: a quantile has surely risen, and none surely fallen
    faster    the other way round
    unclear   else: too few values, or some quantiles have risen and others fallen

The Kolmogorov-Smirnov distance is the greatest difference of the two shares of values up to any limit; it sees changes
beside the three quantiles. It has no part in the verdict: with many values it finds differences that matter to nobody.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from metrics_app.stats.enclosed import down, exactly, up
from metrics_app.stats.histogram import Counts, Values
from metrics_app.stats.intervals import Interval, of_quantile
from metrics_app.stats.statistic import parse_stat
from metrics_app.stats.summary import Buckets, HourlySummary, value_of

COMPARED = ("p50", "p95", "p99")
FALSE_ALARM = 0.05
MARGIN = 0.10

SAME, SLOWER, FASTER, UNCLEAR = "same", "slower", "faster", "unclear"

_TAIL = FALSE_ALARM / (2 * 2 * len(COMPARED))
LEAST_COUNT = math.ceil(-math.log2(_TAIL))  # with fewer values not even the median has an interval


class Shift(NamedTuple):
    """How a quantile differs; the intervals hold the true ones, all compared quantiles at once, with 95 %.

    Attributes:
        value, baseline: of the two sides.
        shift: value - baseline.
        ratio: value / baseline; None over 0, or where no float64 is so great.
        shift_interval, ratio_interval: None when a side has too few values; the ratio's also where it has no end.
    """

    stat: str
    value: float
    baseline: float
    shift: float
    shift_interval: Interval | None
    ratio: float | None
    ratio_interval: Interval | None


class Distance(NamedTuple):
    """Kolmogorov-Smirnov: lo <= distance <= hi, equal when both sides are exact.

    Attributes:
        p_value: chance of a distance of at least `lo` between samples of one distribution (asymptotic; too great for
            values that repeat).
    """

    lo: float
    hi: float
    p_value: float


class Comparison(NamedTuple):
    """All of it, and why."""

    shifts: list[Shift]
    distance: Distance
    verdict: str
    reason: str


def compare(summary: HourlySummary, baseline: HourlySummary) -> Comparison:
    """How a summary differs from a baseline; both hold values."""
    shifts = shifts_of(summary, baseline)
    return Comparison(shifts, distance(summary, baseline), *_verdict(shifts))


def shifts_of(summary: HourlySummary, baseline: HourlySummary) -> list[Shift]:
    """How each of the quantiles compared differs."""
    return [_shift(stat, summary, baseline) for stat in COMPARED]


def sure_factor(shifts: list[Shift]) -> float:
    """By what factor a quantile has surely changed, up or down, the one that has most; 1.0 when none has.

    It is the end of the ratio's interval that is nearer to 1, so few values make no great change.
    """
    ratios = [each.ratio_interval for each in shifts if each.ratio_interval is not None]
    risen = max((ratio.lo for ratio in ratios), default=1.0)
    fallen = max((1.0 / ratio.hi for ratio in ratios if ratio.hi > 0.0), default=1.0)
    return max(1.0, risen, fallen)


def distance(a: HourlySummary, b: HourlySummary) -> Distance:
    """The Kolmogorov-Smirnov distance of two summaries."""
    lo, hi = _bounds_of_distance(a, b)
    least, most = (exactly(lo).value,) * 2 if lo == hi else (down(lo), up(hi))
    root = math.sqrt(a.count / (a.count + b.count) * b.count)
    return Distance(least, most, smirnov((root + 0.12 + 0.11 / root) * least))


def _shift(stat: str, summary: HourlySummary, baseline: HourlySummary) -> Shift:
    value, base = value_of(summary, stat).value, value_of(baseline, stat).value
    q = parse_stat(stat).q
    assert q is not None
    ours, theirs = of_quantile(summary, q, _TAIL), of_quantile(baseline, q, _TAIL)
    shift_interval = ratio_interval = None
    if ours is not None and theirs is not None:
        shift_interval = _outward(Fraction(ours.lo) - Fraction(theirs.hi), Fraction(ours.hi) - Fraction(theirs.lo))
        if theirs.lo > 0.0 and math.isfinite(ours.hi / theirs.lo):
            ratio_interval = _outward(Fraction(ours.lo) / Fraction(theirs.hi), Fraction(ours.hi) / Fraction(theirs.lo))
    ratio = value / base if base and math.isfinite(value / base) else None
    return Shift(stat, value, base, value - base, shift_interval, ratio, ratio_interval)


def _outward(lo: Fraction, hi: Fraction) -> Interval:
    return Interval(down(lo), up(hi))


def _verdict(shifts: list[Shift]) -> tuple[str, str]:
    risen = [each.stat for each in shifts if each.shift_interval is not None and each.shift_interval.lo > 0.0]
    fallen = [each.stat for each in shifts if each.shift_interval is not None and each.shift_interval.hi < 0.0]
    if all(_within_margin(each) for each in shifts):
        return SAME, f"{_listed(COMPARED)} differ by less than {MARGIN:.0%}"
    if risen and fallen:
        return UNCLEAR, f"{_listed(risen)} rose, {_listed(fallen)} fell"
    if risen or fallen:
        return (SLOWER, f"{_listed(risen)} rose") if risen else (FASTER, f"{_listed(fallen)} fell")
    return UNCLEAR, f"too few values to tell a change of {MARGIN:.0%} from chance"


def _within_margin(shift: Shift) -> bool:
    if shift.shift_interval == (0.0, 0.0):  # also where both are 0, and have no ratio
        return True
    ratio = shift.ratio_interval
    return ratio is not None and ratio.lo >= 1.0 - MARGIN and ratio.hi <= 1.0 + MARGIN


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]


def _bounds_of_distance(a: HourlySummary, b: HourlySummary) -> tuple[Fraction, Fraction]:
    whole = a.count * b.count
    if a.distinct is not None and b.distinct is not None:
        limits = np.union1d(a.distinct[0], b.distinct[0])
        # of shares over a common denominator, in Python's integers, which do not round
        ours, theirs = _up_to(a, limits).astype(object) * b.count, _up_to(b, limits).astype(object) * a.count
        gap = Fraction(abs(ours - theirs).max(), whole)
        return gap, gap
    of_ours, of_theirs = _up_to_bucket(a.scale6_buckets(), b.scale6_buckets())
    ours, theirs = of_ours.astype(object) * b.count, of_theirs.astype(object) * a.count
    # within a bucket one side may have all of its values before the first of the other
    before_ours, before_theirs = (np.concatenate([[0], numbers[:-1]]) for numbers in (ours, theirs))
    most = max((ours - before_theirs).max(), (theirs - before_ours).max())
    return Fraction(abs(ours - theirs).max(), whole), Fraction(most, whole)


def _up_to(summary: HourlySummary, limits: Values) -> Counts:
    """How many values are at most each limit."""
    assert summary.distinct is not None
    values, times = (np.array(each) for each in summary.distinct)
    sums = np.concatenate([[0], np.cumsum(times)])
    numbers: Counts = sums[np.searchsorted(values, limits, side="right")]
    return numbers


def _up_to_bucket(*both: Buckets) -> list[Counts]:
    """How many values of each side are up to the end of each bucket, the zero bucket first, over all buckets in use."""
    used = [each for each in both if len(each.counts)]
    first = min((each.offset for each in used), default=0)
    end = max((each.offset + len(each.counts) for each in used), default=0)
    found = []
    for zero_count, offset, counts in both:
        numbers = np.zeros(1 + end - first, np.int64)
        numbers[0] = zero_count
        if len(counts):
            numbers[1 + offset - first : 1 + offset - first + len(counts)] = counts
        found.append(np.cumsum(numbers))
    return found


def smirnov(x: float) -> float:
    """P(sup |B| >= x) of the Brownian bridge B (Smirnov 1948); x is corrected for small samples (Stephens 1970)."""
    if x < 0.3:  # the series needs ever more terms and the sum is 1 to five digits
        return 1.0
    return min(1.0, 2.0 * sum((1 if k % 2 else -1) * math.exp(-2.0 * k * k * x * x) for k in range(1, 101)))
