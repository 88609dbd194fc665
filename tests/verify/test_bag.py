from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.verify.ledger import QUANTILES, Bag

times = st.lists(st.floats(0.01, 60_000), min_size=1, max_size=40)
parts = st.lists(st.tuples(times, st.integers(1, 5)), min_size=1, max_size=5)


def bag_of(listed: list[tuple[list[float], int]]) -> tuple[Bag, list[float]]:
    """The bag, and every value of it written out."""
    flat = [value for values, often in listed for value in values * often]
    return Bag.of((np.array(values), often) for values, often in listed), flat


@given(parts)
def test_a_bag_counts_and_sums_every_repetition_exactly(listed: list[tuple[list[float], int]]) -> None:
    bag, flat = bag_of(listed)
    assert bag.count == len(flat)
    assert bag.sum == float(sum(map(Fraction, flat)))
    assert (bag.statistic("min"), bag.statistic("max")) == (min(flat), max(flat))


@given(parts, st.sampled_from(sorted(QUANTILES)))
def test_quantiles_are_those_of_numpy(listed: list[tuple[list[float], int]], stat: str) -> None:
    bag, flat = bag_of(listed)
    assert math.isclose(bag.statistic(stat), float(np.quantile(flat, QUANTILES[stat])), rel_tol=1e-12)


@given(parts)
def test_average_and_deviation_are_those_of_numpy(listed: list[tuple[list[float], int]]) -> None:
    bag, flat = bag_of(listed)
    assert math.isclose(bag.statistic("average"), float(np.mean(flat)), rel_tol=1e-12)
    assert math.isclose(bag.statistic("stddev"), float(np.std(flat)), rel_tol=1e-9, abs_tol=1e-9 * max(flat))


def test_the_empty_bag_counts_nothing() -> None:
    empty = Bag.of([])
    assert (empty.count, empty.sum) == (0, 0.0)


def test_sums_do_not_round_on_the_way() -> None:
    bag = Bag.of([(np.array([1e12, 0.01]), 1), (np.array([0.01]), 100)])
    assert bag.sum == float(Fraction(1e12) + 101 * Fraction(0.01))
    assert bag.sum != pytest.approx(1e12, abs=0.5)
    assert Bag.of([(np.array([1e-300]), 10)]).sum == 1e-299
