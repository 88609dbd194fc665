"""What is measured of a worker, from counters and clocks that are set here."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.system.condition import Load
from metrics_app.system.meter import Measurement, line, load_of, quantile

POINTS = st.lists(st.tuples(st.floats(0, 1e7), st.floats(0, 1)), min_size=1, max_size=50)


def measured(at: float, values: float, busy: float, **others: Any) -> Measurement:
    known: dict[str, Any] = {"received": values, "folded": values, "fold_s": 0.0, "lag": 0.0, "disk_free": 1e9}
    return Measurement(at, busy, **(known | others))


def test_nothing_is_said_before_there_are_two_measurements() -> None:
    assert load_of([]) == load_of([measured(1, 5, 1)]) == load_of([measured(1, 5, 1), measured(1, 5, 1)]) == Load()


def test_rate_busyness_lag_and_disk_are_differences_by_time() -> None:
    noted = [measured(10, 0, 0), measured(20, 5000, 2, fold_s=1.0, lag=50, disk_free=1e9 - 500)]
    load = load_of(noted)
    assert (load.window_s, load.values_per_s, load.busy, load.fold_busy) == (10, 500, 0.2, 0.1)
    assert (load.lag_per_s, load.disk_per_s) == (5, 50)


def test_the_cost_of_a_value_is_told_apart_from_what_is_there_without_values() -> None:
    """Each value takes 20 microseconds, and 0.1 of a core is there anyway."""
    rates = [1000, 5000, 2000, 10_000, 8000]
    idle, per_value = line([(rate, 0.1 + 20e-6 * rate) for rate in rates])
    assert [idle, per_value] == pytest.approx([0.1, 20e-6])


def test_at_one_rate_all_is_taken_for_the_values() -> None:
    assert [*line([(1000, 0.2), (1010, 0.2), (990, 0.2)])] == pytest.approx([0.0, 0.2 / 1000])
    assert line([(0, 0.05), (0, 0.05)]) == (0.0, 0.0)


@given(POINTS)
def test_whatever_was_measured_neither_part_is_negative(points: list[tuple[float, float]]) -> None:
    idle, per_value = line(points)
    assert idle >= 0.0
    assert per_value >= 0.0


def test_a_quantile_is_of_what_came_in_between() -> None:
    infinite = float("inf")
    before = ((0.1, 1000.0), (1.0, 1000.0), (infinite, 1000.0))
    assert quantile(before, before) is None
    assert quantile(before, ((0.1, 1099.0), (1.0, 1100.0), (infinite, 1100.0))) == 0.1
    assert quantile(before, ((0.1, 1090.0), (1.0, 1100.0), (infinite, 1100.0))) == 1.0
    assert quantile((), ((0.1, 0.0), (1.0, 0.0), (infinite, 5.0))) == 1.0
    assert quantile((), ()) is None
