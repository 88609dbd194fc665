"""`metrics-app status`: the whole system as text, with what is wrong first.

Called by `main` and `capacity`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from metrics_app.cli.query import DEFAULT_URL, TokenFile, shown
from metrics_app.cli.terminal import examples, out, print_json, print_page, say
from metrics_app.errors import ClientError

if TYPE_CHECKING:
    from metrics_app.credentials import Credentials
    from metrics_app.system.condition import Condition, SystemState

EXAMPLES = examples(
    "metrics-app status",
    "metrics-app status --watch",
    "metrics-app status --url http://collector-1:8080 --url http://aggregator-1:8080 --json",
)
EVERY_S = 2.0

Urls = Annotated[
    list[str] | None,
    typer.Option(
        "--url",
        envvar="METRICS_URL",
        help="A worker; an aggregator tells of all aggregators, a collector of itself. Repeat for several.",
        show_default=DEFAULT_URL,
    ),
]


def status(
    url: Urls = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every two seconds, until Ctrl-C.")] = False,
    token_file: TokenFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show workers, partitions and what was counted or refused. Exits with 1 when something is wrong."""
    urls, credentials = url or [DEFAULT_URL], shown(token_file)
    if watch:
        _watch(urls, credentials)
        return
    system = ask_all(urls, credentials)
    if json:
        import msgspec

        print_json(msgspec.to_builtins(system, str_keys=True))
    else:
        print_page(page(system))
    if system.wrong:
        raise typer.Exit(1)


def ask_all(urls: list[str], credentials: Credentials) -> SystemState:
    """What these workers say, as one.

    Raises:
        ClientError: one of them does not answer, or with something else.
    """
    import msgspec

    from metrics_app.cli.query import fetch
    from metrics_app.system.condition import SystemState, together

    told = [fetch(url, ["system"], {}, credentials) for url in urls]
    try:
        return together([msgspec.convert(each, SystemState, strict=False) for each in told], time.time())
    except msgspec.ValidationError as error:
        raise ClientError(f"an answer to /system is not of this release: {error}") from error


def _watch(urls: list[str], credentials: Credentials) -> None:
    from rich.live import Live

    try:
        with Live(console=out, screen=out.is_terminal, auto_refresh=False) as live:
            while True:
                try:
                    live.update(page(ask_all(urls, credentials)), refresh=True)
                except ClientError as error:
                    live.update(f"[bold red]{escape(str(error))}[/bold red]", refresh=True)
                time.sleep(EVERY_S)
    except KeyboardInterrupt:
        say("stopped")


def page(system: SystemState) -> RenderableType:
    """The system for a person, what is wrong first."""
    lines = [f"[bold red]{escape(each)}[/bold red]" for each in system.wrong] or ["[green]nothing is wrong[/green]"]
    parts: list[RenderableType] = [f"{system.at}  {len(system.workers)} workers", *lines, "", _workers(system)]
    if system.partitions:
        parts += ["", _partitions(system)]
    return Group(*parts, "", _counters(system))


def _workers(system: SystemState) -> Table:
    table = _table("worker", "role", "up", "values/s", "busy", "fresh p99", "answers p99", "memory", "disk free")
    for each in system.workers:
        load = each.load
        table.add_row(
            escape(each.url),
            each.role,
            _span(time.time() - each.started),
            f"{load.values_per_s:,.0f}",
            f"{load.busy:.0%}",
            _seconds(load.freshness_p99_s),
            _seconds(load.query_p99_s),
            _bytes(each.memory_bytes),
            _disk(each),
        )
    return table


def _partitions(system: SystemState) -> Table:
    table = _table("partition", "owner", "copies", "lag", "recovery")
    for each in system.partitions:
        table.add_row(
            str(each.partition),
            escape(each.owner or "nobody"),
            escape(" ".join(each.copies)) or "none",
            "?" if each.lag is None else f"{each.lag:,}",
            str(each.recovering or ""),
        )
    return table


def _counters(system: SystemState) -> Table:
    """What was counted since the workers started, without zeros; of each reason apart."""
    table = _table("since the workers started", "")
    named = {name: count for name, count in system.totals.items() if name.endswith(("values", "records"))}
    reasons = {
        f"{name} ({label})": count
        for name, counted in system.by.items()
        if name.endswith(("values", "records"))
        for label, count in counted.items()
    }
    for name, count in {**named, **reasons}.items():
        if count:
            table.add_row(escape(name.replace("_", " ")), f"{count:,.0f}")
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, header_style="dim")
    for nth, name in enumerate(names):
        table.add_column(name, justify="right" if nth > 1 or name == "" else "left", overflow="fold")
    return table


def _seconds(value: float | None) -> str:
    return "" if value is None else f"<= {1000 * value:,.0f} ms"


def _span(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _bytes(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def _disk(worker: Condition) -> str:
    share = worker.disk_free_bytes / worker.disk_bytes if worker.disk_bytes else 0.0
    return f"{_bytes(worker.disk_free_bytes)} ({share:.0%})"
