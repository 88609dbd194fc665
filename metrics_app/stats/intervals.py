"""Confidence intervals of quantiles from order statistics: no assumption about the distribution, exact ranks.

Called by `comparison` and `query`.

Of n independent values of one distribution, how many are not above its q-quantile x is binomial(n, q). So the l-th
smallest value lies above x only if fewer than l of them are not, and the u-th smallest lies below x only if at least u
are: two tails of that binomial, each made no larger than asked for. Ties and discrete values make them smaller still.
(David and Nagaraja, Order Statistics, 3rd ed. 2003, section 7.1; Hahn and Meeker, Statistical Intervals, 1991, section
5.2.) Where even the least or the greatest value is not far enough out, there is no such interval.

What it does not know: response times of one service come in bad minutes, they are not independent. Read an interval as
the least that is uncertain.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from metrics_app.stats.summary import HourlySummary

TAIL_95 = 0.025
SPREAD_MAX = 100.0  # ranks; a wider binomial is taken for normal, and the interval three ranks wider on each side

_REACH = 8.0  # standard deviations, and 20 ranks, that are looked at: the rest is below 1e-12
_MARGIN = 1e-9  # relative; more than the sums below can be off


class Interval(NamedTuple):
    """Between what a quantile of the distribution lies, unless one is unlucky."""

    lo: float
    hi: float


def of_quantile(summary: HourlySummary, q: Fraction | float, tail: float = TAIL_95) -> Interval | None:
    """An interval that holds the q-quantile of the distribution the values came from; None when there are too few.

    Where the values are known by their buckets only, it reaches to the bounds of the buckets.

    Args:
        q: 0 to 1; there is never one for the ends.
        tail: greatest probability, 0 to 0.5, of lying above the quantile, and of lying below it.
    """
    found = ranks(summary.count, float(q), tail)
    return None if found is None else Interval(summary.ranked(found[0]).lo, summary.ranked(found[1]).hi)


@lru_cache(maxsize=1 << 12)
def ranks(count: int, q: float, tail: float) -> tuple[int, int] | None:
    """Ranks, from 0, of the ends of the interval among `count` sorted values; None when there are too few values."""
    if not 0.0 < q < 1.0 or not count:
        return None
    if count * max(math.log(q), math.log1p(-q)) > math.log(tail) * (1.0 - _MARGIN):
        return None  # all of them lie on one side too often; the sums below would come to the same
    narrow = math.sqrt(count * q * (1.0 - q)) <= SPREAD_MAX
    lower, upper = exact_ranks(count, q, tail) if narrow else normal_ranks(count, q, tail)
    return (lower - 1, upper - 1) if lower >= 1 and upper <= count else None


def exact_ranks(count: int, q: float, tail: float) -> tuple[int, int]:
    """The greatest l with P(B < l) <= tail, the least u with P(B >= u) <= tail, B binomial(count, q)."""
    mean, spread = count * q, math.sqrt(count * q * (1.0 - q))
    first = max(0, math.floor(mean - _REACH * spread - 20))
    last = min(count, math.ceil(mean + _REACH * spread + 20))
    steps = np.arange(first, last, dtype=float)
    # each probability from the one before it; relative to the greatest, so that nothing overflows
    logs = np.concatenate([[0.0], np.cumsum(np.log((count - steps) / (steps + 1.0)) + math.log(q / (1.0 - q)))])
    chances = np.exp(logs - logs.max())
    chances /= chances.sum()
    allowed = tail * (1.0 - _MARGIN)
    below = int(np.searchsorted(np.cumsum(chances), allowed, side="right"))
    above = int(np.searchsorted(np.cumsum(chances[::-1]), allowed, side="right"))
    return first + below, last + 1 - above


def normal_ranks(count: int, q: float, tail: float) -> tuple[int, int]:
    """The same two ranks by the normal approximation, each 3 further out so that the interval is never narrower."""
    reach = NormalDist().inv_cdf(1.0 - tail) * math.sqrt(count * q * (1.0 - q))
    return math.floor(count * q - reach) - 3, math.ceil(count * q + reach) + 3
