"""Whatever an answer says of itself holds, in rational arithmetic: bounds, exactness, the greatest error."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metrics_app.query.answer import share_at_most
from metrics_app.stats import codec
from metrics_app.stats.comparison import compare
from metrics_app.stats.enclosed import between, down, up
from metrics_app.stats.exact_sum import WHOLE
from metrics_app.stats.histogram import ZERO_MAX
from metrics_app.stats.summary import EXACT_DISTINCT, STATS, HourlySummary, value_of

from .datasets import DATASETS, VALUE_MAX, dataset, pieces
from .oracle import check, true_of

FEW = 5
EVERY = (*STATS, "p0", "p7", "p33.333", "p0.001", "p99.999", "p100")

# tiny beside huge, equal ones, and both sides of every threshold there is
edges = [0.0, 5e-324, 2.0**-1000, 1e-300, 2.0**-65, 2.0**-64, 123e-9, ZERO_MAX, WHOLE, 0.1, 1.0, 1e9, VALUE_MAX]
near = [math.nextafter(each, to) for each in edges for to in (0.0, VALUE_MAX)]
adversarial = st.lists(
    st.one_of(st.sampled_from(edges), st.sampled_from(near), st.floats(0.0, VALUE_MAX), st.floats(0.0, 1e-3)),
    min_size=1,
    max_size=40,
)


def summary_of(values: object, exact_distinct: int = EXACT_DISTINCT) -> HourlySummary:
    summary = HourlySummary(exact_distinct)
    summary.add(np.array(values, dtype=float))
    return summary


def check_all(summary: HourlySummary, values: list[float]) -> None:
    for stat in EVERY:
        check(value_of(summary, stat), values, stat)


@given(adversarial, st.sampled_from([0, FEW, EXACT_DISTINCT]))
@example([123e-9] * 3, 1000)
@example([1e-300] * 10, 1000)
@example([1e-300] * 10, 0)
@example([5e-324, VALUE_MAX], 1000)
@example([5e-324, VALUE_MAX], 0)
@example([0.0] * 8 + [1000.0] * 93, 1000)
@example([0.0, 1e-300, 2e-300], 0)
@example([2.0**-64, math.nextafter(2.0**-64, 0.0)] * 20, 0)
def test_every_statistic_of_any_values_keeps_its_word(values: list[float], exact_distinct: int) -> None:
    check_all(summary_of(values, exact_distinct), values)


@given(st.lists(adversarial, min_size=1, max_size=5), st.sampled_from([0, FEW, 30]))
def test_every_statistic_of_merged_hours_keeps_its_word(hours: list[list[float]], exact_distinct: int) -> None:
    """Also of hours that were stored and read in between."""
    whole = HourlySummary(exact_distinct)
    for values in hours:
        whole.merge(codec.decode(codec.encode(summary_of(values, exact_distinct)), exact_distinct))

    check_all(whole, [value for values in hours for value in values])


@pytest.mark.parametrize("size", [1001, 3000])
@pytest.mark.parametrize("name", DATASETS)
def test_every_statistic_of_a_distribution_keeps_its_word(name: str, size: int) -> None:
    values = dataset(name, size)
    summary = HourlySummary()
    for piece in pieces(values, np.random.default_rng(size)):
        summary.merge(summary_of(piece))

    check_all(summary, values.tolist())


def test_whole_ranks_are_whole() -> None:
    """The rank of p7 of 101 values is 7, and not the float64 7.000000000000001."""
    assert value_of(summary_of([0.0] * 8 + [1000.0] * 93), "p7")[:4] == (0.0, 0.0, 0.0, True)
    for count in range(2, 60):
        values = [float(rank) for rank in range(count)]
        for thousandths in range(0, 100_001, 500):
            rank = Fraction(thousandths * (count - 1), 100_000)
            if rank.denominator == 1:
                assert value_of(summary_of(values), f"p{thousandths / 1000:g}").value == rank


@pytest.mark.parametrize("unit", [1e-3, 1e-6, 1e-9])
def test_sums_of_seconds_are_exact_while_values_are_kept_and_bounded_closely_after(unit: float) -> None:
    """A unit of seconds or minutes makes small numbers."""
    for count in (900, 1100):
        values = [unit * (step + 1) for step in range(count)]
        for stat in ("sum", "average", "stddev"):
            got = value_of(summary_of(values), stat)
            assert got.exact is (count == 900 or min(values) > WHOLE)
            assert got.error_bound <= 1e-10


def test_histogram_without_small_values_has_exact_sums() -> None:
    for least in (0.0, math.nextafter(WHOLE, 1.0), 2 * WHOLE):
        summary = summary_of([least, *np.arange(1.0, 1200.0)])

        assert not summary.exact
        assert [value_of(summary, stat).exact for stat in ("sum", "average", "stddev")] == [True] * 3


@given(adversarial, st.one_of(st.sampled_from(edges + near), st.floats(0.0, 2.0**50)), st.sampled_from([0, FEW, 1000]))
def test_share_of_any_values_keeps_its_word(values: list[float], limit: float, exact_distinct: int) -> None:
    true = Fraction(sum(value <= limit for value in values), len(values))
    got = share_at_most(summary_of(values, exact_distinct), limit)

    if got.exact:
        assert float(true) == got.value == got.lo == got.hi
    else:
        assert Fraction(got.lo) <= true <= Fraction(got.hi)
        assert abs(Fraction(got.value) - true) <= Fraction(got.error_bound) * true


@given(adversarial, adversarial, st.sampled_from([0, FEW, 1000]), st.sampled_from([0, 1000]))
@example([VALUE_MAX] * 400, [5e-324] * 400, 1000, 1000)
def test_comparison_of_any_values_keeps_its_word(a: list[float], b: list[float], most_a: int, most_b: int) -> None:
    found = compare(summary_of(a, most_a), summary_of(b, most_b))
    lo, hi, p_value = found.distance
    true = max(abs(_share(a, limit) - _share(b, limit)) for limit in {*a, *b})

    assert lo == hi == float(true) or Fraction(lo) <= true <= Fraction(hi)
    assert 0.0 <= p_value <= 1.0
    for each in found.shifts:
        assert each.ratio is None or math.isfinite(each.ratio)
        if each.shift_interval is not None:  # the quantile of the values themselves is among those it allows for
            shift = true_of(a, each.stat) - true_of(b, each.stat)
            assert Fraction(each.shift_interval.lo) <= shift <= Fraction(each.shift_interval.hi)


def _share(values: list[float], limit: float) -> Fraction:
    return Fraction(sum(value <= limit for value in values), len(values))


@given(st.fractions(0, 2**60), st.fractions(0, 2**60))
def test_bounds_are_rounded_outward(a: Fraction, b: Fraction) -> None:
    got, lo, hi = between(min(a, b), max(a, b)), min(a, b), max(a, b)

    assert got.exact is (a == b)
    assert got.exact or Fraction(got.lo) <= lo <= hi <= Fraction(got.hi)
    assert math.nextafter(down(a), math.inf) > a >= down(a)
    assert math.nextafter(up(a), -math.inf) < a <= up(a)
