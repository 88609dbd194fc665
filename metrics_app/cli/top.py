"""`metrics-app top`: the slowest keys, the busiest, or those that have changed most.

Called by `main` and `tail`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from metrics_app.cli.answers import number
from metrics_app.cli.query import DEFAULT_URL, TokenFile, Url, fetch, shown
from metrics_app.cli.terminal import examples, literal, print_json, print_page, say

if TYPE_CHECKING:
    from metrics_app.credentials import Credentials

EXAMPLES = examples(
    "metrics-app top",
    "metrics-app top --sort p99 --date 2026-11-23 --hour 22",
    "metrics-app top --sort change --prefix checkout --json",
)
STATS = ("count", "median", "p95", "p99", "max")
CHANGE = "change"
TIMEOUT_S = 40.0  # above METRICS_RANKING_DEADLINE_S, unless that was raised

Sort = Annotated[str, typer.Option(help="A statistic, the greatest first; or `change`, since the time before.")]
Prefix = Annotated[str, typer.Option(help="Only keys that begin so.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many keys.")]


def top(
    sort: Sort = "p99",
    date: Annotated[str | None, typer.Option(help="UTC date, YYYY-MM-DD.", show_default="today")] = None,
    hour: Annotated[int | None, typer.Option(min=0, max=23, help="UTC hour.", show_default="the whole day")] = None,
    prefix: Prefix = "",
    limit: Limit = 20,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as it came.")] = False,
) -> None:
    """List the keys with the greatest value of a statistic. Exits with 1 when a part of the service did not answer."""
    when = {"date": date, "hour": None if hour is None else str(hour)}
    page = ranking(url, shown(token_file), sort=sort, prefix=prefix, limit=str(limit), **when)
    if json:
        print_json(page)
    else:
        print_page(_table(page, sort))
    if not page.get("complete", True):
        say(f"not complete: nobody answered for partitions {', '.join(map(str, page['unanswered']))}; try again")
        raise typer.Exit(1)


def ranking(url: str, credentials: Credentials, **asked: str | None) -> dict[str, Any]:
    """What `/keys?sort=` answers, with some statistics beside the one that it is sorted by."""
    beside = {} if asked["sort"] == CHANGE else {"stats": ",".join(STATS)}
    given = {name: value for name, value in asked.items() if value} | beside
    return fetch(url, ["keys"], given, credentials, TIMEOUT_S)


def _table(page: dict[str, Any], sort: str) -> Table:
    table = Table(box=None, header_style="dim")
    names = [sort] if sort in STATS or sort == CHANGE else [sort, *STATS]
    beside = [] if sort == CHANGE else [name for name in STATS if name not in names]
    for name in ("key", *names[:1], *names[1:], *beside):
        table.add_column(name, justify="left" if name == "key" else "right", overflow="fold")
    for each in page["ranked"]:
        values = {sort: each["value"], **each.get("values", {})}
        stale = " (stale)" if each.get("stale") else ""
        table.add_row(literal(each["key"]) + stale, *(number(values[name]) for name in (*names, *beside)))
    return table
