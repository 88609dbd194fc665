"""A stage for drills: processes that look like ours and do nothing, and a fake service that answers for them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil

from metrics_app.cli.child import Program, RestartPace
from metrics_app.cli.supervisor import Supervisor, sole_use
from tests.cli.fake_service import FakeService

# a Kafka tells its own process id, as the one in run/ is that of whoever watches it
IDLE = """
import os, pathlib, sys, time
if "kafka.Kafka" in sys.argv:
    written = pathlib.Path(sys.argv[-1]).with_name("kafka.new")
    written.write_text(f"{os.getpid()}\\n")
    written.replace(written.with_name("kafka.pid"))  # nobody sees it half written
time.sleep(600)
"""


def worker_command(folder: Path, name: str, port: int = 1, role: str = "all") -> list[str]:
    """A process whose command is that of a worker of the installation in `folder`."""
    script = folder / "metrics-app"
    script.write_text(IDLE)
    return [sys.executable, str(script), role, "--port", str(port), "--data-dir", str(folder / name)]


def kafka_command(folder: Path) -> list[str]:
    """A process whose command is that of the Kafka of the installation in `folder`."""
    (folder / "kafka").mkdir(exist_ok=True)
    return [sys.executable, "-c", IDLE, "kafka.Kafka", str(folder / "kafka" / "server.properties")]


@contextmanager
def process(command: list[str]) -> Iterator[psutil.Process]:
    """A process, ended and reaped afterwards."""
    with psutil.Popen(command) as started:
        try:
            while not started.cmdline():  # for a moment after its start a process has none
                time.sleep(0.001)
            yield started
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                started.kill()


@contextmanager
def running(folder: Path, name: str, command: list[str]) -> Iterator[psutil.Process]:
    """A process with a pid file."""
    (folder / "run").mkdir(exist_ok=True)
    with process(command) as started:
        (folder / "run" / f"{name}.pid").write_text(f"{started.pid}\n")
        yield started


@asynccontextmanager
async def installation(folder: Path, service: FakeService, workers: int = 1) -> AsyncIterator[list[str]]:
    """Idle processes, restarted when killed; the service answers on their port. Gives what the supervisor says."""
    said: list[str] = []
    stop, is_up = asyncio.Event(), asyncio.Event()
    async with service.running() as url:
        port = int(url.rsplit(":", 1)[1])
        programs = [Program("kafka", kafka_command(folder), _at_once)]
        names = [f"worker-{i}" for i in range(workers)]
        programs += [Program(name, worker_command(folder, name, port), _at_once) for name in names]
        supervisor = Supervisor([programs], folder, said.append, grace_s=5.0, pace=RestartPace(0.05))
        with sole_use(folder):
            task = asyncio.create_task(supervisor.run(stop, is_up.set))
            await is_up.wait()
            await asyncio.to_thread(_await_started, folder, len(programs))
            try:
                yield said
            finally:
                stop.set()
                await task


def _await_started(folder: Path, processes: int) -> None:
    while not (folder / "kafka" / "kafka.pid").exists():
        time.sleep(0.01)
    pids = [int(file.read_text()) for file in (folder / "run").glob("*.pid")]
    assert len(pids) == processes
    while not all(psutil.Process(pid).cmdline() for pid in pids):
        time.sleep(0.001)


async def _at_once(_pid: int) -> bool:
    return True
