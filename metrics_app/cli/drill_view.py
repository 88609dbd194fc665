"""How a drill stands, while it runs: a table that renews itself on a terminal, else a line now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.live import Live
from rich.table import Table

from metrics_app.cli.child import cancel
from metrics_app.cli.terminal import err, say
from metrics_app.drill.course import Drill

RENEW_S = 0.25
LINE_S = 5.0


@asynccontextmanager
async def shown(drill: Drill) -> AsyncIterator[None]:
    """Shows the drill while the block runs."""
    showing = asyncio.create_task(_renewed(drill) if err.is_terminal else _told(drill))
    try:
        yield
    finally:
        await cancel([showing])


async def _renewed(drill: Drill) -> None:
    # renewed here and not by rich's own thread: what it reads changes only between two steps of the loop
    with Live(console=err, auto_refresh=False, transient=True) as live:
        while True:
            live.update(table(drill), refresh=True)
            await asyncio.sleep(RENEW_S)


async def _told(drill: Drill) -> None:
    while True:
        await asyncio.sleep(LINE_S)
        say(f"{drill.clock} {'; '.join(f'{name} {text}' for name, text in _facts(drill).items())}")


def table(drill: Drill) -> Table:
    """How it stands, as two columns."""
    grid = Table(box=None, show_header=False)
    grid.add_column(style="dim")
    grid.add_column()
    for name, text in ({"elapsed": drill.clock} | _facts(drill)).items():
        grid.add_row(name, f"[bold red]{text}[/]" if name == "fault" and drill.fault else text)
    return grid


def _facts(drill: Drill) -> dict[str, str]:
    up = list(drill.readiness.up.values())
    asked = drill.probe.availability()
    return {
        "phase": drill.phase,
        "fault": drill.fault or "none",
        "values": f"{drill.sent:,} sent, {drill.accepted:,} accepted, {drill.counted:,} counted",
        "queries": f"{asked.share:.2%} answered, longest gap {asked.gap_s:.1f} s, {asked.stale_share:.1%} stale",
        "workers": f"{sum(up)} up, {len(up) - sum(up)} down",
    }
