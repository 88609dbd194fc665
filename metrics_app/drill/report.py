"""What a drill found, for a program and for a person."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.table import Table

from metrics_app.drill.outcome import Drilled, Kill
from metrics_app.drill.probe import Availability
from metrics_app.load import report as load
from metrics_app.load.plan import Plan

SHOWN = 5  # sentences listed for a person


def report(plan: Plan, drilled: Drilled) -> dict[str, Any]:
    """The whole result, JSON-serialisable: that of the load, with the kills and the questions asked meanwhile."""
    facts = load.report(plan, drilled.run)
    kills = [_kill(*each) for each in drilled.kills]
    return facts | {"ok": drilled.is_right, "wrong": drilled.wrong, "kills": kills, "queries": _asked(drilled.asked)}


def _kill(kill: Kill, asked: Availability) -> dict[str, Any]:
    facts = {"name": kill.name, "pid": kill.pid, "ready_s": kill.ready_s, "whole_s": kill.whole_s}
    return facts | {"queries": _asked(asked)}


def _asked(asked: Availability) -> dict[str, Any]:
    return asdict(asked) | {"availability": asked.share, "stale_share": asked.stale_share}


def pretty(plan: Plan, drilled: Drilled) -> Group:
    """The result as two small tables for a terminal: the kills, then the whole."""
    facts = report(plan, drilled)
    whole = Table(box=None, show_header=False)
    whole.add_column(style="dim")
    whole.add_column()
    whole.add_row("queries answered", _spoken(drilled.asked))
    whole.add_row("statistics", f"{facts['key_hours']:,} key-hours, {len(facts['wrong']) or 'none'} wrong")
    for sentence in facts["wrong"][:SHOWN]:
        whole.add_row("", f"[red]{sentence}[/]")
    whole.add_row("reply", load.spoken(facts["ack_ms"]))
    whole.add_row("queryable after", f"{load.spoken(facts['freshness_ms'])}; {load.unseen(facts['probes'])}")
    for kind, times in facts["failures"].items():
        whole.add_row("sent again", f"{kind}: {times:,} times")
    whole.add_row("seed", str(plan.seed))
    return Group(_kills(drilled), "", whole, "")


def _kills(drilled: Drilled) -> Table:
    table = Table(box=None)
    for title in ("killed", "pid", "ready after", "all counted after", "queries answered meanwhile"):
        table.add_column(title, justify="left" if title == "killed" else "right")
    for kill, asked in drilled.kills:
        table.add_row(kill.name, str(kill.pid), _seconds(kill.ready_s), _seconds(kill.whole_s), f"{asked.share:.1%}")
    return table


def _seconds(seconds: float | None) -> str:
    return "[bold red]never[/]" if seconds is None else f"{seconds:.1f} s"


def _spoken(asked: Availability) -> str:
    return (
        f"{asked.answered:,} of {asked.asked:,} ({asked.share:.2%}), longest gap {asked.gap_s:.1f} s, "
        f"{asked.stale_share:.1%} stale"
    )
