from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.stats.histogram import ZERO_MAX, bounds, buckets_of
from metrics_app.stats.share import share_at_most
from metrics_app.stats.summary import EXACT_DISTINCT, Answer, HourlySummary

from .datasets import DATASETS, VALUE_MAX, dataset
from .test_summary import FEW, summary_of, values_lists

limits = st.one_of(
    st.sampled_from([0.0, 5e-324, ZERO_MAX / 2, ZERO_MAX, 1.0, 1.5, 12.25, 2.0, VALUE_MAX, 2.0**60]),
    st.floats(0.0, 2.0**50),
    st.integers(0, 9).map(float),
)


@given(values_lists.filter(bool), limits, st.sampled_from([0, FEW, EXACT_DISTINCT]))
def test_share_encloses_the_true_one_and_keeps_its_bound(values: list[float], limit: float, exact: int) -> None:
    true = sum(value <= limit for value in values) / len(values)
    value, lo, hi, is_exact, error_bound = share_at_most(summary_of(values, exact_distinct=exact), limit)

    assert 0.0 <= lo <= true <= hi <= 1.0
    assert abs(value - true) <= error_bound * true + 1e-12
    assert is_exact is (lo == hi)
    assert not is_exact or value == true


@pytest.mark.parametrize("name", DATASETS)
def test_share_is_exact_at_every_bound_of_a_bucket(name: str) -> None:
    values = dataset(name, 100_000)
    summary = summary_of(values, exact_distinct=0)
    above = values[values > ZERO_MAX]
    ends = {bounds(int(bucket))[1] for bucket in buckets_of(above[:50])} if len(above) else set()

    for limit in {0.0, ZERO_MAX, *ends}:
        true = np.count_nonzero(values <= limit) / len(values)
        assert share_at_most(summary, limit) == Answer(true, true, true, True, 0.0)


def test_share_at_least_and_greatest_value_is_known_whatever_the_bucket() -> None:
    summary = summary_of([1.001, 1.002, 1.003], exact_distinct=0)  # all in one bucket

    assert share_at_most(summary, 1.0)[:3] == (0.0, 0.0, 0.0)
    assert share_at_most(summary, 1.003)[:3] == (1.0, 1.0, 1.0)
    assert share_at_most(summary, 1.0021)[1:3] == (1 / 3, 2 / 3)


def test_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing was added"):
        share_at_most(HourlySummary(), 1.0)
