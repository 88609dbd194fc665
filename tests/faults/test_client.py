"""The client on real collectors, Kafka and aggregators: collectors are killed under it, and it is killed itself."""

from __future__ import annotations

import json
import math
import random
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from metrics_app import MetricsClient, Options
from tests.faults.installation import Installation
from tests.faults.pace import stretched

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

DUPLICATE = "metrics_app_duplicate_values_total"


class App:
    """Threads that record values of some keys, keep a ledger, and note what a call costs.

    Args:
        rate: values a second, of all threads.
    """

    def __init__(self, client: MetricsClient, rate: float, keys: int = 8, threads: int = 2) -> None:
        self.client = client
        run = uuid.uuid4().hex[:8]
        self.ledger: dict[str, list[float]] = {f"app-{run}-{number}": [] for number in range(keys)}
        self.took_ns: list[int] = []
        self.raised: list[Exception] = []
        self.began = datetime.now(UTC)
        self._pause_s = 20 * threads / rate
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(list(self.ledger)[number::threads],)) for number in range(threads)
        ]

    def __enter__(self) -> App:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _work(self, keys: list[str]) -> None:
        while not self._done.wait(self._pause_s):
            for _ in range(20):
                key, value = random.choice(keys), round(random.lognormvariate(3, 1), 3)
                started = time.perf_counter_ns()
                try:
                    self.client.record(key, value)
                except Exception as error:
                    self.raised.append(error)
                self.took_ns.append(time.perf_counter_ns() - started)
                self.ledger[key].append(value)

    @property
    def recorded(self) -> int:
        return sum(map(len, self.ledger.values()))

    def p99_us(self) -> float:
        return statistics.quantiles(self.took_ns, n=100)[98] / 1000

    def assert_counted(self, url: str, within_s: float = 60.0) -> dict[str, int]:
        """Every key has the count, sum, minimum and maximum of the ledger; returns missing and duplicates of all."""
        until = time.monotonic() + stretched(within_s)
        told = {"missing": 0, "duplicates": 0}
        for key, values in self.ledger.items():
            while True:
                found = answers(url, key, self.began)
                if sum(each["count"] for each in found) >= len(values) or time.monotonic() > until:
                    break
                time.sleep(0.2)
            assert sum(each["values"]["count"] for each in found) == len(values), key
            assert min(each["values"]["min"] for each in found) == min(values)
            assert max(each["values"]["max"] for each in found) == max(values)
            assert math.isclose(sum(each["values"]["sum"] for each in found), math.fsum(values), rel_tol=1e-15)
            for name in told:
                told[name] += sum(each[name] for each in found)
        return told


def answers(url: str, key: str, since: datetime) -> list[dict[str, Any]]:
    """The summaries of a key in the hours since then."""
    found, hour = [], since.replace(minute=0, second=0, microsecond=0)
    while hour <= datetime.now(UTC):
        try:
            checkpoint = f"{url}/{urllib.parse.quote(key, safe='')}/summary/{hour:%Y-%m-%d}/{hour.hour}"
            with urllib.request.urlopen(checkpoint, timeout=5) as reply:
                found.append(json.load(reply))
        except (urllib.error.URLError, OSError):
            pass
        hour += timedelta(hours=1)
    return found


@pytest.mark.parametrize(
    ("times", "histogram_above"),
    [(1, 200), pytest.param(5, 0, marks=pytest.mark.slow), pytest.param(5, 200, marks=pytest.mark.slow)],
)
def test_a_killed_collector_costs_an_app_with_the_client_nothing(
    tmp_path: Path, times: int, histogram_above: int
) -> None:
    """Kill -9 of one of two collectors, as values and as histograms."""
    with Installation(tmp_path, {"c0": "collector", "c1": "collector", "a": "aggregator"}) as installation:
        client = MetricsClient(installation.tell, Options(histogram_above=histogram_above, interval_s=0.1))
        with App(client, rate=5000) as app:
            for turn in range(times):
                victim = installation.workers[f"c{turn % 2}"]
                time.sleep(2.0)
                victim.kill()
                time.sleep(2.0)
                victim.start()
                victim.await_ready()
            time.sleep(1.0)
        assert client.flush(stretched(30))
        stats = client.stats()
        told = app.assert_counted(installation.ask[0])
        print(f"{app.recorded} values, p99 of a call {app.p99_us():.1f} us, {told}, {stats}")
        assert app.raised == []
        assert app.p99_us() <= 50
        assert stats.dropped == {}
        assert stats.recorded == stats.sent == app.recorded
        assert told["missing"] == 0
        assert stats.retries > 0 or any(address.failures for address in stats.addresses), "nothing was in flight"
        client.close()


@pytest.mark.slow
def test_a_client_is_not_held_up_by_kafka_s_absence_and_loses_nothing(tmp_path: Path) -> None:
    with Installation(tmp_path, {"c0": "collector", "c1": "collector", "a": "aggregator"}) as installation:
        client = MetricsClient(installation.tell, Options(backoff_max_s=2.0))
        with App(client, rate=3000) as app:
            time.sleep(2.0)
            installation.kafka.kill()
            time.sleep(15.0)
            installation.kafka.start()
            time.sleep(5.0)
        assert client.flush(stretched(60))
        stats = client.stats()
        told = app.assert_counted(installation.ask[0])
        print(f"{app.recorded} values, p99 of a call {app.p99_us():.1f} us, {told}, {stats}")
        assert app.raised == []
        assert app.p99_us() <= 50
        assert (stats.dropped, told["missing"]) == ({}, 0)
        client.close()


KILLED = """
import sys, itertools, time
from metrics_app import MetricsClient, Options
client = MetricsClient(sys.argv[2:], Options(interval_s=0.1, spool=sys.argv[1], backoff_max_s=0.5))
for number in itertools.count():
    client.record(f"spooled-{number % 5}", number * 0.5)
    if number % 200 == 0:
        time.sleep(0.02)
        print(client.stats().waiting, flush=True)
"""


@pytest.mark.slow
def test_what_a_killed_app_had_spooled_while_collectors_were_down_arrives_exactly_once(tmp_path: Path) -> None:
    """kill -9 of the app, three times, with no collector up; then of its successor in the middle of sending it."""
    with Installation(tmp_path, {"c0": "collector", "c1": "collector", "a": "aggregator"}) as installation:
        began, spool, sure = datetime.now(UTC), tmp_path / "spool", 0
        for name in ("c0", "c1"):
            installation.workers[name].kill()
        command = [sys.executable, "-c", KILLED, str(spool), *installation.tell]
        for _ in range(3):
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                wanted = sure + 10_000
                while sure < wanted:
                    sure = max(sure, int(process.stdout.readline()))
                process.kill()
        for name in ("c0", "c1"):
            installation.restart(name)
        successor = MetricsClient(installation.tell, Options(spool=spool))
        while successor.stats().recovered < sure:
            time.sleep(0.05)
        recovered = successor.stats().recovered
        assert successor.flush(stretched(60))
        successor.close()
        assert list(spool.iterdir()) == []
        told = [answers(installation.ask[0], f"spooled-{number}", began) for number in range(5)]
        until = time.monotonic() + stretched(30)
        while sum(each["count"] for found in told for each in found) < recovered and time.monotonic() < until:
            time.sleep(0.2)
            told = [answers(installation.ask[0], f"spooled-{number}", began) for number in range(5)]
        counted = sum(each["count"] for found in told for each in found)
        missing = sum(each["missing"] for found in told for each in found)
        print(f"{recovered} values were in the spool, {sure} of them surely; counted {counted}, missing {missing}")
        assert recovered >= sure
        assert counted == recovered
        assert missing == 0
