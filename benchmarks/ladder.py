"""Where it breaks: the brief's baseline times 1, 10, 100 and 1,000 on one machine, with the CPU each value costs.

One worker of role `all` gets open-loop load step by step, and the operating system says what each process used for it.
Every step also audits its counts: a figure of a run that lost values is no figure. The load generator runs on the same
cores; its share is listed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import psutil

from benchmarks.bench import Bench
from benchmarks.meter import cpu_s, rss_mb
from benchmarks.services import service
from metrics_app.verify.load_report import report
from metrics_app.verify.plan import Form, Plan
from metrics_app.verify.run import Run, perform

BASELINE = 10_000
LINEAR_UP_TO = 100  # times the baseline, within which a value must not get dearer
NOISE = 1.1


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


def run(bench: Bench) -> dict[str, Any]:
    """The section `ladder`, a row a step, and whether cost grows no faster than load.

    Raises:
        RuntimeError: a step lost or doubled a value.
    """
    bench.expect(len(STEPS))
    rows = list(_climb(bench, 1.0 if bench.quick else 20.0))
    if wrong := [row for row in rows if row["lost"] or row["double"]]:
        raise RuntimeError(f"values were lost or doubled: {wrong}")
    return {"ladder": rows, "linear": is_linear(rows)}


def is_linear(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether the CPU a value costs, of worker and Kafka, stays or falls from each rung to the next up to 100x."""
    costs = [
        row["cpu_ns_per_value"]["worker"] + row["cpu_ns_per_value"]["kafka"]
        for row in rows
        if row["times"] <= LINEAR_UP_TO
    ]
    return all(later <= NOISE * earlier for earlier, later in pairwise(costs))


def _climb(bench: Bench, duration_s: float) -> Iterator[dict[str, Any]]:
    with service(bench, "all", bench.name("ladder")) as worker:
        processes = {"worker": worker.process, "kafka": bench.broker, "sender": psutil.Process()}
        for step in STEPS:
            bench.step(f"ladder: {step.times:,} x baseline")
            yield measure(step, duration_s, worker.url, processes)


def measure(step: Step, duration_s: float, url: str, processes: dict[str, psutil.Process]) -> dict[str, Any]:
    """One step: what was asked, what was held, and CPU nanoseconds a value of each process."""
    rate = BASELINE * step.times
    plan = Plan(rate=rate, keys=10, duration_s=duration_s, batch=step.batch, form=step.form, urls=(url,), drain_s=120)
    before = {name: cpu_s(process) for name, process in processes.items()}
    run = asyncio.run(perform(plan))
    used = {name: cpu_s(process) - before[name] for name, process in processes.items()}
    return row(step, plan, run, used, rss_mb(processes["worker"]))


def row(step: Step, plan: Plan, run: Run, used_s: dict[str, float], memory_mb: int) -> dict[str, Any]:
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
        "worker_rss_mb": memory_mb,
    }
