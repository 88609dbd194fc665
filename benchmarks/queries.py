"""Questions while samples come in: an open loop of queries beside the brief's baseline, worker and broker on two cores.

The load is `metrics-app load`, a process of its own that compares every aggregate afterwards. The questions go round
the keys that it fills and the statistics; each counts from the moment it was due to its last byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec
import numpy as np

from benchmarks.bench import Bench
from benchmarks.services import Service, service
from metrics_app.verify.sender import OpenLoop

VALUES_PER_S, KEYS = 10_000, 10
RATES = (500, 1_000, 2_000)  # questions a second; the first is the one asked of the product
STATS = ("average", "min", "max", "median", "p95", "p99", "summary")
WARM_S = 3.0  # until the load has begun and its keys are known
IN_FLIGHT = 256


def run(bench: Bench) -> dict[str, Any]:
    """The section `queries`, a row a rate of questions.

    Raises:
        RuntimeError: a question was not answered, or the load was counted wrong.
    """
    rates, seconds = (RATES[:1], 3.0) if bench.quick else (RATES, 15.0)
    bench.expect(len(rates))
    with service(bench, "all", bench.name("queries")) as worker, _load(worker, WARM_S + len(rates) * (seconds + 1)):
        time.sleep(WARM_S)
        rows = []
        for rate in rates:
            bench.step(f"{rate:,} queries/s beside {VALUES_PER_S:,} values/s")
            rows.append(asyncio.run(_asked(worker.url, rate, seconds)))
    return {"queries": rows}


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


async def _asked(url: str, rate: int, seconds: float) -> dict[str, Any]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as session:
        now = datetime.now(UTC)
        async with session.get("/keys", params={"date": f"{now:%F}", "prefix": "load-", "limit": "100"}) as reply:
            # no probes: those have one value each
            keys = [key for key in msgspec.json.decode(await reply.read())["keys"] if "probe" not in key]
        if not keys:
            raise RuntimeError("the load beside the queries has not begun")
        paths = [f"/{key}/{stat}/{now:%F}/{now.hour}" for stat in STATS for key in keys]
        failed: list[str] = []

        async def ask(number: int, _lane: int) -> bool:
            async with session.get(paths[number % len(paths)]) as reply:
                body = await reply.read()
            if reply.status != HTTPStatus.OK:
                failed.append(f"{reply.status}: {body[:200]!r}")
            return True

        loop = OpenLoop(round(rate * seconds), 1 / rate, IN_FLIGHT)
        await loop.run(ask)
    if failed:
        raise RuntimeError(f"{len(failed)} of {loop.total} queries were not answered, the first with {failed[0]}")
    p50, p99, worst = (round(1000 * each, 2) for each in np.quantile(loop.latency_s, (0.5, 0.99, 1.0)))
    return {
        "per_s": rate,
        "values_per_s": VALUES_PER_S,
        "asked": loop.total,
        "held": loop.is_held,
        "p50_ms": p50,
        "p99_ms": p99,
        "max_ms": worst,
    }
