"""Where it breaks: the brief's baseline times 1, 10, 100 and 1,000 on one machine, with the CPU each value costs.

    python -m benchmarks.ladder [--quick] [--json FILE]

Starts an embedded Kafka and one worker of role `all`, puts open-loop load on it step by step, and reads from the
operating system what each process used for it. Every step also audits its counts: a figure of a run that lost values is
no figure. The load generator runs on the same cores; its share is listed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from metrics_app.broker.embedded import EmbeddedKafka
from metrics_app.broker.ports import free_port
from metrics_app.load.plan import Form, Plan
from metrics_app.load.report import report
from metrics_app.load.run import Run, perform

BASELINE = 10_000
RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Step:
    """One rung: `times` the baseline, in bodies of one form with `batch` values each."""

    times: int
    form: Form
    batch: int


STEPS = (
    Step(1, Form.PAIRS, 100),
    Step(10, Form.PAIRS, 1000),
    Step(100, Form.MSGPACK, 10_000),
    Step(1000, Form.MSGPACK, 50_000),
)


def main() -> int:
    """Exit code 0; 1 when a step lost or doubled a value."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 s a step instead of 20")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file for the results")
    options = parser.parse_args()
    rows = list(climb(5.0 if options.quick else 20.0))
    Console(width=120).print(table(rows))
    known = json.loads(options.json.read_text()) if options.json.exists() else {}
    options.json.write_text(json.dumps({**known, "machine": machine(), "ladder": rows}, indent=1) + "\n")
    return 0 if all(row["lost"] == row["double"] == 0 for row in rows) else 1


def climb(duration_s: float) -> Iterator[dict[str, Any]]:
    """The figures of each step."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedKafka(Path(folder) / "kafka", port=0) as kafka,
        worker(kafka, Path(folder)) as (url, pid),
    ):
        processes = {"worker": psutil.Process(pid), "kafka": psutil.Process(kafka.pid), "sender": psutil.Process()}
        for step in STEPS:
            Console(stderr=True).print(f"{step.times:,} x baseline, {duration_s:g} s ...")
            yield measure(step, duration_s, url, processes)


@contextmanager
def worker(kafka: EmbeddedKafka, folder: Path) -> Iterator[tuple[str, int]]:
    """A worker of role `all`, ready; its base URL and process id."""
    port = free_port()
    command = [sys.executable, "-m", "metrics_app", "all", "--port", str(port), "--data-dir", str(folder / "worker")]
    with (folder / "worker.log").open("wb") as log:
        environment = {**dict(psutil.Process().environ()), "METRICS_KAFKA": kafka.bootstrap}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        await_port(port, process)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(30)


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Returns when /readyz answers 200."""
    import urllib.error
    import urllib.request

    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit("the worker ended at its start")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit("the worker is not ready after 60 s")


def measure(step: Step, duration_s: float, url: str, processes: dict[str, psutil.Process]) -> dict[str, Any]:
    """One step: what was asked, what was held, and CPU nanoseconds a value of each process."""
    rate = BASELINE * step.times
    plan = Plan(rate=rate, keys=10, duration_s=duration_s, batch=step.batch, form=step.form, urls=(url,), drain_s=120)
    before = {name: cpu_s(process) for name, process in processes.items()}
    run = asyncio.run(perform(plan))
    used = {name: cpu_s(process) - before[name] for name, process in processes.items()}
    return row(step, plan, run, used, processes["worker"].memory_info().rss)


def row(step: Step, plan: Plan, run: Run, used_s: dict[str, float], rss_bytes: int) -> dict[str, Any]:
    """The figures of a step, JSON-serialisable."""
    facts = report(plan, run)
    kept = max(1, run.verdict.accepted)
    return {
        "times": step.times,
        "form": step.form,
        "batch": step.batch,
        "asked_per_s": plan.rate,
        "accepted_per_s": round(run.verdict.accepted / run.sending_s),
        "held": run.loop.is_held and not run.verdict.refused and not run.verdict.unknown,
        "lost": run.verdict.lost,
        "double": run.verdict.double,
        "cpu_ns_per_value": {name: round(1e9 * seconds / kept) for name, seconds in used_s.items()},
        "cores": {name: round(seconds / run.sending_s, 3) for name, seconds in used_s.items()},
        "ack_ms": facts["ack_ms"],
        "freshness_ms": facts["freshness_ms"],
        "worker_rss_mb": round(rss_bytes / 2**20),
    }


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds a process has used, children apart."""
    times = process.cpu_times()
    return float(times.user + times.system)


def machine() -> dict[str, Any]:
    """What a figure depends on."""
    return {
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def table(rows: list[dict[str, Any]]) -> Table:
    """The results for a terminal."""
    names = ("x", "form", "asked/s", "accepted/s", "held", "lost", "double", "worker", "Kafka", "fresh ms")
    out = Table(*names, box=None, caption="worker, Kafka: CPU nanoseconds a value; fresh: p99 from 202 to queryable")
    for one in rows:
        cost = one["cpu_ns_per_value"]
        out.add_row(
            f"{one['times']:,}",
            f"{one['form']} x {one['batch']:,}",
            f"{one['asked_per_s']:,.0f}",
            f"{one['accepted_per_s']:,}",
            "yes" if one["held"] else "NO",
            str(one["lost"]),
            str(one["double"]),
            f"{cost['worker']:,}",
            f"{cost['kafka']:,}",
            f"{one['freshness_ms']['p99']:,.0f}",
        )
    return out


if __name__ == "__main__":
    sys.exit(main())
