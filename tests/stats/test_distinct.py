from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.stats.distinct import Distinct


@given(st.lists(st.dictionaries(st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0, 9.0]), st.integers(1, 9), min_size=1)))
def test_counts_add_up_in_order(additions: list[dict[float, int]]) -> None:
    distinct, expected = Distinct(), Counter[float]()
    for counts in additions:
        values = sorted(counts)
        distinct.add_counts(np.array(values), np.array([counts[value] for value in values]))
        expected.update(counts)

    assert sorted(expected.items()) == list(zip(distinct.values.tolist(), distinct.times.tolist(), strict=True))
    assert sorted(expected.elements()) == [distinct.at(rank) for rank in range(expected.total())]


def test_arrays_that_were_added_are_not_kept() -> None:
    values, times = np.array([1.0, 2.0]), np.array([1, 1])
    distinct = Distinct()
    distinct.add_counts(values, times)
    distinct.add_counts(values, times)

    assert times.tolist() == [1, 1]
    assert distinct.times.tolist() == [2, 2]
