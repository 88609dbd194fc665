from __future__ import annotations

import pytest

from metrics_app.client.delivery import Pace
from metrics_app.client.transport import Addresses, RetryBudget


def drained_s(pace: Pace, now: float, batches: list[int], inflow: int) -> list[tuple[float, int]]:
    """When which batch went, while so many values a second still came in as further batches."""
    sent, began = [], now
    while batches:
        now += pace.wait_s(now) + 0.001
        count = batches.pop(0)
        while began + 1 <= now:
            began += 1
            pace.came_in(inflow, began)
            if inflow:
                batches.append(inflow)
        pace.sent(count, now, behind=len(batches) > 0)
        sent.append((now, count))
    return sent


def peak(sent: list[tuple[float, int]]) -> int:
    return max(sum(count for at, count in sent if start <= at < start + 1) for start, _ in sent)


@pytest.mark.parametrize("rate", [3, 1000, 500_000])
def test_a_backlog_is_sent_at_most_three_times_as_fast_as_values_come_in(rate: int) -> None:
    pace = Pace(2.5)
    for second in range(1, 100):
        pace.came_in(rate, second)
    pace.failed(40.0)
    sent = drained_s(pace, 100.0, [rate] * 60, rate)
    assert peak(sent) <= max(30, 3 * rate)
    assert sent[-1][0] - 100 < 60, "and it is done in the time that it took to grow"
    assert pace.wait_s(sent[-1][0]) == 0


def test_a_backlog_of_an_app_that_has_gone_quiet_is_sent_too() -> None:
    pace = Pace(2.5)
    pace.failed(0.0)
    for second in range(1, 61):
        pace.came_in(1000, second)
    for second in range(61, 200):
        pace.came_in(0, second)
    sent = drained_s(pace, 200.0, [1000] * 60, 0)
    assert peak(sent) <= 2500
    assert sent[-1][0] - 200 < 100


def test_without_a_failure_nothing_is_held_back() -> None:
    pace = Pace(2.5)
    pace.sent(10**6, 1.0, behind=True)
    assert pace.wait_s(1.0) == 0


def test_addresses_are_taken_in_turn_and_left_alone_after_a_failure() -> None:
    addresses = Addresses(["http://a", "http://b/", "http://c"], 0.2, 30.0)
    assert {one.url for one in addresses.all} == {"http://a/samples", "http://b/samples", "http://c/samples"}
    first, second, third, again = (addresses.pick(0.0) for _ in range(4))
    assert first is not None
    assert again is first
    assert len({id(first), id(second), id(third)}) == 3
    addresses.failed(first, 0.0, "x", retry_after_s=5.0)
    assert first not in [addresses.pick(4.9) for _ in range(9)]
    assert first in [addresses.pick(6.1) for _ in range(3)]


def test_backoff_is_a_random_part_of_a_time_that_doubles() -> None:
    addresses = Addresses(["http://a"], 0.2, 30.0)
    (address,) = addresses.all
    pauses = []
    for _ in range(2000):
        addresses.worked(address)
        row = []
        for _ in range(12):
            addresses.failed(address, 0.0, "x")
            row.append(address.not_before)
        pauses.append(row)
    for failures, column in enumerate(zip(*pauses, strict=True)):
        ceiling = min(30.0, 0.2 * 2**failures)
        assert max(column) <= ceiling
        assert abs(sum(column) / len(column) - ceiling / 2) < ceiling / 20, "spread over all of it"
    addresses.failed(address, 0.0, "x", patient=True)
    assert 15 <= address.not_before <= 30
    assert addresses.pick(1.0) is None
    assert addresses.wait_s(1.0) == address.not_before - 1.0


def test_retries_are_a_share_of_what_is_sent() -> None:
    budget = RetryBudget(0.2)
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
    spent = 0
    for _ in range(1000):
        budget.earn()
        spent += budget.spend()
    assert abs(spent - 200) <= 1
