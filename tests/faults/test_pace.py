"""A bound is stretched by what this process waits for a core, and by nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults import pace


def test_a_process_that_gets_its_core_is_held_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = iter([pace.Spent(100, 50), pace.Spent(1100, 550)])
    monkeypatch.setattr(pace, "_spent", lambda: next(spent))
    pace.begin()
    assert pace.stretched(5) == 5


def test_one_that_waits_for_two_thirds_of_the_time_gets_twice_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = iter([pace.Spent(100, 50), pace.Spent(1100, 2050)])
    monkeypatch.setattr(pace, "_spent", lambda: next(spent))
    pace.begin()
    assert pace.stretched(5) == pytest.approx(10)


def test_no_bound_is_stretched_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = iter([pace.Spent(100, 50), pace.Spent(1100, 1_000_050)])
    monkeypatch.setattr(pace, "_spent", lambda: next(spent))
    pace.begin()
    assert pace.stretched(5) == 50


def test_sleeping_is_not_waiting_for_a_core() -> None:
    pace.begin()
    sum(range(2_000_000))
    before = pace.slowness()
    time.sleep(0.2)
    assert pace.slowness() == pytest.approx(before, rel=0.5)


def test_where_the_kernel_does_not_tell_nothing_is_stretched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "SCHEDSTAT", Path("/does/not/exist"))
    pace.begin()
    assert pace.stretched(5) == 5
