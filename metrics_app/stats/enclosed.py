"""A number and how good it is. Everything is worked out in rationals and rounded to float64 once, at the end.

Exact means that the value is the true one, rounded to the nearest float64, and that both bounds are this value. Else
lo <= true value <= hi holds of the real numbers, for the bounds are rounded outward.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple


class Answer(NamedTuple):
    """A value and how good it is: lo <= true value <= hi, and |value - true value| <= error_bound * true value.

    Where it is exact all of them are the true value, rounded to the nearest float64, and the bound is 0.
    """

    value: float
    lo: float
    hi: float
    exact: bool
    error_bound: float


def exactly(true: Fraction) -> Answer:
    """The answer where the true value is known."""
    value = float(true)
    return Answer(value, value, value, True, 0.0)


def between(lo: Fraction, hi: Fraction) -> Answer:
    """The answer where the true value is one of lo to hi, 0 <= lo <= hi.

    The value is 2lh/(l+h), which of all values has the least relative error against anything in between.
    """
    if lo == hi:
        return exactly(lo)
    value = float(2 * lo * hi / (lo + hi))
    rounded = Fraction(value)
    over = (rounded - lo) / lo if lo else Fraction(0)  # against 0 the value is 0
    return Answer(value, down(lo), up(hi), False, up(max(over, (hi - rounded) / hi)))


def down(number: Fraction) -> float:
    """The greatest float64 that is not above a number."""
    nearest = float(number)
    return nearest if nearest <= number else math.nextafter(nearest, -math.inf)


def up(number: Fraction) -> float:
    """The least float64 that is not below a number."""
    nearest = float(number)
    return nearest if nearest >= number else math.nextafter(nearest, math.inf)
