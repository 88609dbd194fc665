"""Names of statistics, as they stand in a query URL.

Called by `comparison`, `summary` and `query.answer`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from metrics_app.errors import InvalidQueryError

STATS = ("average", "min", "max", "median", "count", "sum", "stddev", "p90", "p95", "p99", "p99.9")

EXPECTED = "average, min, max, median, count, sum, stddev, summary or a percentile p0 to p100 with up to 3 decimals"

_SIMPLE = frozenset({"average", "min", "max", "count", "sum", "stddev"})
_PERCENTILE = re.compile(r"p(100(?:\.0{1,3})?|[0-9]{1,2}(?:\.[0-9]{1,3})?)")


class Stat(NamedTuple):
    """A statistic: `q`, 0 to 1, for a quantile, exact; None for those that have a name of their own."""

    name: str
    q: Fraction | None = None


@lru_cache(1024)
def parse_stat(stat: str) -> Stat:
    """The statistic of that name; the median is p50.

    Raises:
        InvalidQueryError: part "stat".
    """
    if stat in _SIMPLE:
        return Stat(stat)
    if stat == "median":
        return Stat(stat, Fraction(1, 2))
    percentile = _PERCENTILE.fullmatch(stat)
    if percentile is None:
        raise InvalidQueryError("stat", stat, EXPECTED)
    whole, _, decimals = percentile[1].partition(".")
    return Stat(stat, Fraction(int(whole + decimals.ljust(3, "0")), 100_000))
