"""The service is away, and the app does not notice; it is back, and every value counts once."""

from __future__ import annotations

import random
import statistics
import threading
import time
import tracemalloc
from collections import Counter
from typing import Any

import pytest

from metrics_app import MetricsClient
from metrics_app.client.delivery import DOUBTS
from tests.faults import pace
from tests.faults.pace import stretched

from .collector import Collector
from .conftest import Connect
from .test_client import eventually

LEAST_S = 4.0
LONG_S = 60.0  # with times a tenth of the real ones: ten minutes
MAX_BYTES = 1 << 20


class App:
    """Threads that record at a rate, and note what each call cost and raised."""

    def __init__(self, client: MetricsClient, threads: int = 2, rate: float = 4000) -> None:
        self.client = client
        self.took_ns: list[int] = []
        self.raised: list[BaseException] = []
        self.recorded = 0
        self._pause_s = 50 * threads / rate
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(threads)]

    def __enter__(self) -> App:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
        self.recorded = len(self.took_ns)

    def _work(self) -> None:
        record, clock = self.client.record, time.perf_counter_ns
        try:
            while not self._done.wait(self._pause_s):
                for value in [random.random() for _ in range(50)]:
                    started = clock()
                    record("a", value)
                    self.took_ns.append(clock() - started)
        except BaseException as error:
            self.raised.append(error)

    @property
    def p99_us(self) -> float:
        return statistics.quantiles(self.took_ns, n=100)[98] / 1000


def outage(connect: Connect, collector: Collector, fault: Any, lasts_s: float) -> tuple[App, MetricsClient]:
    pace.begin()
    url = collector.url
    if fault == "gone":
        collector.stop()
    elif fault == "dns":
        url = "http://collector.invalid:8080"
    else:
        collector.mode = fault
    client = connect(url, max_bytes=MAX_BYTES, interval_s=0.1, backoff_max_s=3.0, timeout_s=0.5, histogram_above=0)
    with App(client) as app:
        time.sleep(lasts_s)
    return app, client


FAULTS = ["gone", "hole", "slow", 503, 500, "dns"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("lasts_s", [LEAST_S, pytest.param(LONG_S, marks=pytest.mark.slow)])
def test_an_app_does_not_notice_that_the_service_is_away_and_all_that_is_kept_counts_once_when_it_is_back(
    connect: Connect, collector: Collector, fault: Any, lasts_s: float
) -> None:
    app, client = outage(connect, collector, fault, lasts_s)
    stats = client.stats()
    print(f"{app.recorded} calls, p99 {app.p99_us:.1f} us; {stats}")
    assert app.raised == []
    assert app.p99_us <= 50
    assert stats.waiting_bytes <= MAX_BYTES
    if fault == "dns":
        assert "resolve" in stats.addresses[0].problem
        return
    collector.mode = "ok"
    if fault == "gone":
        collector.start()
    recorded = app.recorded
    flushed = client.flush(stretched(60))
    stats = client.stats()
    dropped = sum(stats.dropped.values())
    assert stats.waiting == 0
    assert flushed == (not dropped)
    assert stats.recorded == recorded == stats.sent + dropped
    assert collector.counted("a") + collector.missing("a") == recorded
    if fault != "slow":  # whose replies come too late: what it has counted may be dropped for want of them
        assert collector.counted("a") == stats.sent
        assert (dropped > 0) == (fault == 500 or lasts_s == LONG_S)
    assert set(stats.dropped) <= ({"refused", "overflow"} if fault == 500 else {"overflow"})


def test_memory_does_not_grow_while_the_service_is_away(connect: Connect, collector: Collector) -> None:
    collector.mode = 503
    client = connect(collector, max_bytes=256 << 10, interval_s=0.05, histogram_above=0, backoff_max_s=0.5)

    def record(batches: int) -> int:
        for _ in range(batches):
            for _ in range(2000):
                client.record("a", random.random())
            time.sleep(0.02)
        time.sleep(0.2)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        record(50)
        # what waits goes up and down by a batch, so one look at it says little; a leak would be 8 bytes a value
        full = max(record(5) for _ in range(4))
        later = min(record(25) for _ in range(4))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    print(f"{full} bytes when full, {later} later, {peak} at most")
    assert client.stats().dropped["overflow"] > 100_000
    assert later < full + (64 << 10)
    assert peak < (256 << 10) + (4 << 20), "with what the threads and the collector in this process work on"


@pytest.mark.parametrize("backlog_s", [8.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_clients_that_come_back_together_send_at_most_three_times_as_much_as_ever(
    connect: Connect, collector: Collector, backlog_s: float
) -> None:
    """The backlog of ten clients."""
    clients, rate = 10, 300.0
    collector.mode = 503
    made = [
        connect(collector, interval_s=0.5, batch_values=10_000, backoff_max_s=backlog_s / 8) for _ in range(clients)
    ]
    apps = [App(client, threads=1, rate=rate) for client in made]
    for app in apps:
        app.__enter__()
    time.sleep(backlog_s)
    collector.mode = "ok"
    back = time.monotonic()
    time.sleep(backlog_s)
    for app in apps:
        app.__exit__()
    assert all(client.flush(60) for client in made)
    recorded = sum(app.recorded for app in apps)
    assert collector.counted("a") == recorded
    assert collector.missing("a") == collector.duplicates("a") == 0
    by_second = Counter(int(at - back) for at, _, _ in collector.seen)
    values = Counter[int]()
    for at, count, _ in collector.seen:
        values[int(at - back)] += count
    usual = recorded / (2 * backlog_s)
    print(f"usually {usual:.0f}/s, at most {max(values.values())}/s in {max(by_second.values())} requests/s: {values}")
    assert max(values.values()) <= 3 * usual
    assert sum(client.stats().retries for client in made) <= 0.2 * sum(by_second.values()) + 10 * clients + 60 * clients


def test_the_next_address_is_tried_at_once_when_one_cannot_be_reached(connect: Connect, collector: Collector) -> None:
    with Collector() as other:
        other.stop()
        client = connect(collector, other, backoff_first_s=20, backoff_max_s=30, interval_s=0.05)
        for _ in range(20):
            client.record("a", 1.0)
            assert client.flush(5)
        stats = client.stats()
        assert collector.counted("a") == 20
        assert stats.retries <= 2, "the one that is away is left alone"
        assert sorted(address.failures > 0 for address in stats.addresses) == [False, True]


def test_load_is_spread_over_the_addresses_and_one_that_is_back_takes_part_again(
    connect: Connect, collector: Collector
) -> None:
    with Collector(fold=collector.fold) as other:
        client = connect(collector, other)
        for _ in range(10):
            client.record("a", 1.0)
            assert client.flush(5)
        assert collector.requests == other.requests == 5
        other.stop()
        for _ in range(10):
            client.record("a", 1.0)
            assert client.flush(5)
        other.start()
        before = other.requests
        until = time.monotonic() + 10
        while other.requests == before:
            client.record("a", 1.0)
            assert client.flush(5)
            assert time.monotonic() < until


def test_a_reply_that_is_lost_does_not_count_twice(connect: Connect, collector: Collector) -> None:
    client = connect(collector, histogram_above=100)
    collector.mode = "cut"
    for _ in range(300):
        client.record("a", 1.5)
    client.record("b", 1.5)
    assert not client.flush(1)
    collector.mode = "ok"
    assert client.flush(10)
    assert (collector.counted("a"), collector.total("a"), collector.missing("a")) == (300, 450.0, 0)
    assert collector.counted("b") == 1
    assert collector.duplicates("a") >= 300


def test_retry_after_is_obeyed(connect: Connect, collector: Collector) -> None:
    collector.mode, collector.headers = 503, {"Retry-After": "2"}
    client = connect(collector)
    client.record("a", 1.0)
    assert not client.flush(1.5)
    assert collector.requests == 1
    collector.mode = "ok"
    started = time.monotonic()
    assert client.flush(10)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("status", [401, 408, 425, 429, 502, 503, 504])
def test_what_is_not_taken_now_is_tried_until_it_is(connect: Connect, collector: Collector, status: int) -> None:
    client = connect(collector)
    collector.mode = status
    client.record("a", 1.0)
    assert not client.flush(1.0)
    assert collector.requests > 1
    collector.mode = "ok"
    assert client.flush(10)
    assert (client.stats().dropped, collector.counted("a")) == ({}, 1)


@pytest.mark.parametrize("status", [409, 421, 500, 520])
@pytest.mark.parametrize("lasts", [2, 100])
def test_what_may_be_a_fault_of_the_moment_is_tried_some_times(
    connect: Connect, collector: Collector, status: int, lasts: int
) -> None:
    client = connect(collector, backoff_max_s=0.05)
    collector.mode = status
    collector.mode_lasts = lasts
    client.record("a", 1.0)
    assert client.flush(10) == (lasts == 2)
    assert client.stats().dropped == ({} if lasts == 2 else {"refused": 1})
    assert collector.requests >= (3 if lasts == 2 else DOUBTS)


@pytest.mark.parametrize("status", [400, 403, 404, 413, 415, 422, 501, 200, 301])
def test_everything_else_is_a_refusal_for_good_and_flush_says_so(
    connect: Connect, collector: Collector, status: int
) -> None:
    client = connect(collector)
    collector.mode = status
    client.record("a", 1.0)
    assert not client.flush(10)
    assert client.stats().dropped == {"refused": 1}


def test_a_batch_that_is_too_large_is_sent_in_parts(connect: Connect, collector: Collector) -> None:
    collector.max_body = 20_000
    client = connect(collector, interval_s=60, batch_values=100_000)
    for number in range(10_000):
        client.record("a", number)
        client.record(f"key-{number % 50}", number)
    assert client.flush(20)
    assert (collector.counted("a"), collector.total("a")) == (10_000, sum(range(10_000)))
    assert sum(collector.counted(f"key-{number}") for number in range(50)) == 10_000
    assert collector.missing("a") == collector.duplicates("a") == 0


def test_what_is_refused_is_missing_in_answers_though_nothing_follows_it(
    connect: Connect, collector: Collector
) -> None:
    client = connect(collector)
    client.record("a", 1.0)
    assert client.flush(10)
    collector.mode, collector.mode_lasts = 400, 1
    client.record("a", 1.0)
    assert not client.flush(10)
    eventually(lambda: collector.missing("a") == 1)
    assert collector.reported == {"refused": 1}


def test_what_waits_is_missing_in_answers_before_it_is_sent_after_an_outage_or_at_the_end(
    connect: Connect, collector: Collector
) -> None:
    """So that a process that is killed meanwhile leaves no answer that says that nothing is missing."""
    client = connect(collector, interval_s=60, histogram_above=0)
    client.record("a", 1.0)
    assert client.flush(10)
    collector.mode = 503
    for _ in range(5):
        for _ in range(1000):
            client.record("a", random.random())
        client.flush(0)
    collector.mode = "tidings"
    client.close(stretched(2.0))
    assert (collector.counted("a"), collector.missing("a")) == (1, 5000)


def test_an_attempt_that_was_on_its_way_when_the_end_began_is_not_the_last_chance(
    connect: Connect, collector: Collector
) -> None:
    collector.mode = "late 503"
    client = connect(collector, interval_s=0.05, backoff_first_s=30, backoff_max_s=60)
    client.record("a", 1.0)
    eventually(lambda: collector.requests == 1)
    collector.mode = "ok"
    client.close(stretched(5.0))
    assert collector.counted("a") == 1
