import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.aggregator.fences import IdIndex, Ranges

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


def test_an_id_keeps_the_offset_of_its_first_sight():
    index = IdIndex(limit=10)
    index.add(5, 100, [b"a"])
    index.add(5, 101, [b"a", b"b"])
    assert index.first_seen(b"a") == 100
    assert index.first_seen(b"b") == 101


@pytest.mark.parametrize("sights", list(itertools.permutations([(1, 100), (5, 101), (9, 102)])))
def test_of_the_sights_of_an_id_the_first_one_not_forgotten_counts_in_whatever_order_they_were_noted(sights):
    index = IdIndex(limit=10)
    for arrival_hour, offset in sights:
        index.add(arrival_hour, offset, [b"a"])
    seen = []
    for before_hour in (1, 2, 6, 10):
        index.expire(before_hour)
        seen.append(index.first_seen(b"a"))
    assert seen == [100, 101, 102, None]
    assert (index.offsets, index.later, index.records) == ({}, {}, {})


def test_ids_of_records_before_the_horizon_are_forgotten():
    index = IdIndex(limit=10)
    index.add(5, 100, [b"a"])
    index.add(6, 101, [b"b"])
    index.expire(before_hour=6)
    assert index.first_seen(b"a") is None
    assert index.first_seen(b"b") == 101
    assert index.forgotten == 0


def test_over_the_limit_the_oldest_record_is_forgotten_first_and_counted():
    index = IdIndex(limit=2)
    index.add(5, 100, [b"a"])
    index.add(5, 101, [b"b"])
    index.add(5, 102, [b"c"])
    assert index.first_seen(b"a") is None
    assert index.first_seen(b"c") == 102
    assert index.forgotten == 1
