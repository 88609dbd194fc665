"""Exact ranks against binomial sums in integers; coverage of the true quantile over many seeded samples."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_app.stats.intervals import SPREAD_MAX, TAIL_95, Interval, exact_ranks, normal_ranks, of_quantile, ranks

from .test_summary import summary_of


def true_ranks(count: int, q: Fraction, tail: Fraction) -> tuple[int, int] | None:
    """By the definition: sums of binomial probabilities as whole numbers over one denominator."""
    a, b = q.numerator, q.denominator
    chances = [math.comb(count, k) * a**k * (b - a) ** (count - k) for k in range(count + 1)]
    allowed = tail * b**count
    lower = max((low for low in range(count + 2) if sum(chances[:low]) <= allowed), default=0)
    upper = min((up for up in range(count + 2) if sum(chances[up:]) <= allowed), default=count + 1)
    return (lower - 1, upper - 1) if lower >= 1 and upper <= count else None


@given(st.integers(1, 400), st.sampled_from(["1/2", "9/10", "19/20", "99/100", "1/10", "1/1000"]))
@settings(max_examples=150)
def test_ranks_are_those_of_the_definition(count: int, q: str) -> None:
    found = ranks(count, float(Fraction(q)), TAIL_95)

    assert true_ranks(count, Fraction(q), Fraction(1, 40)) == found


@pytest.mark.parametrize(("count", "expected"), [(5, None), (6, (0, 5)), (10, (1, 8)), (100, (39, 60))])
def test_median_has_the_ranks_of_the_textbook(count, expected):
    """A sign test with 5 values cannot be significant at 5 %; of 100, the 40th and the 61st are well known."""
    assert ranks(count, 0.5, TAIL_95) == expected


@pytest.mark.parametrize(("q", "fewest"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3688)])
def test_too_few_values_have_none(q, fewest):
    """The greatest value is below the quantile with probability q**n; that has to be at most 2.5 %."""
    assert math.ceil(math.log(TAIL_95) / math.log(q)) == fewest
    assert ranks(fewest - 1, q, TAIL_95) is None
    assert ranks(fewest, q, TAIL_95) is not None


@pytest.mark.parametrize("q", [0.0, 1.0])
def test_ends_have_none(q):
    assert ranks(10**6, q, TAIL_95) is None


@pytest.mark.parametrize("q", [0.00001, 0.01, 0.5, 0.9, 0.99, 0.999, 0.99999])
@pytest.mark.parametrize("tail", [TAIL_95, 0.05 / 12])
def test_approximation_beyond_the_limit_is_never_narrower_and_hardly_wider(q, tail):
    for times in (1, 4, 100):
        count = math.ceil(times * SPREAD_MAX**2 / (q * (1 - q)))
        lower, upper = exact_ranks(count, q, tail)
        low, up = normal_ranks(count, q, tail)
        assert lower - 8 <= low <= lower
        assert upper <= up <= upper + 8


def test_as_many_values_as_a_row_can_count_are_no_trouble():
    low, high = ranks(2**63 - 1, 0.5, TAIL_95) or (0, 0)
    assert 0 < high - low < 2**33


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("draw", ["lognormal", "whole ms"])
def test_interval_misses_the_true_quantile_no_oftener_than_it_says(q, draw):
    """2,000 seeded samples of 1,000 values; 5 % of them, and four standard deviations of that count."""
    rng = np.random.default_rng([int(q * 100), len(draw)])
    population = np.sort(rng.lognormal(3.0, 1.0, 1_000_000))
    population = np.round(population) if draw == "whole ms" else population
    true = population[int(q * len(population))]
    missed = 0
    for _ in range(2000):
        sample = summary_of(rng.choice(population, 1000), exact_distinct=1000)
        found = of_quantile(sample, q)
        assert found is not None
        missed += not found.lo <= true <= found.hi

    assert missed <= 100 + 4 * math.sqrt(2000 * 0.05 * 0.95)
    assert missed >= 1 or draw == "whole ms"  # it is not infinitely wide either


def test_interval_of_a_histogram_reaches_to_the_bounds_of_its_buckets():
    values = np.random.default_rng(4).lognormal(3.0, 1.0, 5000)
    exact, rough = (of_quantile(summary_of(values, exact_distinct=most), 0.95) for most in (10_000, 0))

    assert exact is not None
    assert rough is not None
    assert rough.lo < exact.lo < exact.hi < rough.hi
    assert exact.lo / rough.lo < 1.011
    assert rough.hi / exact.hi < 1.011


def test_values_are_those_at_the_ranks():
    assert of_quantile(summary_of(np.arange(100.0)), 0.5) == Interval(39.0, 60.0)
    assert of_quantile(summary_of([1.0, 2.0]), 0.5) is None


@pytest.mark.parametrize("q", [0.001, 0.01, 0.3, 0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("tail", [TAIL_95, 0.2, 0.001])
def test_what_is_refused_at_a_glance_has_no_ranks_by_the_sums_either(q: float, tail: float) -> None:
    first = next(count for count in range(1, 10_000) if ranks(count, q, tail) is not None)
    for count in {1, 2, first // 2, first - 1, first, first + 1} - {0}:
        lower, upper = exact_ranks(count, q, tail)
        assert (lower >= 1 and upper <= count) == (ranks(count, q, tail) is not None)
