"""`metrics-app doctor`: looks at Kafka, this machine and the workers, and says what mends each fault.

Called by `main`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from metrics_app.cli.dlq import where_kafka_is
from metrics_app.cli.query import TokenFile, shown
from metrics_app.cli.status import Urls, ask_all
from metrics_app.cli.terminal import examples, print_json, print_page
from metrics_app.errors import MetricsError

if TYPE_CHECKING:
    from metrics_app.credentials import Credentials
    from metrics_app.kafka.examination import Diagnosis
    from metrics_app.settings import Settings
    from metrics_app.system.condition import SystemState

EXAMPLES = examples(
    "metrics-app doctor",
    "METRICS_KAFKA=broker-1:9092,broker-2:9092 metrics-app doctor",
    "metrics-app doctor --url http://collector-1:8080 --url http://aggregator-1:8080 --json",
)


def doctor(
    url: Urls = None,
    token_file: TokenFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look for what is wrong or will be, with what mends it. Exits with 1 when something is; a warning alone is no 1.

    Looks at the Kafka of the settings, at this machine with them, and at the workers that --url names.
    """
    from metrics_app.kafka.examination import ERROR

    settings = where_kafka_is()
    found = asyncio.run(_look(settings))
    if url:
        found += of_workers(url, shown(token_file), settings.clock_tolerance_s)
    if json:
        print_json([each._asdict() for each in found])
    else:
        print_page(_page(found))
    if any(each.level == ERROR for each in found):
        raise typer.Exit(1)


async def _look(settings: Settings) -> list[Diagnosis]:
    from metrics_app.cli import machine
    from metrics_app.kafka.examination import examine

    return [*await examine(settings), *await machine.examine(settings)]


def of_workers(urls: list[str], credentials: Credentials, tolerance_s: float) -> list[Diagnosis]:
    """What the workers themselves find wrong, whether they are of our release, and whether their clocks are ours."""
    from metrics_app.kafka.examination import ERROR, OK, Diagnosis
    from metrics_app.system.condition import together

    found: list[Diagnosis] = []
    told = []
    for url in urls:
        before_s = time.time()
        try:
            system = ask_all([url], credentials)
        except MetricsError as error:
            found.append(Diagnosis(ERROR, "workers", str(error), "start it, or name another with --url"))
            continue
        told.append(system)
        found += _clocks(system, before_s, tolerance_s)
    whole = together(told, time.time())
    found += [Diagnosis(ERROR, "workers", each, "docs/runbook.md") for each in whole.wrong] + _releases(whole)
    return found or [Diagnosis(OK, "workers", f"{len(whole.workers)} workers are ready, of our release, on time")]


def _releases(system: SystemState) -> list[Diagnosis]:
    from metrics_app import __version__
    from metrics_app.kafka.examination import WARNING, Diagnosis

    others = sorted({worker.version for worker in system.workers} - {__version__})
    if not others:
        return []
    says = f"workers are of {', '.join(others)}, this command is of {__version__}"
    return [Diagnosis(WARNING, "versions", says, "end the upgrade: docs/upgrading.md")]


def _clocks(system: SystemState, before_s: float, tolerance_s: float) -> list[Diagnosis]:
    """Clocks that are off by more than the time that asking took, and the tolerance."""
    from metrics_app.kafka.examination import ERROR, Diagnosis

    after_s = time.time()
    apart = {each.url: max(each.told - after_s, before_s - each.told, 0.0) for each in system.workers}
    return [
        Diagnosis(
            ERROR, "clocks", f"the clock of {url} and ours are {apart_s:.0f} s apart",
            "chronyc makestep, on the one that is off",
        )
        for url, apart_s in apart.items()
        if apart_s > tolerance_s
    ]  # fmt: skip


def _page(found: list[Diagnosis]) -> Table:
    table = Table(box=None, show_header=False)
    colours = {"ok": "green", "warning": "yellow", "error": "bold red"}
    for column in ("level", "part", "says"):
        table.add_column(column, overflow="fold")
    for each in found:
        says = escape(each.says) + (f"\n[dim]mend: {escape(each.mend)}[/dim]" if each.mend else "")
        table.add_row(f"[{colours[each.level]}]{each.level}[/]", escape(each.part), says)
    return table
