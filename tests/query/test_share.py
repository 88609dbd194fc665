from __future__ import annotations

import math

import numpy as np
import pytest

from metrics_app.query.answer import share_at_most
from metrics_app.stats.enclosed import Answer
from metrics_app.stats.histogram import ZERO_MAX, bounds, buckets_of
from metrics_app.stats.summary import HourlySummary
from tests.stats.datasets import DATASETS, dataset
from tests.stats.test_summary import summary_of


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
    assert share_at_most(summary, 1.0021)[1:3] == (1 / 3, math.nextafter(2 / 3, 1.0))


def test_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing was added"):
        share_at_most(HourlySummary(), 1.0)
