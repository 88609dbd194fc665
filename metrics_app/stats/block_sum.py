"""Exact sums of arrays, as `exact_sum` has them for single values.

Called by `histogram` and `summary`.

Values are integers in units of 2**-64, cut into signed digits of 23 bits by adding and taking away a number so great
that the sum has no room for lower ones (S. M. Rump, T. Ogita, S. Oishi, Accurate floating-point summation part I, 2008,
algorithm ExtractVector). A product of two digits is at most 2**44, so that 512 of them sum up to 2**53 at most: float64
gives all sums of products exactly, in whatever order the BLAS adds. Digits keep the scale of their values; a power of
two costs no bits.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from metrics_app.stats.exact_sum import NOTHING, UNIT_BITS, Sums

BLOCK = 8192  # values at once: their digits stay in the processor's cache
RUN = 512  # values of which products are added in float64; 2 * (_DIGIT_BITS - 1) + 9 is 53, the bits of one

_DIGIT_BITS = 23


def of_array(values: NDArray[np.float64], low: float, high: float) -> Sums:
    """Sums of an array of any length, of which `low` is the least and `high` the greatest."""
    sums = NOTHING
    for start in range(0, len(values), BLOCK):
        sums = sums.plus(_of_block(values[start : start + BLOCK], low, high))
    return sums


def _of_block(values: NDArray[np.float64], low: float, high: float) -> Sums:
    # bits below the last one that a value can have are not looked at
    scale_bits = min(UNIT_BITS, 53 - math.frexp(low)[1]) if low else UNIT_BITS
    count = max(0, math.frexp(high)[1] + scale_bits) // _DIGIT_BITS + 1  # room for a sign in the first one
    digits = _digits(values, count, scale_bits)
    units = sum(int(math.ldexp(total, scale_bits)) for total in digits.sum(axis=(1, 2)).tolist())
    places = _places(len(digits))
    products = np.ldexp(np.vecdot(digits[:, None], digits), 2 * scale_bits - places[:, :, None])  # a run each
    sums = products.astype(np.int64).sum(axis=2)
    squares = sum(number << place for number, place in zip(sums.ravel().tolist(), places.ravel().tolist(), strict=True))
    left = UNIT_BITS - scale_bits
    return Sums(units << left, squares << 2 * left)


@cache
def _places(count: int) -> NDArray[np.int64]:
    """For each pair of digits, the number of bits by which their product is shifted."""
    bits = np.arange(count) * _DIGIT_BITS
    return np.add.outer(bits, bits)


def _digits(values: NDArray[np.float64], count: int, scale_bits: int) -> NDArray[np.float64]:
    """Splits each value into so many digits, the lowest first, in runs; zeros fill the last run."""
    if scale_bits == UNIT_BITS:
        values = np.ldexp(np.floor(np.ldexp(values, UNIT_BITS)), -UNIT_BITS)
    digits = np.empty((count, -(-len(values) // RUN) * RUN))
    digits[:, len(values) :] = 0.0
    filled = digits[:, : len(values)]
    rest = filled[0]
    for place in range(count - 1, 0, -1):
        cut = 1.5 * 2.0 ** (52 + place * _DIGIT_BITS - scale_bits)
        np.add(values, cut, out=filled[place])
        filled[place] -= cut
        values = np.subtract(values, filled[place], out=rest)
    if count == 1:
        rest[:] = values
    return digits.reshape(count, -1, RUN)
