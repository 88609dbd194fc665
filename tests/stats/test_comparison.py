"""Verdicts: how often they are wrong, over seeded trials, and what they find."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import Generator

from metrics_app.stats.comparison import (
    COMPARED,
    FALSE_ALARM,
    FASTER,
    SAME,
    SLOWER,
    UNCLEAR,
    Distance,
    compare,
    distance,
    smirnov,
)
from metrics_app.stats.histogram import Values

from .test_summary import FEW, summary_of, values_lists

TRIALS = 1500
DRAWS: dict[str, Callable[[Generator, int], Values]] = {
    "lognormal": lambda rng, size: rng.lognormal(3.0, 1.0, size),
    "pareto": lambda rng, size: np.minimum(5.0 * (1.0 + rng.pareto(1.1, size)), 2.0**44),
    "whole ms": lambda rng, size: np.round(rng.lognormal(2.0, 0.5, size)),
    "bimodal": lambda rng, size: np.where(rng.random(size) < 0.94, rng.normal(10, 1, size), rng.normal(5e3, 100, size)),
}


def verdicts(
    name: str, sizes: tuple[int, int], exact_distinct: int, factor: float = 1.0, trials: int = TRIALS
) -> Counter[str]:
    draw, found = DRAWS[name], Counter[str]()
    for trial in range(trials):
        rng = np.random.default_rng([trial, *sizes, *name.encode()])
        ours, theirs = factor * draw(rng, sizes[0]), draw(rng, sizes[1])
        sides = (summary_of(each, exact_distinct=exact_distinct) for each in (ours, theirs))
        found[compare(*sides).verdict] += 1
    return found


@pytest.mark.parametrize("exact_distinct", [0, 10_000])
@pytest.mark.parametrize("sizes", [(700, 700), (600, 3000)])
@pytest.mark.parametrize("name", DRAWS)
def test_two_samples_of_one_distribution_raise_no_more_false_alarms_than_stated(name, sizes, exact_distinct):
    found = verdicts(name, sizes, exact_distinct, trials=TRIALS // 10)

    assert found[SLOWER] + found[FASTER] <= FALSE_ALARM * TRIALS // 10


@pytest.mark.slow
def test_false_alarms_over_many_trials() -> None:
    """The figure of docs/queries.md: `pytest -s -m slow tests/stats/test_comparison.py`."""
    found = sum((verdicts(name, (2000, 2000), exact) for name in DRAWS for exact in (0, 10_000)), Counter[str]())
    print(f"{found[SLOWER] + found[FASTER]} false alarms in {found.total():,} trials")

    assert found.total() == 12_000
    assert found[SLOWER] + found[FASTER] <= FALSE_ALARM * found.total() / 50


@pytest.mark.parametrize("exact_distinct", [0, 10_000])
@pytest.mark.parametrize(("factor", "verdict"), [(1.10, SLOWER), (1 / 1.10, FASTER)])
@pytest.mark.parametrize("name", ["lognormal", "pareto"])
def test_tenth_more_is_found_among_many_values(name, factor, verdict, exact_distinct):
    found = verdicts(name, (50_000, 50_000), exact_distinct, factor, trials=20)

    assert found == {verdict: 20}


def test_many_values_of_one_distribution_are_the_same():
    assert verdicts("lognormal", (400_000, 400_000), 0, trials=5) == {SAME: 5}


def test_small_change_is_the_same_however_sure_it_is():
    """A rise of 3 % among so many values is no chance, and nobody's concern."""
    assert verdicts("lognormal", (1_000_000, 1_000_000), 0, factor=1.03, trials=2) == {SAME: 2}


def test_too_few_values_are_unclear_whatever_they_are():
    found = compare(summary_of([100.0] * 5), summary_of([1.0] * 5))

    assert (found.verdict, found.distance.hi) == (UNCLEAR, 1.0)
    assert [each.shift_interval for each in found.shifts] == [None] * 3
    assert [each.shift for each in found.shifts] == [99.0] * 3


def test_slower_tail_and_faster_middle_are_unclear_and_said_so():
    rng = np.random.default_rng(1)
    base = np.sort(rng.lognormal(3.0, 1.0, 100_000))
    ours = np.concatenate([base[:90_000] * 0.8, base[90_000:] * 1.5])

    assert compare(summary_of(ours), summary_of(base))[2:] == (UNCLEAR, "p95 and p99 rose, p50 fell")


def test_zeros_are_the_same_as_zeros():
    zeros = summary_of([0.0] * 5000)

    assert compare(zeros, zeros).verdict == SAME
    assert [each.ratio for each in compare(zeros, zeros).shifts] == [None] * 3
    assert compare(summary_of([5.0] * 5000), zeros).verdict == SLOWER


@pytest.mark.parametrize("exact_distinct", [0, 100_000])
def test_intervals_of_all_three_quantiles_hold_the_true_shifts(exact_distinct):
    """At once, in 95 % of seeded trials at least."""
    true = [3.0 * math.exp(0.5 * z) for z in (0.0, 1.6448536, 2.3263479)]
    missed = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        sides = [summary_of(each, exact_distinct=exact_distinct) for each in (
            4.0 * rng.lognormal(0.0, 0.5, 2000), rng.lognormal(0.0, 0.5, 3000))]  # fmt: skip
        for each, shift in zip(compare(*sides).shifts, true, strict=True):
            assert each.shift_interval is not None
            assert each.ratio_interval is not None
            if not (
                each.shift_interval.lo <= shift <= each.shift_interval.hi
                and each.ratio_interval.lo <= 4.0 <= each.ratio_interval.hi
            ):
                missed += 1
                break

    assert missed <= 10
    assert [each.stat for each in compare(*sides).shifts] == list(COMPARED)


@given(
    values_lists.filter(bool), values_lists.filter(bool), st.sampled_from([0, FEW, 1000]), st.sampled_from([0, 1000])
)
def test_distance_is_enclosed(a: list[float], b: list[float], exact_a: int, exact_b: int) -> None:
    limits = np.union1d(a, b)
    shares = [np.searchsorted(np.sort(each), limits, side="right") / len(each) for each in (a, b)]
    true = float(np.abs(shares[0] - shares[1]).max())
    ours, theirs = summary_of(a, exact_distinct=exact_a), summary_of(b, exact_distinct=exact_b)
    lo, hi, p_value = distance(ours, theirs)

    assert lo - 1e-12 <= true <= hi + 1e-12
    assert 0.0 <= p_value <= 1.0
    assert not (ours.exact and theirs.exact) or lo == hi == pytest.approx(true)


def test_distance_of_the_same_is_nothing():
    same = summary_of(np.arange(5000.0))

    assert distance(same, same)[::2] == (0.0, 1.0)
    assert distance(summary_of([1.0]), summary_of([1.0])) == Distance(0.0, 0.0, 1.0)


@pytest.mark.parametrize(("x", "p"), [(1.2238, 0.10), (1.3581, 0.05), (1.6276, 0.01), (1.9495, 0.001)])
def test_asymptotic_distribution_has_the_critical_values_of_the_tables(x, p):
    assert smirnov(x) == pytest.approx(p, rel=1e-3)


def test_p_value_is_as_small_as_it_says_under_the_same_distribution():
    """700 against 900 values: the share of trials with p <= 5 % is about 5 %."""
    found = []
    for trial in range(1000):
        rng = np.random.default_rng(trial)
        found.append(distance(summary_of(rng.random(700)), summary_of(rng.random(900))).p_value)

    assert 0.03 <= np.mean(np.array(found) <= 0.05) <= 0.07
