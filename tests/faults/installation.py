"""A whole installation of real processes on one machine, and load on it whose every value is accounted for."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from metrics_app.broker.embedded import EmbeddedKafka
from metrics_app.broker.ports import free_port
from metrics_app.load.plan import Form, Plan
from metrics_app.load.run import Run, perform
from metrics_app.load.verdict import Verdict
from tests.conftest import ARTIFACTS
from tests.faults.process import Process

SETTINGS = {
    "METRICS_PARTITIONS": "4",
    "METRICS_SESSION_TIMEOUT_S": "10",
    "METRICS_LOG_LEVEL": "info",
}

Fault = Callable[["Installation"], Awaitable[None]]


class Installation:
    """One Kafka of its own and any number of workers.

    Args:
        folder: everything goes there; logs are copied to tests/artifacts when the test fails.
        workers: role of each worker by name, such as {"a": "all", "b": "all"}.
        settings: METRICS_* for all of them.
    """

    def __init__(self, folder: Path, workers: dict[str, str], settings: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.kafka = EmbeddedKafka(folder / "kafka", port=free_port())
        self.settings = SETTINGS | (settings or {})
        self.workers = {name: self._worker(name, role) for name, role in workers.items()}

    def _worker(self, name: str, role: str) -> Process:
        port = free_port()
        arguments = [role, "--port", str(port), "--data-dir", str(self.data_dir(name))]
        environment = {**self.settings, "METRICS_KAFKA": f"127.0.0.1:{self.kafka.port}"}
        return Process(name, arguments, port, self.folder, environment)

    def data_dir(self, name: str) -> Path:
        """Folder of a worker's local state."""
        return self.folder / f"data-{name}"

    @property
    def urls(self) -> tuple[str, ...]:
        """Base URLs of all workers."""
        return tuple(worker.url for worker in self.workers.values())

    def __enter__(self) -> Self:
        self.kafka.start()
        try:
            for worker in self.workers.values():
                worker.start()
            for worker in self.workers.values():
                worker.await_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        for worker in self.workers.values():
            worker.end()
        self.kafka.stop()
        if kind is not None:
            self._keep_logs()

    def _keep_logs(self) -> None:
        kept = ARTIFACTS / self.folder.name
        kept.mkdir(parents=True, exist_ok=True)
        for log in [*self.folder.glob("*.log"), self.kafka.log]:
            shutil.copy(log, kept)

    def restart(self, name: str) -> None:
        """Starts a worker that has ended, and waits until it is ready."""
        self.workers[name].start()
        self.workers[name].await_ready()

    def wipe(self, name: str) -> None:
        """Deletes the local state of a worker that is not running."""
        assert not self.workers[name].is_running
        shutil.rmtree(self.data_dir(name))

    def plan(
        self, rate: float = 5000, keys: int = 20, batch: int = 100, form: Form = Form.JSON, seed: int | None = None
    ) -> Plan:
        """Load over all workers, every request sent again as the same one until it is accepted."""
        seed = random.randrange(1 << 30) if seed is None else seed
        print(f"seed {seed}")
        wait_s = 90.0
        return Plan(
            rate, keys, 3600, batch, form, self.urls, until_kept_s=120, drain_s=wait_s, patience_s=wait_s, seed=seed
        )

    async def under_load(self, fault: Fault, plan: Plan) -> Run:
        """What a run of load came to that lasted as long as the fault."""
        done = asyncio.Event()

        async def inject() -> None:
            try:
                await fault(self)
            finally:
                done.set()

        async with asyncio.TaskGroup() as together:
            injecting = together.create_task(inject())
            running = together.create_task(perform(plan, until=done))
        injecting.result()
        return running.result()

    def count(self, metric: str) -> float:
        """Sum of one counter over all running workers and labels."""
        total = 0.0
        for worker in self.workers.values():
            if worker.is_running:
                text = urllib.request.urlopen(f"{worker.url}/metrics", timeout=2.0).read().decode()
                lines = [line for line in text.splitlines() if line.startswith((metric + " ", metric + "{"))]
                total += sum(float(line.rsplit(" ", 1)[1]) for line in lines)
        return total


def assert_exact(run: Run) -> None:
    """Every value accepted, every one counted once, every statistic within its stated bound."""
    print(run.reasons)
    assert run.verdict.sent == run.verdict.accepted, run.reasons
    assert_right(run.verdict)


def assert_right(verdict: Verdict) -> None:
    """What was accepted is counted once, and every statistic is as it must be."""
    said = f"sent {verdict.sent} counted {verdict.counted} lost {verdict.lost} double {verdict.double}"
    print(said)
    assert verdict.sent == verdict.counted, said
    assert not verdict.wrong, verdict.wrong[:5]


async def eventually(condition: Callable[[], bool], within_s: float) -> float:
    """Waits until a condition holds; returns for how long."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_s, f"not within {within_s} s"
        await asyncio.sleep(0.1)
    return time.monotonic() - started
