from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metrics_app.aggregator.ranges import Ranges

claims = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=30)


@given(claims)
def test_claimed_parts_are_exactly_the_numbers_that_were_not_there(claimed):
    ranges = Ranges()
    model: set[int] = set()
    for first, count in claimed:
        wanted = set(range(first, first + count)) - model
        fresh = {number for start, stop in ranges.claim(first, count) for number in range(start, stop)}
        assert wanted == fresh
        model |= wanted


@given(claims)
def test_edges_stay_sorted_disjoint_and_as_few_as_possible(claimed):
    ranges = Ranges()
    model: set[int] = set()
    for first, count in claimed:
        ranges.claim(first, count)
        model |= set(range(first, first + count))
    runs = sum(1 for number in model if number - 1 not in model)
    assert ranges.edges == sorted(set(ranges.edges))
    assert 2 * runs == len(ranges.edges)


@given(claims)
def test_missing_is_what_lies_below_the_highest_number_and_never_came(claimed):
    ranges = Ranges()
    model: set[int] = set()
    for first, count in claimed:
        ranges.claim(first, count)
        model |= set(range(first, first + count))
    assert len(set(range(max(model, default=-1) + 1)) - model) == ranges.missing


@given(claims, st.tuples(st.integers(0, 60), st.integers(1, 20)))
def test_fresh_numbers_are_those_that_a_claim_would_return(claimed, wanted):
    ranges = Ranges()
    for first, count in claimed:
        ranges.claim(first, count)
    before = list(ranges.edges)
    fresh = ranges.fresh(*wanted)
    assert ranges.edges == before
    assert sum(stop - start for start, stop in ranges.claim(*wanted)) == fresh


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.booleans()), max_size=30))
def test_numbers_that_were_reached_and_did_not_come_are_missing_until_they_come(steps):
    ranges = Ranges()
    model: set[int] = set()
    end = 0
    for first, count, claimed in steps:
        end = max(end, first + count)
        if claimed:
            fresh = {number for start, stop in ranges.claim(first, count) for number in range(start, stop)}
            assert fresh == set(range(first, first + count)) - model
            model |= set(range(first, first + count))
        else:
            ranges.reach(first + count)
        assert ranges.missing == end - len(model)
        assert ranges.edges == sorted(ranges.edges)


def test_a_set_of_many_gaps_is_not_copied_for_each_claim():
    """Else a record of nothing but gaps holds the loop for seconds."""

    class Edges(list[int]):
        copied = 0

        def __getitem__(self, at: Any) -> Any:
            found: Any = super().__getitem__(at)
            self.copied += len(found) if isinstance(at, slice) else 0
            return found

    many = Ranges(Edges(range(4000)))
    for first in range(1, 1000, 2):
        many.is_apart(first, 1)
        many.fresh(first, 1)
        many.claim(first, 1)
    assert isinstance(many.edges, Edges)
    assert many.edges.copied < 20_000
