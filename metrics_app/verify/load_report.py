"""What a load run found, for a program and for a person.

Called by `drill_report` and `cli.load`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from metrics_app.verify.plan import Plan
from metrics_app.verify.run import Run

SHOWN = 5  # wrong statistics listed for a person


def report(plan: Plan, run: Run) -> dict[str, Any]:
    """The whole result, JSON-serialisable; counts in values, times in ms, errors relative."""
    verdict = run.verdict
    return {
        "run": run.run_id,
        "ok": run.is_right,
        "sent": verdict.sent,
        "accepted": verdict.accepted,
        "refused": verdict.refused,
        "unknown": verdict.unknown,
        "counted": verdict.counted,
        "lost": verdict.lost,
        "double": verdict.double,
        "wrong": verdict.wrong,
        "key_hours": len(verdict.findings),
        "error": {"median": verdict.worst_error("median"), "p99": verdict.worst_error("p99")},
        "error_bound": verdict.error_bound,
        "ack_ms": quantiles_ms(run.loop.latency_s),
        "freshness_ms": quantiles_ms(run.freshness.seen_s),
        "probes": {"seen": len(run.freshness.seen_s), "never": run.freshness.never},
        "rate": {"asked": plan.rate, "held": run.loop.is_held, "sent": round(sent_rate(run))},
        "late_requests": run.loop.late,
        "most_behind_ms": round(1000 * max(run.loop.behind_s), 3),
        "failures": run.reasons,
        "form": plan.form,
        "seed": plan.seed,
    }


def pretty(plan: Plan, run: Run) -> Table:
    """The result as a table for a terminal."""
    facts = report(plan, run)
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    for name in ("sent", "accepted", "refused", "unknown", "counted", "lost", "double"):
        style = "bold red" if name in ("lost", "double") and facts[name] else "bold"
        table.add_row(name, f"[{style}]{facts[name]:,}[/]")
    wrong = len(facts["wrong"])
    table.add_row("statistics", f"{facts['key_hours']:,} key-hours, {wrong or 'none'} wrong")
    for sentence in facts["wrong"][:SHOWN]:
        table.add_row("", f"[red]{sentence}[/]")
    error = facts["error"]
    bound = f"stated bound {facts['error_bound']:.3%}"
    table.add_row("worst error", f"median {error['median']:.3%}, p99 {error['p99']:.3%}; {bound}")
    table.add_row("reply", spoken(facts["ack_ms"]))
    table.add_row("queryable after", f"{spoken(facts['freshness_ms'])}; {unseen(facts['probes'])}")
    table.add_row("rate", f"{facts['rate']['sent']:,} values/s{_held(facts)}")
    for kind, times in facts["failures"].items():
        table.add_row("failed", f"{kind}: {times:,} times")
    return table


def _held(facts: dict[str, Any]) -> str:
    if facts["rate"]["held"]:
        return ", on schedule"
    late, behind = facts["late_requests"], facts["most_behind_ms"] / 1000
    return f"; [bold red]schedule not held[/]: {late:,} requests late, at most by {behind:.1f} s"


def sent_rate(run: Run) -> float:
    """Values per second really sent: from the first start to the last."""
    requests = run.loop.total
    return run.verdict.sent / (run.sending_s * requests / max(1, requests - 1))


def quantiles_ms(seconds: Sequence[float]) -> dict[str, float] | None:
    """p50, p99 and max in ms; None when nothing was measured."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    at = {"p50": math.ceil(0.5 * len(ordered)), "p99": math.ceil(0.99 * len(ordered)), "max": len(ordered)}
    return {name: round(1000 * ordered[rank - 1], 3) for name, rank in at.items()}


def spoken(times: dict[str, float] | None) -> str:
    """Quantiles in one line."""
    if times is None:
        return "not measured"
    return ", ".join(f"{name} {value:,.1f} ms" for name, value in times.items())


def unseen(probes: dict[str, int]) -> str:
    """How many probes there were, and how many were never seen."""
    return f"{probes['seen']} probes" + (f", [bold red]{probes['never']} never seen[/]" if probes["never"] else "")
