"""`metrics-app drill`: kills the processes of a running installation in turn, under load, and counts every value.

Called by `main`.

How a drill stands, while it runs: a table that renews itself on a terminal, else a line now and then.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.table import Table

from metrics_app.cli.child import cancel
from metrics_app.cli.query import TokenFile, shown
from metrics_app.cli.terminal import err, examples, out, print_json, print_line, say
from metrics_app.credentials import NO_CREDENTIALS, Credentials
from metrics_app.verify.plan import Form, Plan

if TYPE_CHECKING:
    from metrics_app.verify.course import Drill
    from metrics_app.verify.drill_report import Drilled
    from metrics_app.verify.targets import Kind, Target

EXAMPLES = examples(
    "metrics-app drill",
    "metrics-app drill --data-dir /var/lib/metrics --kills 3 --rate 5000",
    "metrics-app drill --fresh",
    "metrics-app drill --fresh --brokers 3",
)
REQUESTS_A_SECOND = 20
MOST_IN_A_REQUEST = 100
LONGEST_S = 3600.0
KEPT_S = 120.0  # above the time in which the installation has to be itself again
PATIENCE_S = 60.0
FRESH_WORKERS = 2


@dataclass(frozen=True)
class Scene:
    """Where a drill takes place. `is_supervised`: by a `metrics-app up`, which restarts everything that is killed."""

    targets: Sequence[Target]
    urls: tuple[str, ...]
    ready_urls: tuple[str, ...]
    is_supervised: bool


def drill(
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder of the installation.", show_default="METRICS_DATA_DIR, else data")
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(help="Address for load and queries; repeat for several.", show_default="those of its workers"),
    ] = None,
    rate: Annotated[float, typer.Option(min=1, help="Values per second.")] = 2000,
    keys: Annotated[int, typer.Option(min=1, help="Number of keys.")] = 10,
    kills: Annotated[int, typer.Option(min=1, help="How often each process is killed.")] = 1,
    faults: Annotated[
        str | None, typer.Option(help="What is killed, separated by commas.", show_default="worker,kafka")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the values and of the kills.", show_default="at random")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start an installation for the drill alone, in a temporary folder.")
    ] = False,
    brokers: Annotated[int, typer.Option(min=1, max=9, help="With --fresh: brokers of its Kafka.")] = 1,
    token_file: TokenFile = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Kill the processes of a running installation in turn, under load, and check that each value is counted once.

    Workers and Kafka get SIGKILL, one after the other; each time the drill waits until everything accepted is in the
    answers again. Samples are sent under keys of their own, `load-...`. Whoever killed must be restarted: `metrics-app
    up` does; for any other installation, or another address, the drill asks first.

    The last line is `sent N counted N lost 0 double 0`. Exit code 1 when it is not, or when anything is wrong.
    """
    from metrics_app import configuration
    from metrics_app.verify.drill_report import pretty, report
    from metrics_app.verify.private_up import PrivateUp

    chosen = _kinds(faults)
    if brokers > 1 and not fresh:
        raise typer.BadParameter("an installation that runs has the brokers it has; say --fresh", param_hint="brokers")
    if fresh and (data_dir or url):
        raise typer.BadParameter(
            "an installation of its own has no --data-dir or --url to be given", param_hint="fresh"
        )
    seed = random.randrange(1 << 30) if seed is None else seed
    with ExitStack() as stack:
        private = stack.enter_context(PrivateUp(FRESH_WORKERS, brokers)) if fresh else None
        folder = private.folder if private else configuration.load(data_dir=data_dir).data_dir
        scene = find(folder, chosen, tuple(url or ()), is_explicit=faults is not None)
        plan = _plan(scene, rate, keys, seed, NO_CREDENTIALS if fresh else shown(token_file))
        _confirm(scene, plan, yes)
        done = asyncio.run(_perform(scene, plan, kills))
        if private:
            private.is_kept = not done.is_right
    if json:
        print_json(report(plan, done))
        say(done.last_line)
    else:
        out.print(pretty(plan, done))
        print_line(done.last_line)
    if not done.is_right:
        raise typer.Exit(1)


def find(folder: Path, kinds: set[Kind], urls: tuple[str, ...], is_explicit: bool) -> Scene:
    """The installation in a data folder; nothing is killed.

    Raises:
        DrillError: nothing runs there, or not what was asked to be killed, or it is not known where to send load.
    """
    from metrics_app.cli.supervisor import is_in_use
    from metrics_app.errors import DrillError
    from metrics_app.verify import targets as processes

    found = processes.find(folder)
    missing = kinds - {target.kind for target in found}
    if missing and (is_explicit or missing == kinds):
        raise DrillError(f"no {' and no '.join(sorted(missing))} runs in {folder}")
    if missing:
        say(f"no {' and no '.join(sorted(missing))} of its own runs in {folder}: not killed")
    workers = [target for target in found if target.kind is processes.Kind.WORKER]
    if not urls and (not workers or any(target.role != "all" or not target.url for target in workers)):
        raise DrillError("these workers do not all take samples and answer queries: give the address in front, --url")
    own = tuple(target.url for target in workers if target.url)
    is_supervised = is_in_use(folder) and set(urls) <= set(own)
    chosen = [target for target in found if target.kind in kinds]
    return Scene(chosen, urls or own, tuple(dict.fromkeys((*own, *urls))), is_supervised)


def _kinds(faults: str | None) -> set[Kind]:
    from metrics_app.verify.targets import Kind

    names = list(Kind) if faults is None else faults.split(",")
    try:
        return {Kind(name.strip()) for name in names}
    except ValueError as error:
        raise typer.BadParameter(f"{error}; expected some of {', '.join(Kind)}", param_hint="--faults") from None


def _plan(scene: Scene, rate: float, keys: int, seed: int, credentials: Credentials) -> Plan:
    batch = max(1, min(MOST_IN_A_REQUEST, round(rate / REQUESTS_A_SECOND)))
    return Plan(
        rate,
        keys,
        LONGEST_S,
        batch,
        Form.PAIRS,
        scene.urls,
        KEPT_S,
        drain_s=PATIENCE_S,
        seed=seed,
        patience_s=KEPT_S,
        credentials=credentials,
    )


def _confirm(scene: Scene, plan: Plan, yes: bool) -> None:
    from metrics_app.errors import DrillError

    names = ", ".join(target.name for target in scene.targets)
    say(f"sending {plan.rate:,.0f} values/s to {', '.join(scene.urls)}; killing {names} in turn; seed {plan.seed}")
    if scene.is_supervised or yes:
        return
    if not sys.stdin.isatty():
        raise DrillError("not all of this is kept alive by a `metrics-app up`: say --yes when it may be killed")
    typer.confirm("Not all of this is kept alive by a `metrics-app up`. Kill it?", abort=True, err=True)


async def _perform(scene: Scene, plan: Plan, kills: int) -> Drilled:
    import aiohttp

    from metrics_app.verify.course import Drill

    async with aiohttp.ClientSession(headers=plan.credentials.headers()) as session:
        course = Drill(session, scene.targets, scene.ready_urls, plan, kills, say)
        async with watched(course):
            return await course.run()


RENEW_S = 0.25
LINE_S = 5.0


@asynccontextmanager
async def watched(drill: Drill) -> AsyncIterator[None]:
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
    """The state of the drill as a table with two columns."""
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
