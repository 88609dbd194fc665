"""The exact sums of `exact_sum.py`, of arrays.

Values are integers in units of 2**-64, cut into signed digits of 21 bits by adding and taking away a number so great
that the sum has no room for lower ones (S. M. Rump, T. Ogita, S. Oishi, Accurate floating-point summation part I, 2008,
algorithm ExtractVector). Products of two digits are at most 2**40, so that 8,192 of them sum up to 2**53 at most: one
matrix product in float64 gives all sums exactly, in whatever order the BLAS adds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from metrics_app.stats.exact_sum import NOTHING, UNIT_BITS, Sums

BLOCK = 8192  # values at once; 2 * (DIGIT_BITS - 1) + 13 is 53, the bits of a float64

_DIGIT_BITS = 21


def of_array(values: NDArray[np.float64], low: float, high: float) -> Sums:
    """Sums of an array of any length, of which `low` is the least and `high` the greatest."""
    sums = NOTHING
    for start in range(0, len(values), BLOCK):
        sums = sums.plus(_of_block(values[start : start + BLOCK], low, high))
    return sums


def _of_block(values: NDArray[np.float64], low: float, high: float) -> Sums:
    # bits below the last one that a value can have are not looked at
    scale_bits = min(UNIT_BITS, 53 - math.frexp(low)[1]) if low else UNIT_BITS
    digits = max(0, math.frexp(high)[1] + scale_bits) // _DIGIT_BITS + 1  # room for a sign in the first one
    matrix = np.empty((digits + 1, len(values)))
    matrix[0] = 1.0
    rest = matrix[-1]
    np.multiply(values, 2.0**scale_bits, out=rest)
    if scale_bits == UNIT_BITS:
        np.floor(rest, out=rest)
    for row, place in zip(matrix[1:-1], range(digits - 1, 0, -1), strict=True):
        cut = 1.5 * 2.0 ** (52 + place * _DIGIT_BITS)
        np.add(rest, cut, out=row)
        np.subtract(row, cut, out=row)
        np.subtract(rest, row, out=rest)
    products = (matrix @ matrix.T).tolist()
    units = sum(map(int, products[0][1:]))
    squares = sum(int(product) for row in products[1:] for product in row[1:])
    left = UNIT_BITS - scale_bits
    return Sums(units << left, squares << 2 * left)
