"""The client as an app uses it, against a collector that parses and folds as the real ones do."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from metrics_app import AsyncMetricsClient, MetricsClient, Options
from metrics_app.client.intake import HOUR_NS
from metrics_app.wire.chunk import VALUE_MAX

from .collector import Collector
from .conftest import AppClock, Connect

FAR = "http://127.0.0.1:1"


def threads_of_clients() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("metrics-")}


def eventually(condition: Any, within_s: float = 10.0) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_every_value_arrives_once_with_the_numbers_from_0(connect: Connect, collector: Collector) -> None:
    client = connect(collector)
    for number in range(5000):
        client.record("a", number)
        client.record("größe/ü", 0.5)
    assert client.flush(10)
    assert (collector.counted("a"), collector.total("a")) == (5000, sum(range(5000)))
    assert (collector.counted("größe/ü"), collector.total("größe/ü")) == (5000, 2500)
    assert collector.missing("a") == collector.duplicates("a") == 0
    stats = client.stats()
    assert (stats.recorded, stats.sent, stats.waiting, stats.dropped) == (10_000, 10_000, 0, {})


def test_values_are_sent_without_being_asked_for(connect: Connect, collector: Collector) -> None:
    client = connect(collector)
    client.record("a", 1.0)
    eventually(lambda: collector.counted("a") == 1)


def test_a_full_batch_does_not_wait_for_the_interval(connect: Connect, collector: Collector) -> None:
    client = connect(collector, interval_s=60, batch_values=10)
    for _ in range(9):
        client.record("a", 1.0)
    time.sleep(0.3)
    assert collector.requests == 0
    client.record("a", 1.0)
    eventually(lambda: collector.counted("a") == 10)


def test_many_threads_lose_nothing(connect: Connect, collector: Collector) -> None:
    client = connect(collector, interval_s=0.02)

    def work() -> None:
        for number in range(20_000):
            client.record("a", number % 7)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.flush(20)
    assert (collector.counted("a"), collector.missing("a"), collector.duplicates("a")) == (120_000, 0, 0)


class Unfriendly:
    """An argument that is as bad as can be."""

    def __repr__(self) -> str:
        raise RuntimeError

    def __hash__(self) -> int:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __float__(self) -> float:
        raise RuntimeError


BAD_VALUES: list[Any] = [
    None, "12.5", b"1", True, np.bool_(True), math.nan, math.inf, -math.inf, -1, -1e-300, VALUE_MAX * 1.1, 10**400,
    1j, [], Decimal("1"), Unfriendly(),
]  # fmt: skip
BAD_KEYS: list[Any] = [None, 7, b"a", "", "x" * 257, "ü" * 129, "a\nb", "\x00", "\ud800", [], {}, Unfriendly()]


def test_a_wrong_argument_is_counted_and_logged_once_and_costs_nothing_else(
    connect: Connect, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(collector)
    with caplog.at_level(logging.INFO, "metrics_app.client"):
        for value in BAD_VALUES:
            client.record("a", value)
            client.record("a", 1.0)
        for key in BAD_KEYS:
            client.record(key, 1.0)
        client.record(BAD_KEYS[0], BAD_VALUES[0])
        assert client.flush(10)
    assert collector.counted("a") == collector.total("a") == len(BAD_VALUES)
    assert client.stats().dropped == {"value": len(BAD_VALUES), "key": len(BAD_KEYS) + 1}
    assert [record.message.split(":")[0] for record in caplog.records] == ["a value is left out"] * 2


@pytest.mark.parametrize(
    "value", [0, 0.0, -0.0, 5, VALUE_MAX, 5e-324, np.float64(2.5), np.float32(0.5), Fraction(1, 4)]
)
def test_whatever_is_a_number_in_range_is_taken(connect: Connect, collector: Collector, value: Any) -> None:
    client = connect(collector)
    client.record("a", value)
    assert client.flush(10)
    (row,) = collector.rows()["a"]
    assert row.summary.max == float(value)
    assert math.copysign(1, row.summary.min) == 1


def test_further_keys_are_dropped_so_that_memory_stays_bounded(connect: Connect, collector: Collector) -> None:
    client = connect(collector, max_keys=100)
    for number in range(300):
        client.record(f"key-{number}", 1.0)
        client.record("key-0", 1.0)
    assert not client.flush(10), "some were dropped"
    assert client.flush(10), "which was said"
    assert len(collector.rows()) == 100
    assert client.stats().dropped == {"keys": 200}
    assert collector.counted("key-0") == 301


def test_what_was_dropped_is_told_with_the_next_batch_and_only_once(connect: Connect, collector: Collector) -> None:
    client = connect(collector, timeout_s=0.3)
    client.record("", 1.0)
    client.record("a", 1.0)
    assert client.flush(10)
    assert collector.reported == {"key": 1}
    client.record("a", -1.0)
    collector.mode = 503
    client.record("a", 1.0)
    assert not client.flush(0.5)
    collector.mode = "ok"
    client.record("a", 1.0)
    assert client.flush(10)
    assert collector.reported == {"key": 1, "value": 1}


def test_the_oldest_are_dropped_when_it_is_too_much_and_answers_say_that_they_are_missing(
    connect: Connect, collector: Collector
) -> None:
    collector.mode = 503
    client = connect(collector, max_values=1000, interval_s=0.02, histogram_above=0)
    for number in range(50):
        for _ in range(100):
            client.record("a", number)
        time.sleep(0.03)
    stats = client.stats()
    assert 500 <= stats.waiting <= 1000
    collector.mode = "ok"
    assert not client.flush(20), "some were dropped"
    stats = client.stats()
    assert stats.waiting == 0
    assert stats.sent + stats.dropped["overflow"] == stats.recorded == 5000
    assert collector.counted("a") == stats.sent
    assert collector.missing("a") == stats.dropped["overflow"] == collector.reported["overflow"]
    (row,) = collector.rows()["a"]
    assert (row.summary.min > 0, row.summary.max) == (True, 49), "the newest are kept"


def test_bytes_are_bounded_too(connect: Connect, collector: Collector) -> None:
    collector.mode = 503
    client = connect(collector, max_bytes=64 << 10, interval_s=0.02, histogram_above=0)
    for _ in range(30):
        for _ in range(1000):
            client.record("a", random.random())
        time.sleep(0.03)
    assert client.stats().waiting_bytes <= 64 << 10
    assert client.stats().dropped["overflow"] > 10_000


def test_above_a_rate_a_histogram_is_sent_and_nothing_but_quantiles_gets_less_exact(
    connect: Connect, collector: Collector
) -> None:
    client = connect(collector, histogram_above=1000)
    values = np.random.default_rng(1).lognormal(3, 1, 20_000).tolist()
    for value in values:
        client.record("hot", value)
        client.record("hot as well", value)
    client.record("cold", 1.0)
    assert client.flush(20)
    for key in ("hot", "hot as well"):
        (row,) = collector.rows()[key]
        assert (row.summary.count, row.missing, row.duplicates) == (20_000, 0, 0)
        assert (row.summary.min, row.summary.max) == (min(values), max(values))
        assert row.summary.sum == math.fsum(values)
        median = row.summary.quantile(0.5)
        assert median.lo <= np.median(values) <= median.hi
        assert not median.exact
    assert collector.rows()["cold"][0].summary.exact


def test_a_refused_batch_is_dropped_counted_and_logged_once(
    connect: Connect, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.mode = 403
    client = connect(collector)
    with caplog.at_level(logging.INFO, "metrics_app.client"):
        for _ in range(3):
            client.record("a", 1.0)
            assert not client.flush(10)
    assert collector.requests == 3 + 1, "none was sent twice; once it tried to say that some are missing"
    assert client.stats().dropped == {"refused": 3}
    assert len([record for record in caplog.records if "status 403: told to" in record.message]) == 1


def test_a_series_that_a_collector_rejects_is_counted(connect: Connect, collector: Collector, clock: AppClock) -> None:
    client = connect(collector, clock=clock)
    clock.ahead_s = 7200
    client.record("ahead", 1.0)
    clock.ahead_s = 0
    client.record("a", 1.0)
    assert not client.flush(10)
    assert (client.stats().dropped, client.stats().sent) == ({"rejected": 1}, 1)
    assert collector.counted("a") == 1


def test_after_close_nothing_is_taken_and_nothing_raises(connect: Connect, collector: Collector) -> None:
    others = threads_of_clients()
    client = connect(collector)
    client.record("a", 1.0)
    client.close()
    assert collector.counted("a") == 1
    client.record("a", 1.0)
    assert client.stats().dropped == {"closed": 1}
    client.close()
    assert not client.flush(0.1), "one was dropped"
    assert client.flush(0.1)
    assert collector.counted("a") == 1
    assert threads_of_clients() <= others


def test_closing_does_not_wait_for_a_service_that_is_away(connect: Connect) -> None:
    client = connect(FAR)
    client.record("a", 1.0)
    started = time.monotonic()
    client.close(20.0)
    assert time.monotonic() - started < 5


def test_closing_waits_for_a_silent_service_only_as_long_as_it_may(connect: Connect, collector: Collector) -> None:
    collector.mode = "hole"
    client = connect(collector, timeout_s=30)
    client.record("a", 1.0)
    started = time.monotonic()
    client.close(0.5)
    assert 0.4 < time.monotonic() - started < 10, "a request may take 30 s"


@pytest.mark.parametrize(
    ("urls", "said"),
    [
        ([], "at least one"),
        ("ftp://a", "http://host:port"),
        (["http://"], "http://host:port"),
        ("http://a:x", "'http://a:x'"),
        ("http://a:99999", "'http://a:99999'"),
        ("http://[::1", r"'http://\[::1'"),
        (["http://b", "http://a b"], "'http://a b'"),
        ([8080], "'8080'"),
    ],
)
def test_an_unusable_url_is_said_at_once(urls: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MetricsClient(urls)


@pytest.mark.parametrize(
    "option",
    [
        {"interval_s": 0},
        {"max_values": "many"},
        {"max_bytes": 1},
        {"catch_up": 0.5},
        {"headers": {"Authorization": "a\r\nb"}},
    ],
)
def test_an_unusable_option_is_said_at_once(option: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        Options(**option)


def test_addresses_come_from_the_environment_when_none_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_URL", "http://a:1, https://b")
    with MetricsClient() as client:
        assert [address.url for address in client.stats().addresses] == ["http://a:1/samples", "https://b/samples"]


@pytest.mark.parametrize(("value", "enabled"), [("1", False), ("true", False), ("0", True), ("", True)])
def test_metrics_disabled_makes_it_do_nothing(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, value: str, enabled: bool
) -> None:
    monkeypatch.setenv("METRICS_DISABLED", value)
    others = threads_of_clients()
    with MetricsClient(collector.url) as client:
        assert bool(threads_of_clients() - others) is enabled
        client.record("a", 1.0)
        with client.timer("b"):
            pass
        assert client.flush(10)
    assert (collector.requests > 0) is enabled


async def test_the_async_client_records_without_awaiting_and_awaits_the_rest(collector: Collector) -> None:
    async with AsyncMetricsClient(collector.url) as client:
        client.record("a", 1.0)
        async with client.timer("block"):
            pass
        assert await client.flush(10)
        assert collector.counted("a") == collector.counted("block") == 1
        client.record("a", 1.0)
    assert collector.counted("a") == 2


def test_a_series_goes_on_with_its_numbers_when_the_clock_is_set_back_by_a_day(
    connect: Connect, collector: Collector, clock: AppClock
) -> None:
    client = connect(collector, clock=clock)
    client.record("a", 1.0)
    assert client.flush(10)
    clock.ahead_s = 86_400
    client.record("a", 1.0)
    clock.ahead_s = 0
    assert not client.flush(10), "that is refused; by then the step back is noticed"
    client.record("a", 1.0)
    assert client.flush(10)
    assert (collector.counted("a"), collector.duplicates("a")) == (2, 0)


def test_the_hour_is_that_of_the_call(connect: Connect, collector: Collector, clock: AppClock) -> None:
    client = connect(collector, clock=clock)
    at = time.time_ns() // HOUR_NS * HOUR_NS
    clock.stands_at_ns = at - 1
    client.record("a", 1.0)
    clock.stands_at_ns = at
    client.record("a", 2.0)
    client.record("a", 3.0)
    assert client.flush(10)
    assert sorted(row.summary.sum for row in collector.rows()["a"]) == [1.0, 5.0]
    assert collector.missing("a") == 0
