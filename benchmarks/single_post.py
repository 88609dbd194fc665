"""One sample a request: our collector beside a bare aiohttp server that parses the same body and answers at once.

The bare server is the ceiling of what any service on aiohttp could do; ours also gathers, waits for Kafka and counts.
Both get the same closed loop in turns, A B A B, and the best turn of each counts, so that what else runs on the
machine does not decide.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import ingest
from benchmarks.bench import Bench
from benchmarks.flood import flood, post
from benchmarks.services import await_ready, service
from metrics_app.kafka.ports import free_port

CONNECTIONS = 256  # so many that the 25 ms of gathering do not bound the rate
TURNS = 4


def run(bench: Bench) -> dict[str, Any]:
    """The section `single_post`: requests a second of both, all turns, and ours divided by the bare one.

    Raises:
        RuntimeError: a request was not accepted.
    """
    turns, seconds = (1, 1.2) if bench.quick else (TURNS, 4.0)
    bench.expect(2 * turns)
    rates: dict[str, list[int]] = {"bare": [], "ours": []}
    with service(bench, "collector", bench.name("single"), request_deadline_s=30) as ours, bare(bench) as bare_url:
        for _ in range(turns):
            for name, url in (("bare", bare_url), ("ours", ours.url)):
                bench.step(f"single POST: {name}")
                rates[name].append(_rate(url, seconds))
    best = {name: max(each) for name, each in rates.items()}
    return {"single_post": {**best, "share": round(best["ours"] / best["bare"], 3), "all": rates}}


def _rate(url: str, seconds: float) -> int:
    requests = [post(url, body) for body in ingest.written(ingest.FORMS[0])]
    done = asyncio.run(flood(url, ingest.for_a_while(requests, seconds), CONNECTIONS))
    if done.failed:
        raise RuntimeError(f"{url}: {done}")
    return round(done.accepted / done.seconds)


@contextmanager
def bare(bench: Bench) -> Iterator[str]:
    """The address of a bare server, a process of its own."""
    port, log = free_port(), bench.folder / "bare.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare_server", str(port)], stdout=output, stderr=output
        )
    try:
        url = f"http://127.0.0.1:{port}"
        await_ready(url, child, log, "/")
        yield url
    finally:
        child.kill()
        child.wait()
