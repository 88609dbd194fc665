"""Sums of values and of their squares that are exact integers, whatever the order and the batching.

A value v counts as u = floor(v * 2**64), so a sum is an integer in units of 2**-64, a sum of squares one in units of
2**-128. From 2**-12 on nothing is cut off, for a float64 has 53 bits; below, less than 2**-64 of a value is. Values are
finite, 0 <= v <= 2**44. `block_sum.py` does the same to arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

UNIT_BITS = 64

_UNIT = 2.0**UNIT_BITS


class Sums(NamedTuple):
    """Sum of u in units of 2**-64, sum of u * u in units of 2**-128."""

    units: int
    squares: int

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(self.units + other.units, self.squares + other.squares)

    @property
    def total(self) -> float:
        """Sum of the values, correctly rounded."""
        return self.units / (1 << UNIT_BITS)

    def average(self, count: int) -> float:
        """Sum / count, correctly rounded; count >= 1."""
        return self.units / (count << UNIT_BITS)

    def stddev(self, count: int) -> float:
        """Population standard deviation of `count` >= 1 values, within 1 ulp; 0.0 exactly when all are equal."""
        variance = count * self.squares - self.units**2  # times count**2, in units of 2**-128
        guard = UNIT_BITS  # more bits than a float64 takes, also when the variance is as small as it can be
        return math.isqrt(variance << 2 * guard) / (count << UNIT_BITS + guard)


NOTHING = Sums(0, 0)


def units_of(value: float) -> int:
    """floor(value * 2**64)."""
    return int(value * _UNIT)


def of_counts(pairs: Iterable[tuple[float, int]]) -> Sums:
    """Sums of pairs (value, how often), in Python integers."""
    units = squares = 0
    for value, times in pairs:
        unit = units_of(value)
        units += unit * times
        squares += unit * unit * times
    return Sums(units, squares)
