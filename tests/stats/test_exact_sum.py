from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metrics_app.stats import block_sum, exact_sum
from metrics_app.stats.block_sum import BLOCK, RUN
from metrics_app.stats.exact_sum import Sums

from .datasets import DATASETS, VALUE_MAX, dataset, exact_units

values_lists = st.lists(st.floats(0.0, VALUE_MAX), min_size=1, max_size=40)


def of_block(values: list[float]) -> Sums:
    return block_sum.of_array(np.array(values), min(values), max(values))


@given(values_lists)
@example([5e-324])
@example([2.0**-65, 2.0**-64, math.nextafter(2.0**-64, 0.0)])
@example([VALUE_MAX, 2.0**-64])
@example([-0.0, 0.0])
def test_array_and_scalar_sums_are_the_same_exact_integers(values: list[float]) -> None:
    expected = Sums(*exact_units(np.array(values)))

    assert expected == of_block(values)
    assert expected == exact_sum.of_counts((value, 1) for value in values)


@pytest.mark.parametrize("name", DATASETS)
def test_full_block_of_any_distribution_is_summed_exactly(name: str) -> None:
    values = dataset(name, BLOCK)

    assert Sums(*exact_units(values)) == of_block(values.tolist())


@pytest.mark.parametrize("count", [RUN - 1, RUN, RUN + 1, BLOCK + 1, 2 * BLOCK + RUN])
def test_runs_and_blocks_need_not_be_full(count: int) -> None:
    values = dataset("reversed", count)

    assert Sums(*exact_units(values)) == of_block(values.tolist())


@pytest.mark.parametrize(
    "greatest",
    [
        VALUE_MAX,
        math.nextafter(VALUE_MAX, 0.0),
        math.nextafter(1.0, 0.0),
        (2**22 - 1) * 2.0**5,  # more values in a run would be too many
        2.0**28 - 2.0**5,  # the first digit needs room for its sign
    ],
)
def test_digits_of_a_full_block_do_not_overflow(greatest: float) -> None:
    """Some digits of these values are as large as a digit can be."""
    values = [greatest] * (BLOCK - 1) + [2.0**-64]

    assert Sums(*exact_units(np.array(values))) == of_block(values)


def test_what_lies_under_the_unit_is_cut_off() -> None:
    assert Sums(1, 1) == of_block([math.nextafter(2.0**-63, 0.0)])
    assert Sums(0, 0) == of_block([math.nextafter(2.0**-64, 0.0)])


@given(values_lists, st.integers(1, 10**9))
def test_counted_pairs_are_sums_of_repeated_values(values: list[float], times: int) -> None:
    once = exact_sum.of_counts((value, 1) for value in values)

    assert Sums(once.units * times, once.squares * times) == exact_sum.of_counts((value, times) for value in values)


@given(values_lists)
@example([5e-324, VALUE_MAX])
@example([1e-300] * 10)
def test_unit_for_the_least_value_cuts_nothing_off(values: list[float]) -> None:
    bits = exact_sum.bits_for(min(filter(None, values), default=1.0))
    sums = exact_sum.of_counts(((value, 1) for value in values), bits)

    assert Fraction(sums.units, 1 << bits) == sum(map(Fraction, values))
    assert Fraction(sums.squares, 1 << 2 * bits) == sum(Fraction(value) ** 2 for value in values)
    assert sums.bits == bits <= 1074
