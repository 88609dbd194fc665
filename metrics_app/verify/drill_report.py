"""What a drill found, for a program and for a person.

Called by `course` and `cli.drill`.

What a drill found, for a program and for a person.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table

from metrics_app.verify import load_report as load
from metrics_app.verify.plan import Plan
from metrics_app.verify.probe import Availability
from metrics_app.verify.run import Run

WHOLE_S = 90.0  # longest wait until an installation is itself again


@dataclass(frozen=True)
class Kill:
    """One kill and what followed, in seconds after it; None: not within `WHOLE_S`.

    Attributes:
        at: moment of the monotonic clock.
        ready_s: until a new process ran, samples were accepted and every worker said that it was ready.
        whole_s: until everything accepted by then was in the answers.
    """

    name: str
    pid: int
    at: float
    ready_s: float | None = None
    whole_s: float | None = None

    @property
    def end(self) -> float:
        """Time at which the installation had recovered, or was given up."""
        return self.at + (WHOLE_S if self.whole_s is None else self.whole_s)

    def __str__(self) -> str:
        if self.ready_s is None:
            return f"not ready again in {WHOLE_S:g} s"
        ready = f"ready again after {self.ready_s:.1f} s"
        if self.whole_s is None:
            return f"{ready}, but not all that was accepted is counted in {WHOLE_S:g} s"
        return f"{ready}, all accepted counted after {self.whole_s:.1f} s"


@dataclass(frozen=True)
class Drilled:
    """The result.

    Attributes:
        kills: with each the questions asked until the installation was itself again.
        complaints: a sentence for each answer that contradicted an earlier one, and for a drill that could not begin.
    """

    run: Run
    kills: tuple[tuple[Kill, Availability], ...]
    asked: Availability
    complaints: tuple[str, ...]

    @property
    def wrong(self) -> list[str]:
        """A sentence for each problem, except for lost or doubled values."""
        failed = [f"{kill.name} killed: {kill}" for kill, _ in self.kills if kill.whole_s is None]
        return [*self.run.verdict.wrong, *self.complaints, *failed]

    @property
    def is_right(self) -> bool:
        """All that was sent is counted, once, nothing is wrong, and every sample could be queried."""
        verdict = self.run.verdict
        return self.run.is_right and verdict.sent == verdict.counted and not self.wrong

    @property
    def last_line(self) -> str:
        """The result in one line."""
        of = self.run.verdict
        return f"sent {of.sent} counted {of.counted} lost {of.lost} double {of.double}"


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
