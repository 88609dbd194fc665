from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.verify.ledger import QUANTILES, Bag, Block, Ledger, Outcome, SentBatch

HOUR = 498740
STATS = [*QUANTILES, "sum", "min", "max"]


def batch(**values: list[float]) -> SentBatch:
    return SentBatch(tuple(Block(key, np.array(each)) for key, each in values.items()))


def test_every_outcome_is_counted_in_values() -> None:
    ledger, two = Ledger(), batch(a=[1.0, 2.0])
    for outcome in (Outcome.OK, Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN):
        ledger.record(two, HOUR, outcome)
    assert ledger.count() == 8
    assert [ledger.count(outcome) for outcome in Outcome] == [4, 2, 2]
    assert ledger.count(Outcome.OK, Outcome.UNKNOWN) == 6


def test_a_batch_sent_twice_is_expected_twice() -> None:
    ledger, one = Ledger(), batch(a=[1.0])
    ledger.record(one, HOUR, Outcome.OK)
    ledger.record(one, HOUR, Outcome.OK)
    assert ledger.expected()["a", HOUR].ok.count == 2


def test_each_key_and_hour_has_expectations_of_its_own() -> None:
    ledger, mixed = Ledger(), batch(a=[1.0, 2.0], b=[3.0])
    ledger.record(mixed, HOUR, Outcome.OK)
    ledger.record(mixed, HOUR + 1, Outcome.UNKNOWN)
    counts = {where: (of.ok.count, of.unknown.count) for where, of in ledger.expected().items()}
    assert counts == {("a", HOUR): (2, 0), ("b", HOUR): (1, 0), ("a", HOUR + 1): (0, 2), ("b", HOUR + 1): (0, 1)}


def test_refused_values_are_expected_nowhere_but_their_key_is_looked_at() -> None:
    ledger = Ledger()
    ledger.record(batch(a=[1.0]), HOUR, Outcome.FAIL)
    assert ledger.expected()["a", HOUR].both.count == 0


def test_without_unknown_values_the_range_is_one_point() -> None:
    ledger = Ledger()
    ledger.record(batch(a=[1.0, 2.0, 6.0]), HOUR, Outcome.OK)
    expected = ledger.expected()["a", HOUR]
    assert expected.range_of("sum") == (9.0, 9.0)
    assert expected.range_of("median") == (2.0, 2.0)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_whatever_part_of_the_unknown_was_kept_the_truth_is_in_the_range(ok: list[int], unknown: list[int]) -> None:
    """Every subset of the unknown values is a possible truth."""
    ledger = Ledger()
    ledger.record(batch(a=[float(value) for value in ok]), HOUR, Outcome.OK)
    ledger.record(batch(a=[float(value) for value in unknown]), HOUR, Outcome.UNKNOWN)
    expected = ledger.expected()["a", HOUR]
    ranges = {stat: expected.range_of(stat) for stat in STATS}
    for size in range(len(unknown) + 1):
        for kept in itertools.combinations(unknown, size):
            truth = Bag.of([(np.array([*ok, *kept], float), 1)])
            for stat, possible in ranges.items():
                assert possible is not None
                assert possible[0] - 1e-9 <= truth.statistic(stat) <= possible[1] + 1e-9, stat
