"""`metrics-app doctor`: looks at Kafka, this machine and the workers, and says what mends each fault.

Called by `main`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from metrics_app.cli.dlq import where_kafka_is
from metrics_app.cli.query import TokenFile, shown
from metrics_app.cli.status import Urls, ask_all, wrong
from metrics_app.cli.terminal import examples, print_json, print_page
from metrics_app.errors import MetricsError

if TYPE_CHECKING:
    from metrics_app.credentials import Credentials
    from metrics_app.kafka.examination import Diagnosis
    from metrics_app.settings import Settings

EXAMPLES = examples(
    "metrics-app doctor",
    "METRICS_KAFKA=broker-1:9092,broker-2:9092 metrics-app doctor",
    "metrics-app doctor --url http://collector-1:8080 --url http://aggregator-1:8080 --json",
)
LOW_DISK, FULL_DISK = 0.2, 0.05  # shares left
DESCRIPTORS_BESIDE = 256  # of RocksDB, Kafka and logs, beside those of connections
OPEN_TO_OTHERS = 0o077


def doctor(
    url: Urls = None,
    token_file: TokenFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look for what is wrong or will be, with what mends it. Exits with 1 when something is; a warning alone is no 1.

    Looks at the Kafka of the settings, at this machine with them, and at the workers that --url names.
    """
    from metrics_app.kafka.examination import ERROR, examine

    settings = where_kafka_is()
    found = asyncio.run(examine(settings)) + of_machine(settings)
    if url:
        found += of_workers(url, shown(token_file), settings.clock_tolerance_s)
    if json:
        print_json([each._asdict() for each in found])
    else:
        print_page(_page(found))
    if any(each.level == ERROR for each in found):
        raise typer.Exit(1)


def of_machine(settings: Settings) -> list[Diagnosis]:
    """This machine, as a worker with these settings would find it."""
    return [
        _python(),
        _limits(settings.max_connections),
        *_folder(settings.data_dir),
        _port(settings),
        *_secrets(settings),
    ]


def _python() -> Diagnosis:
    from metrics_app.kafka.examination import ERROR, OK, Diagnosis

    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Diagnosis(OK, "python", version)
    return Diagnosis(ERROR, "python", f"{version} is not supported", "python3.13 -m venv .venv")


def _limits(connections: int) -> Diagnosis:
    import resource

    from metrics_app.kafka.examination import ERROR, OK, Diagnosis

    needed = connections + DESCRIPTORS_BESIDE
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # a role raises the soft one by itself
    if hard not in (-1, resource.RLIM_INFINITY) and hard < needed:
        says = f"at most {hard:,} descriptors, METRICS_MAX_CONNECTIONS needs about {needed:,}"
        return Diagnosis(ERROR, "limits", says, f"ulimit -Hn {needed}, or LimitNOFILE={needed} in the unit")
    return Diagnosis(OK, "limits", f"up to {hard:,} descriptors" if hard > 0 else "descriptors without a limit")


def _folder(folder: Path) -> list[Diagnosis]:
    from metrics_app.kafka.examination import ERROR, OK, WARNING, Diagnosis
    from metrics_app.system.meter import disk

    there = next((path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()), Path("/"))
    if not os.access(there, os.W_OK | os.X_OK):
        says = f"{folder}: {there} cannot be written by user {os.geteuid()}"
        return [Diagnosis(ERROR, "data folder", says, f"chown {os.geteuid()} {there}")]
    space = disk(folder)
    share = space.free / space.total
    level = ERROR if share < FULL_DISK else WARNING if share < LOW_DISK else OK
    mend = "" if level == OK else "make room, or set METRICS_DATA_DIR to a larger disk"
    return [Diagnosis(level, "disk", f"{share:.0%} of the disk of {folder} is free", mend)]


def _port(settings: Settings) -> Diagnosis:
    from metrics_app.kafka.examination import OK, WARNING, Diagnosis
    from metrics_app.kafka.ports import is_free

    if is_free(settings.port):
        return Diagnosis(OK, "port", f"{settings.port} is free")
    says = f"{settings.port} is used: by a worker that runs, or by something else"
    return Diagnosis(WARNING, "port", says, f"ss -ltnp 'sport = :{settings.port}'; METRICS_PORT chooses another")


def _secrets(settings: Settings) -> list[Diagnosis]:
    """Files that hold secrets and that others may read."""
    from metrics_app.kafka.examination import OK, WARNING, Diagnosis

    files = [file for file in (settings.tokens_file, settings.tls_key_file) if file is not None and file.exists()]
    found = [
        Diagnosis(WARNING, "permissions", f"{file} can be read by others", f"chmod 600 {file}")
        for file in files
        if file.stat().st_mode & OPEN_TO_OTHERS
    ]
    return found or [Diagnosis(OK, "permissions", "no file with secrets can be read by others")]


def of_workers(urls: list[str], credentials: Credentials, tolerance_s: float) -> list[Diagnosis]:
    """What the workers themselves find wrong, whether they are of one release, and whether their clocks are ours."""
    from metrics_app.kafka.examination import ERROR, OK, WARNING, Diagnosis

    try:
        system = ask_all(urls, credentials)
    except MetricsError as error:
        return [Diagnosis(ERROR, "workers", str(error), "start it, or name another with --url")]
    found = [Diagnosis(ERROR, "workers", each, "docs/runbook.md") for each in wrong(system)]
    versions = sorted({worker.version for worker in system.workers})
    if len(versions) > 1:
        found.append(Diagnosis(WARNING, "versions", f"workers are of {', '.join(versions)}", "end the upgrade"))
    for worker in system.workers:
        apart_s = abs(worker.told - time.time())
        if apart_s > tolerance_s:
            says = f"the clock of {worker.url} and ours are {apart_s:.0f} s apart"
            found.append(Diagnosis(ERROR, "clocks", says, "chronyc makestep, on the one that is off"))
    return found or [Diagnosis(OK, "workers", f"{len(system.workers)} workers are ready, of one release, on time")]


def _page(found: list[Diagnosis]) -> Table:
    table = Table(box=None, show_header=False)
    colours = {"ok": "green", "warning": "yellow", "error": "bold red"}
    for column in ("level", "part", "says"):
        table.add_column(column, overflow="fold")
    for each in found:
        says = escape(each.says) + (f"\n[dim]mend: {escape(each.mend)}[/dim]" if each.mend else "")
        table.add_row(f"[{colours[each.level]}]{each.level}[/]", escape(each.part), says)
    return table
