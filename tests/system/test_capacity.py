"""The forecast from what workers say of themselves, and how their words are joined."""

from __future__ import annotations

import msgspec
import pytest

from metrics_app.errors import Progress
from metrics_app.system.capacity import capacity_of
from metrics_app.system.condition import Condition, Load, SystemState, joined, together


def worker(url: str, load: Load | None = None, **others: object) -> Condition:
    known = {
        "url": url, "role": "all", "version": "1", "pid": 1, "started": 0.0, "told": 0.0, "checks": {}, "warnings": {},
        "roles": {}, "lags": {}, "recovering": [], "totals": {}, "by": {}, "load": load or Load(), "memory_bytes": 1,
        "descriptors": 1, "descriptors_max": 9, "disk_free_bytes": 1000, "disk_bytes": 2000,
    }  # fmt: skip
    return Condition(**{**known, **others})  # type: ignore[arg-type]


def busy(rate: float, per_value: float, idle: float = 0.0) -> Load:
    return Load(60.0, rate, idle + rate * per_value, 0.1, idle, per_value)


def system(*workers: Condition, partitions: int = 2) -> SystemState:
    return joined([*workers], [], partitions, 0.0)


def test_the_worker_with_the_least_room_breaks_first() -> None:
    found = capacity_of(
        system(worker("http://a", busy(1000, 100e-6, 0.1)), worker("http://b", busy(1000, 400e-6, 0.1)))
    )
    assert found.first == "http://b"
    assert found.times == pytest.approx(2.25)
    assert found.forecast == "first to break: the event loop of all http://b, at 2.2 times today's rate"
    assert [each.breaks_at_values_per_s for each in found.workers] == [pytest.approx(9000), pytest.approx(2250)]


def test_without_load_nothing_is_forecast() -> None:
    found = capacity_of(system(worker("http://a"), worker("http://b", busy(0.5, 1e-6))))
    assert (found.first, found.times, found.forecast) == (None, None, "too little is sent to tell what breaks first")


def test_a_disk_that_fills_and_the_partition_that_lags_most_are_named() -> None:
    load = busy(1000, 1e-4)
    load.disk_per_s = 1000 / 86_400 / 2
    here = worker("http://a", load, roles={0: "active", 1: "active"}, lags={0: 3, 1: 70})
    found = capacity_of(system(here))
    assert found.workers[0].disk_full_in_days == pytest.approx(2.0)
    assert "the disk of http://a is full in 2.0 days" in found.forecast
    assert found.laggiest == 1
    assert (found.hottest, found.hottest_share) == (None, 0.0)


def test_the_partition_with_the_most_values_of_all_workers_is_the_hottest() -> None:
    a = worker("http://a", by={"partition_values": {"0": 10.0, "3": 30.0}})
    b = worker("http://b", by={"partition_values": {"3": 30.0, "1": 30.0}})
    found = capacity_of(system(a, b))
    assert (found.hottest, found.hottest_share) == (3, 0.6)


def test_partitions_name_owner_copies_lag_and_recovery_and_counters_are_summed() -> None:
    progress = Progress(1, 5, 10, None)
    a = worker("http://a", roles={0: "active"}, lags={0: 4}, totals={"x": 1.0}, by={"r": {"p": 1.0}})
    b = worker(
        "http://b", roles={0: "standby"}, recovering=[progress], totals={"x": 2.0}, by={"r": {"p": 1.0, "q": 2.0}}
    )
    found = joined([b, a], ["http://c"], 2, 0.0)
    assert [each.url for each in found.workers] == ["http://a", "http://b"]
    assert msgspec.to_builtins(found.partitions) == [
        {"partition": 0, "owner": "http://a", "copies": ["http://b"], "lag": 4, "recovering": None},
        {"partition": 1, "owner": None, "copies": [], "lag": None, "recovering": msgspec.to_builtins(progress)},
    ]
    assert (found.totals, found.by) == ({"x": 3.0}, {"r": {"p": 2.0, "q": 2.0}})
    assert found.at == "1970-01-01T00:00:00Z"


def test_a_worker_of_which_two_tell_counts_once_and_is_not_unanswered() -> None:
    a, b = worker("http://a", totals={"x": 1.0}), worker("http://b", totals={"x": 2.0})
    found = together([joined([a], ["http://b"], 2, 0.0), joined([a, b], ["http://c"], 2, 0.0)], 0.0)
    assert (found.totals, found.unanswered, len(found.partitions)) == ({"x": 3.0}, ["http://c"], 2)
