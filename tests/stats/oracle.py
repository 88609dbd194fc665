"""The true statistics of values in rational arithmetic, and whether an answer keeps its word against them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from metrics_app.stats.enclosed import Answer
from metrics_app.stats.statistic import parse_stat


def true_of(values: Sequence[float], stat: str) -> Fraction:
    """Of a stddev its square, which is rational."""
    exact = sorted(map(Fraction, values))
    if (q := parse_stat(stat).q) is not None:
        rank = q * (len(exact) - 1)
        below = exact[math.floor(rank)]
        return below + (exact[math.ceil(rank)] - below) * (rank - math.floor(rank))
    mean = sum(exact, Fraction()) / len(exact)
    return {
        "count": Fraction(len(exact)),
        "sum": mean * len(exact),
        "average": mean,
        "min": exact[0],
        "max": exact[-1],
        "stddev": sum(((value - mean) ** 2 for value in exact), Fraction()) / len(exact),
    }[stat]


def check(answer: Answer, values: Sequence[float], stat: str) -> None:
    """That an answer is what it says it is, to the last bit."""
    true, power = true_of(values, stat), 2 if stat == "stddev" else 1
    value, lo, hi, exact, error_bound = answer
    assert exact is (error_bound == 0.0) is (lo == value == hi), answer
    if exact:
        assert _is_nearest(float(value), true, power), (stat, answer, float(true))
        return
    assert lo <= value <= hi, answer
    assert Fraction(lo) ** power <= true <= Fraction(hi) ** power, (stat, answer, float(true))
    bound = Fraction(error_bound)
    assert Fraction(value) ** power <= (1 + bound) ** power * true, (stat, answer, float(true))
    assert Fraction(value) ** power >= max(1 - bound, Fraction()) ** power * true, (stat, answer, float(true))


def _is_nearest(value: float, true: Fraction, power: int) -> bool:
    """Whether no other float64 is nearer to the root of `true`."""
    here = Fraction(value)
    low = (here + Fraction(math.nextafter(value, -math.inf))) / 2
    high = (here + Fraction(math.nextafter(value, math.inf))) / 2
    return max(low, Fraction()) ** power <= true <= high**power
