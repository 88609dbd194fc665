"""Sums of values and of their squares that are exact integers, whatever the order and the batching.

A value v counts as u = floor(v * 2**64), so a sum is an integer in units of 2**-64, a sum of squares one in units of
2**-128. From 2**-12 on nothing is cut off, for a float64 has 53 bits; below, less than 2**-64 of a value is. Values are
finite, 0 <= v <= 2**44.

Arrays are cut into digits of 21 bits, most significant first. The products of two digits, summed over 2,048 values,
stay below 2**53, so one matrix product in float64 gives them exactly, in whatever order the BLAS adds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

UNIT_BITS = 64
BLOCK = 2048  # values at once; 2 * DIGIT_BITS + 11 is 53, the bits of a float64

_DIGIT_BITS = 21
_RADIX = 2.0**_DIGIT_BITS
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


def of_block(values: NDArray[np.float64], low: float, high: float) -> Sums:
    """The same sums of an array of 1 to BLOCK values, of which `low` is the least and `high` the greatest."""
    # bits below the last one that a value can have are not looked at
    scale_bits = min(UNIT_BITS, 53 - math.frexp(low)[1]) if low else UNIT_BITS
    digits = max(1, -(-(math.frexp(high)[1] + scale_bits) // _DIGIT_BITS))
    scales = np.ldexp(1.0, scale_bits - _DIGIT_BITS * np.arange(digits - 1, -1, -1))
    matrix = np.empty((digits + 1, len(values)))
    matrix[0] = 1.0
    parts = matrix[1:]
    np.multiply(values, scales[:, None], out=parts)
    np.floor(parts, out=parts)
    parts[1:] -= parts[:-1] * _RADIX
    by_digit = [_number(row[1:]) for row in (matrix @ matrix.T).tolist()]
    left = UNIT_BITS - scale_bits
    return Sums(by_digit[0] << left, _number(by_digit[1:]) << 2 * left)


def _number(digits: Iterable[float]) -> int:
    number = 0
    for digit in digits:
        number = (number << _DIGIT_BITS) + int(digit)
    return number
