"""The exact sums of `exact_sum.py`, of arrays.

They are cut into digits of 21 bits, most significant first. The products of two digits, summed over 2,048 values, stay
below 2**53, so one matrix product in float64 gives them exactly, in whatever order the BLAS adds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from metrics_app.stats.exact_sum import NOTHING, UNIT_BITS, Sums

BLOCK = 2048  # values at once; 2 * DIGIT_BITS + 11 is 53, the bits of a float64

_DIGIT_BITS = 21
_RADIX = 2.0**_DIGIT_BITS


def of_sorted(values: NDArray[np.float64]) -> Sums:
    """Sums of an ascending array of any length."""
    sums = NOTHING
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        sums = sums.plus(of_block(block, float(block[0]), float(block[-1])))
    return sums


def of_block(values: NDArray[np.float64], low: float, high: float) -> Sums:
    """Sums of an array of 1 to BLOCK values, of which `low` is the least and `high` the greatest."""
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
