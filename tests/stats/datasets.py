"""Named distributions of response times, in ms, and their exact statistics: the oracle."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.random import Generator, default_rng

from metrics_app.stats.histogram import Values

SIZES = (1, 2, 3, 10, 1000, 100_000)
QUANTILES = (0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
VALUE_MAX = 2.0**44

DATASETS: dict[str, Callable[[Generator, int], Values]] = {
    "lognormal": lambda rng, size: rng.lognormal(3.0, 1.0, size),
    "pareto": lambda rng, size: np.minimum(5.0 * (1.0 + rng.pareto(1.1, size)), VALUE_MAX),
    "exponential": lambda rng, size: rng.exponential(40.0, size),
    "uniform": lambda rng, size: rng.uniform(0.0, 100.0, size),
    "bimodal": lambda rng, size: np.where(rng.random(size) < 0.9, rng.normal(10, 1, size), rng.normal(5000, 100, size)),
    "constant": lambda rng, size: np.full(size, 0.1),
    "whole_ms": lambda rng, size: np.round(rng.lognormal(3.0, 1.0, size)),
    "microseconds": lambda rng, size: np.round(rng.lognormal(3.0, 1.0, size), 3),
    "under_a_microsecond": lambda rng, size: rng.uniform(1e-6, 1e-3, size),
    "around_the_zero_bucket": lambda rng, size: np.exp2(rng.uniform(-24, -16, size)),
    "below_the_unit_of_sums": lambda rng, size: np.exp2(rng.uniform(-80, -50, size)),
    "huge": lambda rng, size: rng.uniform(0.5, 1.0, size) * VALUE_MAX,
    "all_magnitudes": lambda rng, size: np.exp2(rng.uniform(-30, 44, size)),
    "zeros_mixed": lambda rng, size: np.where(rng.random(size) < 0.4, -0.0, rng.lognormal(3.0, 1.0, size)),
    "powers_of_two": lambda rng, size: np.exp2(rng.integers(-20, 45, size).astype(float)),
    "sorted": lambda rng, size: np.sort(rng.gamma(2.0, 15.0, size)),
    "reversed": lambda rng, size: np.sort(rng.gamma(2.0, 15.0, size))[::-1],
}


def dataset(name: str, size: int) -> Values:
    """The same `size` values whenever it is called."""
    return DATASETS[name](default_rng([size, *name.encode()]), size)


def exact_units(values: Values) -> tuple[int, int]:
    """Sums of u and u * u, where u = floor(value * 2**64), in rational arithmetic."""
    units = [int(Fraction(value) * 2**64) for value in values.tolist()]
    return sum(units), sum(unit * unit for unit in units)


def pieces(values: Values, rng: Generator, most: int = 12) -> list[Values]:
    """The values in random order, cut at random places."""
    cuts = np.sort(rng.integers(0, len(values) + 1, int(rng.integers(0, most))))
    return np.split(rng.permutation(values), cuts)
