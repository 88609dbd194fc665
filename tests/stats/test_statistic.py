from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.errors import InvalidQueryError
from metrics_app.stats.statistic import STATS, Stat, parse_stat


@pytest.mark.parametrize("stat", ["average", "min", "max", "count", "sum", "stddev"])
def test_plain_statistic_has_no_quantile(stat: str) -> None:
    assert Stat(stat, None) == parse_stat(stat)


@pytest.mark.parametrize(
    ("stat", "q"),
    [
        *(("median", 0.5), ("p0", 0.0), ("p5", 0.05), ("p05", 0.05), ("p50", 0.5), ("p99.9", 0.999)),
        *(("p99.999", 0.99999), ("p0.001", 0.00001), ("p12.30", 0.123), ("p100", 1.0), ("p100.000", 1.0)),
    ],
)
def test_percentile_is_the_share_that_its_text_says(stat: str, q: float) -> None:
    assert Stat(stat, Fraction(str(q))) == parse_stat(stat)


@given(st.integers(0, 100_000))
def test_every_percentile_of_three_decimals_is_taken(thousandths: int) -> None:
    stat = f"p{thousandths // 1000}.{thousandths % 1000:03}"

    assert parse_stat(stat).q == Fraction(thousandths, 100_000)


@pytest.mark.parametrize(
    "stat",
    [
        *("", "p", "p.5", "p50.", "p99.9999", "p101", "p100.1", "p1000", "p-1", "p+1", "P50", "p 50", "p50\n", "p5e1"),
        *("pNaN", "p\u0665\u0660", "Average", "avg", "mean", "mode", "summary", "__class__", "add", "exact"),
    ],
)
def test_anything_else_is_refused(stat: str) -> None:
    with pytest.raises(InvalidQueryError, match="percentile p0 to p100") as caught:
        parse_stat(stat)

    assert (caught.value.part, caught.value.value) == ("stat", stat)


def test_every_statistic_of_the_summary_is_one() -> None:
    assert tuple(parse_stat(stat).name for stat in STATS) == STATS
    assert STATS == ("average", "min", "max", "median", "count", "sum", "stddev", "p90", "p95", "p99", "p99.9")
