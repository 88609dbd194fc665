from __future__ import annotations

import gc
import math
import sys
from collections.abc import Sequence
from fractions import Fraction
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng

from metrics_app.errors import InvalidQueryError
from metrics_app.stats import codec
from metrics_app.stats.enclosed import Answer
from metrics_app.stats.histogram import ERROR_BOUND, ZERO_MAX, Values
from metrics_app.stats.summary import EXACT_DISTINCT, RECENT_MAX, SMALL, STATS, HourlySummary, value_of, values_of

from .datasets import DATASETS, QUANTILES, SIZES, VALUE_MAX, dataset, pieces

FEW = 5  # distinct values up to which the rows of the property tests are exact

# few enough different ones that they repeat, and rows end on both sides of FEW
values_lists = st.lists(
    st.one_of(
        st.sampled_from([-0.0, 0.0, 5e-324, ZERO_MAX, 1.0, 1.5, 12.25, VALUE_MAX]),
        st.floats(0.0, VALUE_MAX),
        st.integers(0, 9).map(float),
    ),
    max_size=90,
)
batches = st.lists(values_lists, max_size=6)


def summary_of(*added: Values | list[float], exact_distinct: int = EXACT_DISTINCT) -> HourlySummary:
    summary = HourlySummary(exact_distinct)
    for values in added:
        summary.add(np.array(values, dtype=float))
    return summary


def true_quantiles(values: Values | list[float], shares: Sequence[float]) -> list[Fraction]:
    """Interpolated between ranks as numpy does it, but in rationals."""
    ordered = sorted(map(Fraction, values))
    found = []
    for q in shares:
        rank, weight = divmod(Fraction(q) * (len(ordered) - 1), 1)
        found.append(ordered[rank] + (ordered[rank + (weight > 0)] - ordered[rank]) * weight)
    return found


def bytes_of(part: object) -> int:
    """Memory of an object and of what only it refers to, without classes and what is shared by all."""
    within = (each for each in gc.get_referents(part) if not isinstance(each, type | int | None))
    return sys.getsizeof(part) + sum(map(bytes_of, within))


def everything(summary: HourlySummary) -> tuple[object, ...]:
    """All that can be seen of a summary."""
    buckets = summary.scale6_buckets()
    answers = tuple(value_of(summary, stat) for stat in (*STATS, "p0.5", "p33.333")) if summary.count else ()
    seen = (summary.exact, summary.count, summary.sum, answers)
    return (*seen, buckets.zero_count, buckets.offset, buckets.counts.tolist(), codec.encode(summary))


@given(values_lists, st.randoms(use_true_random=False), st.integers(1, 100), st.booleans())
def test_order_and_batching_change_nothing(values: list[float], random: object, step: int, read: bool) -> None:
    """Nor does reading in between."""
    whole = summary_of(values, exact_distinct=FEW)
    shuffled = values.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    other = HourlySummary(FEW)
    for start in range(0, len(values), step):
        other.add(np.array(shuffled[start : start + step]))
        if read:
            everything(other)

    assert everything(whole) == everything(other)


@given(batches)
def test_merging_is_adding(parts: list[list[float]]) -> None:
    merged = HourlySummary(FEW)
    for part in parts:
        merged.merge(summary_of(part, exact_distinct=FEW))

    assert everything(summary_of(list(chain(*parts)), exact_distinct=FEW)) == everything(merged)


@given(values_lists, values_lists, values_lists)
def test_merge_is_associative_and_commutative(a: list[float], b: list[float], c: list[float]) -> None:
    def row(values: list[float]) -> HourlySummary:
        return summary_of(values[: len(values) // 2], values[len(values) // 2 :], exact_distinct=FEW)

    left, right, bc = row(a), row(c), row(b)
    left.merge(row(b))
    left.merge(row(c))
    bc.merge(row(c))
    other = row(a)
    other.merge(bc)
    right.merge(row(b))
    right.merge(row(a))

    assert everything(left) == everything(other) == everything(right)


@given(values_lists, values_lists)
def test_merge_leaves_its_argument_as_it_is(a: list[float], b: list[float]) -> None:
    mine, theirs = summary_of(a, exact_distinct=FEW), summary_of(b, exact_distinct=FEW)
    before = everything(theirs)
    mine.merge(theirs)
    mine.add(np.arange(100.0))
    mine.add(np.array([3.0]))

    assert before == everything(theirs)


@given(values_lists)
def test_merge_with_an_empty_one_changes_nothing(values: list[float]) -> None:
    mine, empty = summary_of(values, exact_distinct=FEW), HourlySummary(FEW)
    before = everything(mine)
    mine.merge(HourlySummary(FEW))
    empty.merge(mine)

    assert before == everything(mine) == everything(empty)


@given(values_lists)
def test_merge_with_itself_counts_everything_twice(values: list[float]) -> None:
    mine = summary_of(values, exact_distinct=FEW)
    mine.merge(mine)

    assert everything(summary_of(values, values, exact_distinct=FEW)) == everything(mine)


def test_merge_with_a_histogram_gives_one_whether_it_was_read_before_or_not() -> None:
    mine = HourlySummary(EXACT_DISTINCT)
    mine.merge(summary_of([1.0, 2.0, 3.0], exact_distinct=2))

    assert not mine.exact


def test_counts_of_distinct_values_are_let_go_with_exactness() -> None:
    summary = summary_of(np.arange(900.0), np.arange(900.0, 1100.0))

    fewer = summary_of(np.arange(900.0))
    assert not summary.exact
    assert bytes_of(summary) - summary.scale6_buckets().counts.nbytes < bytes_of(fewer) / 2


@pytest.mark.parametrize("batch", [1, SMALL, SMALL + 1, 5000])
@pytest.mark.parametrize("distinct", [0, 1, RECENT_MAX, RECENT_MAX + 1, EXACT_DISTINCT])
def test_exact_up_to_the_limit_of_distinct_values_and_never_again(distinct: int, batch: int) -> None:
    summary = HourlySummary(distinct)
    values = np.tile(np.arange(float(distinct)), 3)
    for start in range(0, len(values), batch):
        summary.add(values[start : start + batch])
    assert summary.exact

    summary.add(np.array([0.5]))
    assert not summary.exact

    summary.add(np.array([0.5]))
    assert not summary.exact


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", DATASETS)
def test_quantiles_keep_their_word(name: str, size: int) -> None:
    """The nearest float64 while exact; within the bound, and enclosed, when not. Whole or merged alike."""
    values = dataset(name, size)
    summary = summary_of(values)
    true = true_quantiles(values, QUANTILES)
    answers = [summary.quantile(q) for q in QUANTILES]

    assert summary.exact is (len(np.unique(values)) <= EXACT_DISTINCT)
    if summary.exact:
        assert [Answer(each, each, each, True, 0.0) for each in map(float, true)] == answers
    low, high = float(values.min()), float(values.max())
    for truth, (value, lo, hi, exact, error_bound) in zip(true, answers, strict=True):
        assert low <= lo <= value <= hi <= high
        assert exact or lo <= truth <= hi
        assert exact or abs(value - truth) <= error_bound * truth
        assert exact is (error_bound == 0.0)
        assert error_bound <= ERROR_BOUND or lo <= ZERO_MAX
    assert answers == sorted(answers)

    merged = HourlySummary()
    for piece in pieces(values, default_rng(size)):
        merged.merge(summary_of(piece))
    assert codec.encode(summary) == codec.encode(merged)
    assert answers == [merged.quantile(q) for q in QUANTILES]


@given(values_lists.filter(bool), st.floats(0.0, 1.0), st.sampled_from([0, FEW, EXACT_DISTINCT]))
def test_any_quantile_of_any_values_keeps_its_word(values: list[float], q: float, exact_distinct: int) -> None:
    (true,) = true_quantiles(values, [q])
    value, lo, hi, exact, error_bound = summary_of(values, exact_distinct=exact_distinct).quantile(q)

    assert min(values) <= lo <= value <= hi <= max(values)
    assert exact or lo <= true <= hi
    assert exact or abs(value - true) <= error_bound * true
    assert not exact or value == float(true)


@pytest.mark.parametrize("exact_distinct", [0, FEW])
def test_equal_values_have_no_deviation_and_their_value_for_average(exact_distinct: int) -> None:
    for value in (0.1, 1e-30, VALUE_MAX):
        summary = summary_of([value] * 7, exact_distinct=exact_distinct)

        assert value_of(summary, "stddev") == Answer(0.0, 0.0, 0.0, True, 0.0)
        assert value_of(summary, "average") == Answer(value, value, value, True, 0.0)


@pytest.mark.parametrize("exact_distinct", [0, FEW])
@pytest.mark.parametrize("count", [1, SMALL + 1])
def test_negative_zero_is_zero(count: int, exact_distinct: int) -> None:
    summary = summary_of([-0.0] * count, exact_distinct=exact_distinct)

    assert codec.encode(summary) == codec.encode(summary_of([0.0] * count, exact_distinct=exact_distinct))
    for stat in ("min", "max", "median", "sum", "average"):
        assert math.copysign(1.0, value_of(summary, stat).value) == 1.0


def test_array_that_cannot_be_written_is_read() -> None:
    block = memoryview(np.arange(2000.0).tobytes())
    summary = HourlySummary()
    for start, stop in ((0, 3), (3, 1100), (1100, 1110), (1110, 2000)):
        summary.add(np.frombuffer(block[8 * start : 8 * stop], "<f8"))

    assert everything(summary_of(np.arange(2000.0))) == everything(summary)


def test_array_that_was_added_is_neither_changed_nor_kept() -> None:
    for size in (3, 100, 3000):
        values = np.linspace(-0.0, 9.0, size)
        before = values.copy()
        summary = summary_of(values)
        summary.add(values)
        seen = everything(summary)

        assert before.tobytes() == values.tobytes()
        values[:] = 7.0
        assert seen == everything(summary)


def test_zeros_are_exact_also_in_a_histogram() -> None:
    summary = summary_of(np.concatenate([np.zeros(3000), np.linspace(1.0, 2.0, 2000)]))

    assert not summary.exact
    assert summary.quantile(0.5) == Answer(0.0, 0.0, 0.0, True, 0.0)
    assert summary.quantile(0.0) == Answer(0.0, 0.0, 0.0, True, 0.0)
    assert summary.quantile(1.0) == Answer(2.0, 2.0, 2.0, True, 0.0)


def test_one_value_all_over_is_known_exactly_also_in_a_histogram() -> None:
    assert summary_of([3.7] * 5, exact_distinct=0).quantile(0.5) == Answer(3.7, 3.7, 3.7, True, 0.0)


@pytest.mark.parametrize("q", [-0.001, 1.001, math.nan, math.inf])
def test_quantile_out_of_range_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match=r"0\.0 to 1\.0"):
        summary_of([1.0]).quantile(q)


@pytest.mark.parametrize("stat", [stat for stat in STATS if stat not in {"count", "sum"}])
def test_nothing_added_has_no_statistic(stat: str) -> None:
    with pytest.raises(ValueError, match="nothing was added"):
        value_of(HourlySummary(), stat)


def test_nothing_added_counts_and_sums_to_nothing() -> None:
    for summary in (HourlySummary(), summary_of([]), HourlySummary(0)):
        assert (value_of(summary, "count").value, value_of(summary, "sum").value) == (0, 0.0)
        assert summary.exact
        assert summary.scale6_buckets().counts.tolist() == []


def test_each_statistic_is_found_by_its_name() -> None:
    summary = summary_of([10.0, 20.0, 60.0])
    expected = {"average": 30.0, "min": 10.0, "max": 60.0, "median": 20.0, "count": 3, "sum": 90.0, "p0": 10.0}

    assert expected == {stat: value_of(summary, stat).value for stat in expected}
    assert value_of(summary, "p75") == Answer(40.0, 40.0, 40.0, True, 0.0)
    assert value_of(summary, "stddev").value == pytest.approx(np.std([10.0, 20.0, 60.0]))
    assert isinstance(value_of(summary, "count").value, int)
    assert value_of(summary, "average")[1:] == (30.0, 30.0, True, 0.0)
    with pytest.raises(InvalidQueryError, match="stat"):
        value_of(summary, "mode")


@pytest.mark.parametrize("exact_distinct", [0, EXACT_DISTINCT])
def test_buckets_are_those_of_otlp(exact_distinct: int) -> None:
    summary = summary_of([0.0, ZERO_MAX, 1.0, 2.0, 2.0, 1.005], exact_distinct=exact_distinct)
    zero_count, offset, counts = summary.scale6_buckets()

    assert (zero_count, offset, len(counts)) == (2, -1, 65)
    assert {int(at) + offset: int(counts[at]) for at in np.flatnonzero(counts)} == {-1: 1, 0: 1, 63: 2}


def test_row_of_one_value_takes_a_quarter_of_a_kilobyte() -> None:
    summary = summary_of([12.5])

    assert bytes_of(summary) <= 256
    assert not hasattr(summary, "__dict__")


@given(values_lists.filter(bool), st.sampled_from([0, FEW, EXACT_DISTINCT]))
def test_many_answers_at_once_are_those_one_by_one_and_change_nothing(values: list[float], exact_distinct: int) -> None:
    summary = HourlySummary(exact_distinct)
    summary.add(np.array(values))
    before = codec.encode(summary)
    one_by_one = {stat: value_of(summary, stat) for stat in STATS}
    assert values_of(summary.settled(), STATS) == one_by_one
    assert codec.encode(summary.settled()) == codec.encode(summary) == before
