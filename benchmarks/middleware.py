"""What an app's users notice of the middleware: its response times without it, with collectors up, down and silent.

Four copies of the same app run at once and are asked at once, each as often as the others, so that what else happens on
the machine happens to all. Requests start on a schedule, whatever the replies do, and are timed from then.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.services import service
from metrics_app.kafka.ports import free_port
from metrics_app.verify.running import RunningProcess

RATE = 100.0  # requests a second of each copy
CONNECTIONS = 4  # to each copy
SECONDS, QUICK_SECONDS = 90.0, 5.0
SETTLE_S = 2.0  # of the beginning, that do not count
PERCENTILES = (50, 99)
SERVERS = {
    "Starlette on uvicorn": ["uvicorn", "benchmarks.shop:starlette", "--log-level", "critical", "--port"],
    "Flask on gunicorn": [
        "gunicorn", "benchmarks.shop:flask", "--threads", "16", "--keep-alive", "60", "--log-level", "critical", "-b",
    ],
}  # fmt: skip
STATES = ("without", "up", "down", "silent")


def run(bench: Bench) -> dict[str, Any]:
    """The section `middleware`, a row for each app: percentiles in ms by state, and p99 beside that without."""
    seconds = QUICK_SECONDS if bench.quick else SECONDS
    bench.expect(len(SERVERS))
    with ExitStack() as stack:
        up = stack.enter_context(service(bench, "all", bench.name("middleware")))
        hole = stack.enter_context(_silent())
        collectors = {"without": "", "up": up.url, "down": f"http://127.0.0.1:{free_port()}", "silent": hole}
        found = []
        log = bench.folder / "shop.log"
        for name, command in SERVERS.items():
            bench.step(f"middleware: {name}")
            with ExitStack() as servers:
                ports = {state: servers.enter_context(_serving(command, collectors[state], log)) for state in STATES}
                found.append({"app": name, **asyncio.run(_asked(ports, seconds))})
        return {"middleware": found}


@contextmanager
def _silent() -> Iterator[str]:
    """The address of somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def _serving(command: list[str], collectors: str, log: Path) -> Iterator[int]:
    """The port of a copy of the app."""
    port = free_port()
    address = f"127.0.0.1:{port}" if command[-1] == "-b" else str(port)
    settings, url = {"SHOP_COLLECTORS": collectors}, f"http://127.0.0.1:{port}"
    with RunningProcess("shop", [sys.executable, "-m", *command, address], log, settings, url).running("/orders/1"):
        yield port


async def _asked(ports: dict[str, int], seconds: float) -> dict[str, Any]:
    took: dict[str, list[float]] = {state: [] for state in ports}
    began = time.perf_counter() + 0.2
    async with asyncio.TaskGroup() as together:
        for number in range(CONNECTIONS):
            for turn, state in enumerate(STATES):
                due = began + (number + turn / len(STATES)) / RATE
                together.create_task(_on_schedule(ports[state], due, began, seconds, took[state]))
    figures: dict[str, Any] = {
        state: {f"p{percent}_ms": _percentile(each, percent) for percent in PERCENTILES} for state, each in took.items()
    }
    alone = figures["without"]["p99_ms"]
    moved = {state: round(100 * (figures[state]["p99_ms"] / alone - 1), 1) for state in STATES[1:]}
    return {"requests": len(took["without"]), **figures, "p99_moved_percent": moved}


async def _on_schedule(port: int, due: float, began: float, seconds: float, took: list[float]) -> None:
    """Adds the milliseconds from when each request was due until its reply was whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while due < began + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        writer.write(b"GET /orders/4711 HTTP/1.1\r\nHost: shop\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the app answered {head!r}")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        if due > began + SETTLE_S:
            took.append((time.perf_counter() - due) * 1000)
        due += CONNECTIONS / RATE
    writer.close()


def _percentile(values: list[float], percent: int) -> float:
    return round(sorted(values)[int(len(values) * percent / 100)], 2)
