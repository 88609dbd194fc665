"""A number with its bounds. Everything is computed in rationals and rounded to float64 once, at the end.

Called by `comparison`, `summary` and `query.answer`.

Exact means that the value is the true one, rounded to the nearest float64, and that both bounds are this value. Else lo
<= true value <= hi holds of the real numbers, for the bounds are rounded outward.

Sum, average and standard deviation out of exact sums, with bounds where the sums of a histogram have cut bits off.

What is cut off a value is less than a unit. So a sum is too small by less than a unit for each value that may have been
cut. A deviation is off by half a unit at most: cutting adds to the values numbers in (-1, 0] units, whose own deviation
is at most a half, and deviations obey the triangle inequality. No sum is outside count times the least to count times
the greatest value, and no deviation above half of their distance, which tells more where all values are tiny.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

from metrics_app.stats.exact_sum import Sums


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


_BITS = 54  # of a result, besides its first one: those of a float64 and the one that decides how it is rounded


class Moments(NamedTuple):
    """Sums of values, and what they may lack.

    Attributes:
        cut: values of which less than a unit each may have been cut off.
        low, high: least and greatest value; anything when there is none.
    """

    count: int  # type: ignore[assignment]  # nobody counts the fields of moments
    sums: Sums
    cut: int
    low: float
    high: float

    @property
    def sum(self) -> Answer:
        """Sum of the values."""
        return between(*self._total()) if self.cut else self._known(1)

    @property
    def average(self) -> Answer:
        """Mean; there is at least one value."""
        if not self.cut:
            return self._known(self.count)
        lo, hi = self._total()
        return between(lo / self.count, hi / self.count)

    @property
    def stddev(self) -> Answer:
        """Population standard deviation; there is at least one value."""
        root, is_whole, scale = self._root()
        if not self.cut:
            # one more bit stands for all behind it, and puts the number on its side of the middle of two float64
            value = (2 * root + (not is_whole)) / (2 * scale)
            return Answer(value, value, value, True, 0.0)
        half_a_unit = Fraction(1, 2 << self.sums.bits)
        most = (Fraction(self.high) - Fraction(self.low)) / 2
        hi = min(Fraction(root + (not is_whole), scale) + half_a_unit, most)
        return between(min(max(Fraction(root, scale) - half_a_unit, Fraction(0)), hi), hi)

    def _known(self, divisor: int) -> Answer:
        """The sum divided by a number, where nothing was cut off; dividing integers rounds once, to the nearest."""
        value = self.sums.units / (divisor << self.sums.bits)
        return Answer(value, value, value, True, 0.0)

    def _total(self) -> tuple[Fraction, Fraction]:
        """Bounds of the sum, equal where it is known."""
        unit = 1 << self.sums.bits
        lo = Fraction(self.sums.units, unit)
        if not self.cut:
            return lo, lo
        hi = min(Fraction(self.sums.units + self.cut, unit), self.count * Fraction(self.high))
        return min(max(lo, self.count * Fraction(self.low)), hi), hi

    def _root(self) -> tuple[int, bool, int]:
        """The deviation of the cut values: root / scale, or less than 1 / scale above it where it is not whole."""
        variance = self.count * self.sums.squares - self.sums.units**2  # times the square of count and unit
        guard = max(0, _BITS + 1 + self.count.bit_length() - (variance.bit_length() - 1) // 2)
        widened = variance << 2 * guard
        root = math.isqrt(widened)
        return root, root * root == widened, self.count << self.sums.bits + guard
