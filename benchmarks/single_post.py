"""One sample a request: our collector beside a bare aiohttp server that parses the same body and answers at once.

The bare server is what a service on aiohttp can do that keeps nothing; ours also gathers, waits for Kafka and counts.
It runs twice, with the lane for small requests and without it, so the difference is that of the lane. All get the same
closed loop in turns, A B C A B C; the best turn of each counts, and the CPU of its process, so that what else runs on
the machine does not decide. The sender is wrk where that is installed, else the loop of `flood`, which costs more.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psutil

from benchmarks import ingest, wrk
from benchmarks.bench import Bench
from benchmarks.flood import flood, post
from benchmarks.meter import cpu_s
from benchmarks.services import service
from metrics_app.kafka.ports import free_port
from metrics_app.verify.running import RunningProcess

CONNECTIONS = 256  # so many that the 25 ms of gathering do not bound the rate
TURNS = 4
BODIES = 200


class Contestant(NamedTuple):
    """A server: its address and its process."""

    url: str
    process: psutil.Process


class Turn(NamedTuple):
    """Requests a second, and CPU microseconds a request of the server."""

    per_s: int
    cpu_us: float


def run(bench: Bench) -> dict[str, Any]:
    """The section `single_post`: of each server its best turn and all turns, and ours divided by the bare one.

    Raises:
        RuntimeError: a request was not accepted.
    """
    turns, seconds = (1, 1.2) if bench.quick else (TURNS, 4.0)
    bench.expect(3 * turns)
    with (
        service(bench, "collector", bench.name("single"), request_deadline_s=30) as ours,
        service(bench, "collector", bench.name("single"), request_deadline_s=30, small_request_lane=False) as view,
        bare(bench) as alone,
    ):
        servers = {
            "bare": alone,
            "ours": Contestant(ours.url, ours.process),
            "without_lane": Contestant(view.url, view.process),
        }
        found: dict[str, list[Turn]] = {name: [] for name in servers}
        for _ in range(turns):
            for name, server in servers.items():
                bench.step(f"single POST: {name}")
                found[name].append(_turn(bench, server, seconds))
    return {"single_post": section(found)}


def section(found: dict[str, list[Turn]]) -> dict[str, Any]:
    """The figures of all turns, JSON-serialisable."""
    best = {name: max(each.per_s for each in turns) for name, turns in found.items()}
    cpu_us = {name: min(each.cpu_us for each in turns) for name, turns in found.items()}
    return {
        **best,
        "share": round(best["ours"] / best["bare"], 3),
        "cpu_us": cpu_us,
        "sender": "wrk" if wrk.available() else "flood",
        "all": {name: [each.per_s for each in turns] for name, turns in found.items()},
    }


def _turn(bench: Bench, server: Contestant, seconds: float) -> Turn:
    before = cpu_s(server.process)
    per_s, answered = _by_wrk(bench, server.url, seconds) if wrk.available() else _by_flood(server.url, seconds)
    return Turn(per_s, round(1e6 * (cpu_s(server.process) - before) / answered, 1))


def _by_wrk(bench: Bench, url: str, seconds: float) -> tuple[int, int]:
    requests = [("POST", "/samples", body) for body in ingest.written(ingest.FORMS[0])[:BODIES]]
    driven = wrk.drive(url, requests, seconds, CONNECTIONS, bench.folder)
    return driven.per_s, driven.answered


def _by_flood(url: str, seconds: float) -> tuple[int, int]:
    requests = [post(url, body) for body in ingest.written(ingest.FORMS[0])]
    done = asyncio.run(flood(url, ingest.for_a_while(requests, seconds), CONNECTIONS))
    if done.failed:
        raise RuntimeError(f"{url}: {done}")
    return round(done.accepted / done.seconds), done.accepted


@contextmanager
def bare(bench: Bench) -> Iterator[Contestant]:
    """A bare server, a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.bare_server", str(port)]
    url = f"http://127.0.0.1:{port}"
    with RunningProcess("bare", command, bench.folder / "bare.log", {}, url).running("/") as server:
        yield Contestant(url, psutil.Process(server.pid))
