"""What a call of `MetricsClient.record` costs, and how many of them a process can do without losing one.

A process of its own records, as it would beside other work: as fast as it can, of one thread and of four, as
histograms; at 500,000 calls a second, and at 200,000 as values. Everything goes through a real collector, Kafka and
worker, and a run of which a count, sum, minimum or maximum is wrong is no run.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from benchmarks.bench import Bench
from benchmarks.services import Service, service

CALLS = 3_000_000
QUICK_CALLS = 200_000
WITHIN_S = 60.0
HISTOGRAMS = 2_000  # values a second of a key from which on it sends them; the client's default
CASES = (
    {"case": "histograms, one thread", "threads": 1, "rate": 0, "histogram_above": HISTOGRAMS},
    {"case": "histograms, four threads", "threads": 4, "rate": 0, "histogram_above": HISTOGRAMS},
    {"case": "histograms, 500,000 calls a second", "threads": 1, "rate": 500_000, "histogram_above": HISTOGRAMS},
    # as fast as it can, values outrun any sender, and the oldest are dropped, as they should be
    {"case": "values, 200,000 calls a second", "threads": 1, "rate": 200_000, "histogram_above": 0},
)


def run(bench: Bench) -> dict[str, Any]:
    """The section `client`, a row a case.

    Raises:
        RuntimeError: a statistic is not what was recorded.
    """
    bench.expect(len(CASES))
    calls = QUICK_CALLS if bench.quick else CALLS
    with service(bench, "all", bench.name("client")) as worker:
        return {"client": [_measure(bench, worker, case, calls) for case in CASES]}


def _measure(bench: Bench, worker: Service, case: dict[str, Any], calls: int) -> dict[str, Any]:
    bench.step(f"client: {case['case']}")
    wanted = {**case, "url": worker.url, "calls": calls, "name": bench.name("recorded")}
    command = [sys.executable, "-m", "benchmarks.recording_app", json.dumps(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    for key in found.pop("keys"):
        _check(worker, key, found)
    for name in ("count", "min", "max", "sum"):
        del found[name]
    return case | found | {"exact": found["sent"] and not found["dropped"]}


def _check(worker: Service, key: str, expected: dict[str, Any]) -> None:
    """Returns once the key has been counted as recorded.

    Raises:
        RuntimeError: it has not been, in a minute. A run over the turn of an hour is one of those.
    """
    until = time.monotonic() + WITHIN_S
    while True:
        at = time.gmtime()
        found = _answer(f"{worker.url}/{key}/summary/{time.strftime('%Y-%m-%d', at)}/{at.tm_hour}")
        values = found.get("values", {})
        if values.get("count") == expected["count"] and found["missing"] == 0:
            break
        if time.monotonic() > until:
            raise RuntimeError(f"{key}: expected {expected}, got {found}")
        time.sleep(0.2)
    right = (values["min"], values["max"]) == (expected["min"], expected["max"])
    if not right or not math.isclose(values["sum"], expected["sum"], rel_tol=1e-14):
        raise RuntimeError(f"{key}: expected {expected}, got {found}")


def _answer(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            document: dict[str, Any] = json.load(reply)
            return document
    except urllib.error.HTTPError:
        return {}
