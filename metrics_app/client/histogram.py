"""A histogram of scale 6 in plain Python: what a client sends instead of values when there are too many of them.

It has the same buckets as `stats/histogram.py` and sums of the same exactness as `stats/exact_sum.py`, so that the
aggregator merges it without loss. Per value it costs 0.4 us, all of it in loops of the interpreter's own C code.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import repeat
from operator import mul
from typing import Any

from metrics_app.stats.exact_sum import UNIT_BITS
from metrics_app.stats.scale6 import END_BUCKET, FIRST_BUCKET, bound

_UNIT = 2.0**UNIT_BITS
_BOUNDS = [bound(bucket) for bucket in range(FIRST_BUCKET, END_BUCKET + 1)]


class Histogram:
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
        """Counts each value once; at least one."""
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
