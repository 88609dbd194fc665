"""A whole installation of real processes on one machine, and load on it whose every value is accounted for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Self

from metrics_app.kafka.cluster import EmbeddedCluster
from metrics_app.kafka.embedded import EmbeddedKafka
from metrics_app.kafka.ports import free_port
from metrics_app.verify.plan import Form, Plan
from metrics_app.verify.run import Advance, Run, keys_of, perform
from metrics_app.verify.verdict import Verdict
from metrics_app.wire.partition import partition_of
from tests.conftest import ARTIFACTS
from tests.faults import pace
from tests.faults.pace import stretched
from tests.faults.probe import Prober, fresh
from tests.faults.process import Process

SETTINGS = {
    "METRICS_PARTITIONS": "4",
    "METRICS_SESSION_TIMEOUT_S": "10",
    "METRICS_LOG_LEVEL": "info",
}
SESSION_S = 10
TAKEOVER_S = SESSION_S + 15  # a partition whose worker died is answered by its new owner again
DRAIN_S = 60.0
BUSY = 1.5  # times slower than alone, from which on a reply may be late
NO_BACKLOG = 20  # records of all partitions; under load some are always on their way
SEED = "FAULTS_SEED"  # variable with the seed of a run; without it one is drawn
MUTANT = "FAULTS_MUTANT"  # variable that names a way to break the product, see mutants.py

Fault = Callable[["Installation"], Awaitable[None]]


class Installation:
    """One Kafka of its own and any number of workers.

    Args:
        folder: everything goes there; logs are copied to tests/artifacts when the test fails.
        workers: role of each worker by name, such as {"a": "all", "b": "all"}.
        settings: METRICS_* for all of them.
        brokers: nodes of the Kafka; `kafka` is the first of several.
    """

    def __init__(
        self, folder: Path, workers: dict[str, str], settings: dict[str, str] | None = None, brokers: int = 1
    ) -> None:
        self.folder = folder
        self.seed = int(os.environ.get(SEED, random.randrange(1 << 30)))
        self.random = random.Random(self.seed)
        self.cluster = EmbeddedCluster(folder / "kafka", brokers) if brokers > 1 else None
        self.kafka = self.cluster.nodes[1] if self.cluster else EmbeddedKafka(folder / "kafka", port=free_port())
        self.settings = SETTINGS | (settings or {})
        self.roles = dict(workers)
        self.workers = {name: self._worker(name, role) for name, role in workers.items()}
        self.prober: Prober | None = None
        self.run: Run | None = None

    def add(self, name: str, role: str) -> Process:
        """One more worker, not started."""
        self.roles = self.roles | {name: role}
        self.workers[name] = self._worker(name, role)
        return self.workers[name]

    def _worker(self, name: str, role: str) -> Process:
        port = free_port()
        arguments = [role, "--port", str(port), "--data-dir", str(self.data_dir(name))]
        kafka = self.cluster.bootstrap if self.cluster else f"127.0.0.1:{self.kafka.port}"
        environment = {**self.settings, "METRICS_KAFKA": kafka}
        process = Process(name, arguments, port, self.folder, environment)
        if MUTANT in os.environ:
            process.module = "tests.faults.mutants"
        return process

    def data_dir(self, name: str) -> Path:
        """Folder of a worker's local state."""
        return self.folder / f"data-{name}"

    @property
    def tell(self) -> tuple[str, ...]:
        """Base URLs that take samples."""
        return tuple(worker.url for name, worker in self.workers.items() if self.roles[name] != "aggregator")

    @property
    def ask(self) -> tuple[str, ...]:
        """Base URLs that answer questions."""
        return tuple(worker.url for name, worker in self.workers.items() if self.roles[name] != "collector")

    def __enter__(self) -> Self:
        pace.begin()
        (self.cluster or self.kafka).start()
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
        (self.cluster or self.kafka).stop()
        if kind is not None:
            self._keep_logs()

    def _keep_logs(self) -> None:
        kept = ARTIFACTS / self.folder.name
        kept.mkdir(parents=True, exist_ok=True)
        for log in [*self.folder.glob("*.log"), *(self.cluster.logs if self.cluster else [self.kafka.log])]:
            shutil.copy(log, kept / (f"{log.parent.name}-{log.name}" if self.cluster else log.name))
        if self.run is not None:
            findings = [finding._asdict() for finding in self.run.verdict.findings]
            facts = {"seed": self.seed, "failures": self.run.reasons, "findings": findings}
            (kept / "ledger.json").write_text(json.dumps(facts, indent=1, default=dict))
        if self.prober is not None:
            (kept / "questions.txt").write_text("\n".join(map(str, self.prober.seen)))

    def restart(self, name: str) -> None:
        """Starts a worker that has ended, and waits until it is ready."""
        self.workers[name].start()
        self.workers[name].await_ready()

    def wipe(self, name: str) -> None:
        """Deletes the local state of a worker that is not running."""
        assert not self.workers[name].is_running
        shutil.rmtree(self.data_dir(name))

    def plan(self, rate: float = 5000, keys: int = 20, batch: int = 100, form: Form = Form.JSON) -> Plan:
        """Load over all workers, every request sent again as the same one until it is accepted."""
        print(f"seed {self.seed}")
        wait_s = 90.0
        return Plan(
            rate=rate,
            keys=keys,
            duration_s=3600,
            batch=batch,
            form=form,
            urls=self.tell,
            query_urls=self.ask,
            until_kept_s=300,  # no promise: the ledger is to know how each request ended, however slow the machine
            drain_s=20 if MUTANT in os.environ else wait_s,
            patience_s=wait_s,
            seed=self.seed,
            run_id=uuid.uuid4().hex[:8],
        )

    async def under_load(self, fault: Fault, plan: Plan, settle_s: float = 2.0) -> Run:
        """What a run of load came to that lasted as long as the fault; questions are asked meanwhile, see `Prober`."""
        self.prober = Prober(plan.asked, self.tell, self._a_key_per_partition(plan))
        begun, done = asyncio.Event(), asyncio.Event()

        async def inject() -> None:
            try:
                await begun.wait()
                await asyncio.sleep(settle_s)
                await fault(self)
            finally:
                done.set()

        async with self.prober.asking(), asyncio.TaskGroup() as together:
            together.create_task(inject())
            running = together.create_task(perform(plan, until=done, progress=lambda *_: _noting(begun)))
        self.run = running.result()
        print(f"failures {self.run.reasons}; requests by attempts {dict(self.run.attempts)}")
        print(self.prober.report())
        print(f"this machine was {pace.slowness():.1f} times slower than alone; bounds were stretched by that")
        return self.run

    def _a_key_per_partition(self, plan: Plan) -> list[str]:
        partitions = int(self.settings["METRICS_PARTITIONS"])
        of = {partition_of(key.encode(), partitions): key for key in keys_of(plan.run_id, plan.keys)}
        return list(of.values())

    def counts(self, metric: str) -> dict[str, float]:
        """Sum of a counter over its labels, by worker that answers."""
        found = {}
        for name, worker in self.workers.items():
            if worker.is_running and not worker.is_paused:
                with contextlib.suppress(urllib.error.URLError):  # it is only starting
                    found[name] = _sum_of(metric, worker.url)
        return found

    def count(self, metric: str) -> float:
        """Sum of one counter over all running workers and labels."""
        return sum(self.counts(metric).values())

    async def grows(self, metric: str, by: float, within_s: float) -> float:
        """Waits until a counter has grown, over all workers that run; returns for how long, in seconds."""
        before = await asyncio.to_thread(self.count, metric)
        started = time.monotonic()
        while await asyncio.to_thread(self.count, metric) < before + by:
            allowed_s = stretched(within_s)
            assert time.monotonic() - started < allowed_s, f"{metric} did not grow by {by:g} within {allowed_s:.0f} s"
            await asyncio.sleep(0.1)
        return time.monotonic() - started

    async def fresh(self) -> None:
        """Asserts that the backlog is folded within 60 s, and what is sent then can be queried everywhere in 5 s."""
        drained_s = await eventually(lambda: self.count("metrics_app_lag_records") < NO_BACKLOG, DRAIN_S)
        running = {worker.url for worker in self.workers.values() if worker.is_running}
        tell, ask = [[url for url in urls if url in running] for urls in (self.tell, self.ask)]
        print(f"backlog folded after {drained_s:.1f} s; fresh values queryable after {await fresh(tell, ask):.2f} s")

    async def rebuild(self) -> None:
        """Kills all workers, deletes all local state, and starts them again: all there is now is the changelog."""
        for name, worker in self.workers.items():
            worker.end()
            if self.data_dir(name).exists():
                self.wipe(name)
            worker.start()
        for worker in self.workers.values():
            await asyncio.to_thread(worker.await_ready)


@contextlib.contextmanager
def _noting(begun: asyncio.Event) -> Iterator[Advance]:
    begun.set()
    yield lambda done: None


def _sum_of(metric: str, url: str) -> float:
    text = urllib.request.urlopen(f"{url}/metrics", timeout=stretched(5.0)).read().decode()
    lines = [line for line in text.splitlines() if line.startswith((metric + " ", metric + "{"))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def assert_exact(run: Run) -> None:
    """Every value accepted, every one counted once, every statistic within its stated bound."""
    assert run.verdict.sent == run.verdict.accepted, run.reasons
    assert_right(run.verdict)


def assert_none_failed(run: Run) -> None:
    """No attempt of a request failed; on a machine that has other work to do, none but for want of time."""
    late = {"TimeoutError", "status 503"} if pace.slowness() > BUSY else set()
    assert run.reasons.keys() <= late, run.reasons


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
        assert time.monotonic() - started < stretched(within_s), f"not within {stretched(within_s):.0f} s"
        await asyncio.sleep(0.1)
    return time.monotonic() - started
