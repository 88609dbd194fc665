"""Sums of values and of their squares that are exact integers, whatever the order and the batching.

Called by `block_sum`, `codec`, `enclosed`, `histogram`, `summary` and others.

A value v counts as u = floor(v * 2**bits), so a sum is an integer in units of 2**-bits, a sum of squares one in units
of its square. Values are finite, 0 <= v <= 2**44. Where all values are known, the unit has as many bits as the least of
them needs. A histogram keeps its sums in units of 2**-64: from WHOLE on nothing is cut off, for a float64 has 53 bits;
below, less than a unit of each value is, and `enclosed.py` says what that makes of an answer. `block_sum.py` does the
same to arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

UNIT_BITS = 64
WHOLE = 2.0**-12  # the least value that has no bits below 2**-64

_UNIT = 2.0**UNIT_BITS
_MOST_BITS = 1074  # of the least float64 above 0


class Sums(NamedTuple):
    """Sum of u in units of 2**-bits, sum of u * u in units of 2**(-2 * bits)."""

    units: int
    squares: int
    bits: int = UNIT_BITS

    def plus(self, other: Sums) -> Sums:
        """Adds two sums of the same unit."""
        return Sums(self.units + other.units, self.squares + other.squares, self.bits)


NOTHING = Sums(0, 0)


def bits_for(least: float) -> int:
    """Number of fraction bits that represent all values >= `least` exactly; `least` is above 0."""
    return max(UNIT_BITS, min(_MOST_BITS, 53 - math.frexp(least)[1]))


def units_of(value: float) -> int:
    """floor(value * 2**64)."""
    return int(value * _UNIT)


def of_counts(pairs: Iterable[tuple[float, int]], bits: int = UNIT_BITS) -> Sums:
    """Sums of pairs (value, how often), in Python integers."""
    units = squares = 0
    for value, times in pairs:
        unit = units_of(value) if bits == UNIT_BITS else _whole_units(value, bits)
        units += unit * times
        squares += unit * unit * times
    return Sums(units, squares, bits)


def _whole_units(value: float, bits: int) -> int:
    """Computes value * 2**bits, which is a whole number, although 2**bits may not fit into a float64."""
    numerator, denominator = value.as_integer_ratio()
    return (numerator << bits) // denominator
