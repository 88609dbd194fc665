"""From POST to answer: broker, one collector, one aggregator and the sender on the same two cores.

Open loop, rate by rate, until one is not held: requests must start on schedule, be accepted, and all of it must be
counted. Then half of the highest rate that was held, for how long a sample takes from its 202 until it can be queried.
"""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.bench import Bench
from benchmarks.meter import cpu_s
from benchmarks.services import Service, service
from metrics_app.verify.load_report import report
from metrics_app.verify.plan import Form, Plan
from metrics_app.verify.run import Run, perform

KEYS = 10
# values a second; the first of each is the one asked of the product
RATES = {
    Form.MSGPACK: (1_000_000, 2_000_000, 4_000_000, 8_000_000, 12_000_000, 16_000_000),
    Form.JSON: (300_000, 400_000, 500_000, 600_000, 800_000, 1_000_000),
}
BATCHES = {Form.MSGPACK: 20_000, Form.JSON: 2_000}
DRAIN_S = 20.0


def run(bench: Bench) -> dict[str, Any]:
    """The section `end_to_end`, a row a form.

    Raises:
        RuntimeError: a value was lost or doubled.
    """
    name = bench.name("end-to-end")
    bench.expect(4 if bench.quick else sum(len(rates) + 1 for rates in RATES.values()))
    with service(bench, "collector", name) as collector, service(bench, "aggregator", name) as aggregator:
        return {"end_to_end": [_measure(bench, form, collector, aggregator) for form in RATES]}


def _measure(bench: Bench, form: Form, collector: Service, aggregator: Service) -> dict[str, Any]:
    seconds = 1.0 if bench.quick else 6.0
    held: dict[str, Any] = {"form": form, "batch": BATCHES[form], "held_per_s": 0}
    for rate in RATES[form][: 1 if bench.quick else None]:
        bench.step(f"end to end: {rate:,} values/s as {form}")
        found = _at(bench, rate, form, seconds, collector, aggregator)
        if not found["held"]:
            break
        held |= {"held_per_s": rate, "cpu_ns": found["cpu_ns"]}
    half = (held["held_per_s"] or RATES[form][0]) / 2
    bench.step(f"end to end: freshness at {half:,.0f} values/s as {form}")
    found = _at(bench, half, form, 2 * seconds, collector, aggregator)
    return held | {"half_per_s": half, "freshness_ms": found["freshness_ms"], "ack_ms": found["ack_ms"]}


def _at(
    bench: Bench, rate: float, form: Form, seconds: float, collector: Service, aggregator: Service
) -> dict[str, Any]:
    processes = {"collector": collector.process, "aggregator": aggregator.process, "kafka": bench.broker}
    before = {name: cpu_s(process) for name, process in processes.items()}
    plan = Plan(
        rate=rate,
        keys=KEYS,
        duration_s=seconds,
        batch=BATCHES[form],
        form=form,
        urls=(collector.url,),
        query_urls=(aggregator.url,),
        drain_s=DRAIN_S,
    )
    run = asyncio.run(perform(plan))
    used = {name: cpu_s(process) - before[name] for name, process in processes.items()}
    if not run.verdict.refused and not run.is_right:
        raise RuntimeError(f"{rate:,.0f} values/s as {form}: {run.verdict}")
    facts, kept = report(plan, run), max(1, run.verdict.accepted)
    return {
        "held": is_held(run),
        "cpu_ns": {name: round(1e9 * seconds / kept) for name, seconds in used.items()},
        "freshness_ms": facts["freshness_ms"],
        "ack_ms": facts["ack_ms"],
    }


def is_held(run: Run) -> bool:
    """Whether every request started on schedule and was accepted."""
    return run.loop.is_held and not run.verdict.refused and not run.verdict.unknown
