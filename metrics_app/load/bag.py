"""A multiset of values and its exact statistics. Pure; shares no code with the service that it is there to judge."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bag:
    """A multiset of values: distinct values ascending, and how often each is in it."""

    values: Values
    times: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Iterable[tuple[Values, int]]) -> Self:
        """The bag of all parts, each taken so many times."""
        listed = [(np.empty(0), 0), *parts]
        values, where = np.unique(np.concatenate([values for values, _ in listed]), return_inverse=True)
        weights = np.concatenate([np.full(len(values), times) for values, times in listed])
        # bincount adds in float64, which is exact up to 2**53 values
        return cls(values, np.bincount(where, weights, len(values)).astype(np.int64))

    @cached_property
    def count(self) -> int:
        """Number of values."""
        return int(self.times.sum())

    @cached_property
    def _total(self) -> Fraction:
        """Exact sum of the values: over the greatest denominator, a power of two, which all others divide."""
        ratios = [value.as_integer_ratio() for value in self.values.tolist()]
        unit = max((denominator for _, denominator in ratios), default=1)
        pairs = zip(ratios, self.times.tolist(), strict=True)
        return Fraction(
            sum(times * numerator * (unit // denominator) for (numerator, denominator), times in pairs), unit
        )

    @cached_property
    def sum(self) -> float:
        """Sum of the values, correctly rounded."""
        return float(self._total)

    @property
    def average(self) -> float:
        """Mean; the bag must not be empty."""
        return float(self._total / self.count)

    @property
    def stddev(self) -> float:
        """Population standard deviation; the bag must not be empty."""
        return math.sqrt(float(np.average((self.values - self.average) ** 2, weights=self.times)))

    def quantile(self, q: float) -> float:
        """Quantile by linear interpolation between ranks, as numpy's default; the bag must not be empty."""
        position = q * (self.count - 1)
        low, high = self.at(math.floor(position)), self.at(math.ceil(position))
        return low + (high - low) * (position - math.floor(position))

    def at(self, rank: int) -> float:
        """The value at a rank of the sorted bag, counted from 0."""
        return float(self.values[np.searchsorted(self._ends, rank, side="right")])

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.times)

    def statistic(self, stat: str) -> float:
        """The statistic of that name: sum, min, max, average, stddev, or one of `QUANTILES`; not of an empty bag."""
        match stat:
            case "sum":
                return self.sum
            case "min":
                return float(self.values[0])
            case "max":
                return float(self.values[-1])
            case "average":
                return self.average
            case "stddev":
                return self.stddev
        return self.quantile(QUANTILES[stat])
