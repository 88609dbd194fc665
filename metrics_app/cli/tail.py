"""`metrics-app tail`: the busiest keys of the running hour, shown again and again, with a plot of each.

Called by `main`.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict, deque
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from metrics_app.cli.answers import number
from metrics_app.cli.query import DEFAULT_URL, TokenFile, Url, shown
from metrics_app.cli.sparks import spark
from metrics_app.cli.terminal import examples, literal, out, print_line, print_page, say
from metrics_app.cli.top import CHANGE, Limit, Prefix, Sort, ranking
from metrics_app.errors import MetricsError

EXAMPLES = examples(
    "metrics-app tail",
    "metrics-app tail --sort p99 --prefix checkout --every 5",
    "metrics-app tail --rounds 3 --json",
)
COLUMNS = ("count", "median", "p95", "p99", "max")
KEPT = 30
PLOTTED = "p95"

History = defaultdict[str, deque[float]]


def tail(
    sort: Sort = "count",
    prefix: Prefix = "",
    limit: Limit = 20,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    rounds: Annotated[int | None, typer.Option(min=1, help="Look so often.", show_default="until Ctrl-C")] = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print each answer as a line of JSON.")] = False,
) -> None:
    """Watch the keys of the running hour: values, median, p95, p99, max, and a plot of the p95 of each."""
    import msgspec
    from rich.live import Live

    credentials, history = shown(token_file), History(lambda: deque(maxlen=KEPT))
    with Live(console=out, auto_refresh=False, transient=not out.is_terminal) as live:
        try:
            for nth in itertools.count(1):
                now = datetime.now(UTC)
                when = {"date": f"{now:%Y-%m-%d}", "hour": str(now.hour)}
                try:
                    page = ranking(url, credentials, sort=sort, prefix=prefix, limit=str(limit), **when)
                except MetricsError as error:  # it may be back at the next look
                    if rounds is not None:
                        raise
                    page = {"ranked": [], "problem": str(error)}
                if json:
                    print_line(msgspec.json.encode(page).decode())
                else:
                    _show(live, looked_at(page, history, sort))
                if nth == rounds:
                    return
                time.sleep(every)
        except KeyboardInterrupt:
            say("stopped")


def _show(live: Any, table: Table) -> None:
    """In place where a person looks, else below what was there."""
    if out.is_terminal:
        live.update(table, refresh=True)
    else:
        print_page(table)


def looked_at(page: dict[str, Any], history: History, sort: str) -> Table:
    """The table of one look, whose values are noted for the plots of the next ones."""
    plotted = CHANGE if sort == CHANGE else PLOTTED
    columns = (CHANGE,) if sort == CHANGE else COLUMNS if sort in COLUMNS else (sort, *COLUMNS)
    table = Table(box=None, header_style="dim", caption=escape(page.get("problem", "")) or None)
    for name in ("key", *columns, f"{plotted} since"):
        table.add_column(name, justify="right" if name in columns else "left", overflow="fold")
    for each in page["ranked"]:
        values = {sort: each["value"], **each.get("values", {})}
        history[each["key"]].append(values[plotted])
        numbers = (number(values[name]) for name in columns)
        table.add_row(literal(each["key"]), *numbers, spark([*history[each["key"]]]))
    for gone in history.keys() - {each["key"] for each in page["ranked"]}:
        del history[gone]
    return table
