"""Clocks that are wrong, jump, or stand just before the end of an hour."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from itertools import count

import pytest

from metrics_app.client.intake import HOUR_NS, Intake
from metrics_app.client.outcome import Skew
from metrics_app.client.transport import Heard

from .collector import Collector
from .conftest import AppClock, Connect


def hours_of(collector: Collector, key: str) -> dict[int, int]:
    """Hour -> values counted."""
    with collector.lock:
        return {
            int.from_bytes(row_key[1:5], "big"): row.count
            for row_key, row in collector.fold.cache.items()
            if row_key[5:].decode() == key and row.count
        }


@pytest.mark.parametrize("before_ns", [1, 10, 100, 1000])
def test_an_hour_is_never_rounded_up(before_ns: int) -> None:
    """As seconds in a float, 100 ns before the hour are the hour."""
    at = 1_795_647_600 * 10**9 - before_ns
    intake = Intake(10, 1000, lambda: None, lambda: at)
    intake.record("a", 1.0)
    (taken,) = intake.collect()
    assert taken.hour == at // HOUR_NS == 1_795_647_600 // 3600 - 1


def steps(*hours: float) -> Callable[[], int]:
    """A clock that is so many hours ahead, in turn, each time it is looked at."""
    turn = count()
    return lambda: time.time_ns() - int(hours[next(turn) % len(hours)] * HOUR_NS)


@pytest.mark.parametrize("hours", [(0, 5), (0, 1, 2, 3, 4, 5, 6, 7), (0, 24, 48), (0, 0.5, 1)])
def test_a_clock_that_goes_back_and_forth_costs_neither_values_nor_memory(
    connect: Connect, collector: Collector, hours: tuple[float, ...]
) -> None:
    client = connect(collector, clock=steps(*hours), interval_s=60)
    tracemalloc.start()
    try:
        for _ in range(2000):
            client.record("a", 1.0)
        assert client.flush(30)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
    assert (collector.counted("a"), collector.duplicates("a"), collector.missing("a")) == (2000, 0, 0)


def test_hours_that_a_mad_clock_opens_are_let_go(collector: Collector) -> None:
    at = count(10**18, HOUR_NS)
    intake = Intake(10, 10**9, lambda: None, lambda: next(at))
    taken, held_bytes = 0, []
    tracemalloc.start()
    try:
        for _ in range(50):
            for _ in range(20):
                intake.record("a", 1.0)
            taken += sum(len(one.values) for one in intake.collect())
            held_bytes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert taken == 1000
    assert held_bytes[-1] - held_bytes[10] < 32 << 10, "an hour takes about 1 KB, and 780 were opened meanwhile"


@pytest.mark.parametrize("minutes", [10, -10, 90, 60 * 24 * 400, -60 * 24 * 400])
def test_a_clock_that_is_wrong_is_corrected_by_what_collectors_say(
    connect: Connect, collector: Collector, clock: AppClock, minutes: int
) -> None:
    """Also what was recorded before a collector was heard, as far as one would have rejected it."""
    client = connect(collector, clock=clock)
    clock.ahead_s = minutes * 60
    client.record("first", 1.0)
    client.flush(10)
    hour = time.time_ns() // HOUR_NS
    for _ in range(100):
        client.record("a", 1.0)
    assert client.flush(10)
    assert hours_of(collector, "a") in ({hour: 100}, {hour + 1: 100}), "the second if it struck meanwhile"
    assert collector.missing("a") == 0
    assert collector.counted("first") == 1
    assert client.stats().dropped == {}


def test_values_of_an_hour_that_has_not_begun_are_counted_in_that_in_which_they_were_recorded(
    connect: Connect, collector: Collector, clock: AppClock
) -> None:
    """And when the hour has come, none of its numbers are missing."""
    client = connect(collector, clock=clock)
    clock.ahead_s = 7200
    for number in range(50):
        client.record("a", number)
    assert client.flush(10)
    assert list(hours_of(collector, "a").values()) == [50]
    assert client.stats().dropped == {}
    collector.ahead_s, clock.ahead_s = 7200, 2 * 7200
    client.record("a", 1.0)
    assert client.flush(10)
    assert sorted(hours_of(collector, "a").values()) == [1, 50]
    assert (collector.missing("a"), collector.duplicates("a")) == (0, 0)


def heard(date_s: float, ahead_s: float, took_s: float = 0.01) -> Heard:
    return Heard(float(int(date_s)), date_s + ahead_s, date_s + ahead_s + took_s)


@pytest.mark.parametrize("ahead_s", [0.0, 1.5, -1.5])
def test_a_small_difference_is_none(ahead_s: float) -> None:
    skew = Skew(tolerance_s=2.0)
    assert not any(skew.heard("a", heard(1000.3 + 0.37 * turn, ahead_s), turn) for turn in range(100))
    assert skew.ahead_s == 0.0


@pytest.mark.parametrize("ahead_s", [600.0, -600.0, 86_400.0])
def test_a_great_one_is_found_to_a_second_and_does_not_waver(ahead_s: float) -> None:
    skew = Skew(tolerance_s=2.0)
    changes = sum(skew.heard("a", heard(1000.3 + 0.37 * turn, ahead_s), turn) for turn in range(100))
    assert abs(skew.ahead_s - ahead_s) <= 1.0
    assert changes < 10


def test_a_collector_whose_clock_is_wrong_leads_nobody_astray_while_another_agrees_with_ours() -> None:
    skew = Skew(tolerance_s=2.0)
    skew.heard("right", heard(1000.0, 0.0), 0.0)
    assert not skew.heard("wrong", heard(1000.0, 7200.0), 1.0)
    assert skew.heard("wrong", heard(1000.0, 7200.0), 1000.0), "the other one was not heard for long"


def test_a_step_between_request_and_reply_says_nothing() -> None:
    assert not Skew(2.0).heard("a", Heard(1000.0, 5000.0, 1000.0), 0.0)


def test_a_clock_that_is_set_right_is_believed_again(connect: Connect, collector: Collector, clock: AppClock) -> None:
    client = connect(collector, clock=clock)
    clock.ahead_s = 7200
    client.record("a", 1.0)
    assert client.flush(10)
    assert (collector.counted("a"), client.stats().dropped) == (1, {})
    clock.ahead_s = 0
    client.record("a", 1.0)
    assert client.flush(10)
    client.flush(0)  # by then, or 50 ms later without it, the hour is opened anew
    hour = time.time_ns() // HOUR_NS
    client.record("b", 1.0)
    assert client.flush(10)
    assert hours_of(collector, "b") in ({hour: 1}, {hour + 1: 1}), "the second if it struck meanwhile"
