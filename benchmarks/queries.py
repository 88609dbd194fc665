"""Questions while samples come in: a fixed rate of them beside the brief's baseline, worker and broker on two cores.

Called by `benchmarks`.

The load is `metrics-app load`, a process of its own that compares every aggregate afterwards. The questions go round
the keys that it fills and the statistics of the hour that runs; they are sent by h2load, all
connections at once at each of its ticks. What a question costs the worker is its CPU time less what the load
alone took just before. Then wrk asks as fast as it is answered, in turns with a bare aiohttp server that answers each
question with the same bytes.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import msgspec
import numpy as np
import psutil

from benchmarks import h2load, wrk
from benchmarks.bench import Bench
from benchmarks.meter import cpu_s
from benchmarks.services import Service, service
from benchmarks.single_post import Contestant, bare

VALUES_PER_S, KEYS = 10_000, 10
RATES = (500, 1_000, 2_000)  # questions a second; the first is the one asked of the product
STATS = ("average", "min", "max", "median", "p95", "p99", "summary")
WARM_S = 3.0  # until the load has begun and its keys are known
CONNECTIONS = 20
AT_ONCE = 32  # connections of wrk
TURNS = 3


def run(bench: Bench) -> dict[str, Any]:
    """The sections `queries`, a row a rate of questions, and `query_cost`; empty without h2load and wrk.

    Raises:
        RuntimeError: a question was not answered, or the load was counted wrong.
    """
    if not (h2load.available() and wrk.available()):
        return {}
    rates, seconds, turns = (RATES[:1], 3.0, 1) if bench.quick else (RATES, 15.0, TURNS)
    bench.expect(len(rates) + 1)
    lasting = WARM_S + (len(rates) + 1) * (seconds + 2) + 2 * turns * (seconds / 3 + 1)
    with service(bench, "all", bench.name("queries")) as worker, bare(bench) as alone, _load(worker, lasting):
        time.sleep(WARM_S)
        paths = _paths(worker.url)
        idle = _cores(worker.process, seconds / 3)
        rows = []
        for rate in rates:
            bench.step(f"{rate:,} queries/s beside {VALUES_PER_S:,} values/s")
            rows.append(_asked(bench, worker, paths, rate, seconds, idle))
        bench.step("questions as fast as they are answered, beside a bare server")
        cost = _cost(bench, Contestant(worker.url, worker.process), alone, paths, turns, seconds / 3)
    return {"queries": rows, "query_cost": cost}


@contextlib.contextmanager
def _load(worker: Service, seconds: float) -> Iterator[None]:
    command = [sys.executable, "-m", "metrics_app", "load", "--url", worker.url, "--json"]
    command += ["--rate", str(VALUES_PER_S), "--keys", str(KEYS), "--duration", str(seconds)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield
        said, _ = child.communicate(timeout=seconds + 60)
    finally:
        child.kill()
        child.wait()
    if child.returncode:
        raise RuntimeError(f"the load beside the queries was not counted right: {said.decode()[-2000:]}")


def _paths(url: str) -> list[str]:
    now = datetime.now(UTC)
    with urllib.request.urlopen(f"{url}/keys?date={now:%F}&prefix=load-&limit=100") as reply:
        # no probes: those have one value each
        keys = [key for key in msgspec.json.decode(reply.read())["keys"] if "probe" not in key]
    if not keys:
        raise RuntimeError("the load beside the queries has not begun")
    return [f"/{key}/{stat}/{now:%F}/{now.hour}" for stat in STATS for key in keys]


def _cores(process: psutil.Process, seconds: float) -> float:
    """Share of a core that a process takes now."""
    before, began = cpu_s(process), time.monotonic()
    time.sleep(seconds)
    return (cpu_s(process) - before) / (time.monotonic() - began)


def _asked(
    bench: Bench, worker: Service, paths: Sequence[str], rate: int, seconds: float, idle: float
) -> dict[str, Any]:
    before, began = cpu_s(worker.process), time.monotonic()
    asking = h2load.Rate(rate, CONNECTIONS, round(rate * seconds))
    replies = h2load.get(bench.folder, bench.name("asked"), worker.url, paths, asking).replies(seconds + 60)
    took_s = time.monotonic() - began
    used_s = cpu_s(worker.process) - before - idle * took_s
    if bad := int((replies.statuses != HTTPStatus.OK).sum()):
        raise RuntimeError(f"{bad} of {asking.total} queries were not answered with 200")
    p50, p99, worst = (round(float(each), 2) for each in np.quantile(replies.took_ms, (0.5, 0.99, 1.0)))
    return {
        "per_s": rate,
        "values_per_s": VALUES_PER_S,
        "asked": asking.total,
        "asked_per_s": round(asking.total / took_s),
        "held": asking.total / took_s >= 0.97 * rate,
        "p50_ms": p50,
        "p99_ms": p99,
        "max_ms": worst,
        "cpu_us": round(1e6 * used_s / asking.total, 1),
    }


def _cost(
    bench: Bench, ours: Contestant, alone: Contestant, paths: Sequence[str], turns: int, seconds: float
) -> dict[str, Any]:
    """Of each the best turn: questions a second, CPU microseconds a question; ours without what the load takes."""
    idle = _cores(ours.process, seconds)
    found: dict[str, list[tuple[int, float]]] = {"ours": [], "bare": []}
    for _ in range(turns):
        for name, server, load in (("ours", ours, idle), ("bare", alone, 0.0)):
            before, began = cpu_s(server.process), time.monotonic()
            driven = wrk.drive(server.url, [("GET", path, b"") for path in paths], seconds, AT_ONCE, bench.folder)
            used_s = cpu_s(server.process) - before - load * (time.monotonic() - began)
            found[name].append((driven.per_s, round(1e6 * used_s / driven.answered, 1)))
    return {
        name: {"per_s": max(per_s for per_s, _ in each), "cpu_us": min(cost for _, cost in each)}
        for name, each in found.items()
    }
