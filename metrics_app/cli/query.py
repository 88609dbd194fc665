"""`metrics-app query`: one statistic of one key and hour."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.markup import escape
from rich.table import Table

from metrics_app.cli.service import DEFAULT_URL, Url, ask
from metrics_app.cli.terminal import examples, out, print_json
from metrics_app.errors import ClientError, InvalidQueryError, NoDataError

EXAMPLES = examples(
    "metrics-app query checkout median",
    "metrics-app query checkout p99 2026-11-23 22",
    "metrics-app query checkout summary --json",
)


def query(
    key: Annotated[str, typer.Argument(help="Key.")],
    stat: Annotated[str, typer.Argument(help="average, min, max, median, count, sum, stddev, p95, p99.9, summary ...")],
    date: Annotated[str | None, typer.Argument(help="UTC date, YYYY-MM-DD.", show_default="today")] = None,
    hour: Annotated[str | None, typer.Argument(help="UTC hour, 0 to 23.", show_default="the current hour")] = None,
    url: Url = DEFAULT_URL,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as it came.")] = False,
) -> None:
    """Ask for one statistic of one key in one hour; the current UTC hour unless another is named."""
    now = datetime.now(UTC)
    if date is not None and hour is None:
        raise typer.BadParameter("an hour must follow the date")
    answer = fetch(url, key, stat, date or f"{now:%Y-%m-%d}", hour or str(now.hour))
    if json:
        print_json(answer)
    else:
        out.print(pretty(answer))


def fetch(url: str, key: str, stat: str, date: str, hour: str) -> dict[str, Any]:
    """The answer of the service.

    Raises:
        NoDataError, InvalidQueryError, ClientError: it has none, with its own reason.
    """
    path = "/".join(quote(part, safe="") for part in (key, stat, date, hour))
    reply = ask("GET", f"{url.rstrip('/')}/{path}")
    document = reply.document
    if reply.status == HTTPStatus.OK:
        return document
    if {"part", "value", "expected"} <= document.keys():
        raise InvalidQueryError(document["part"], document["value"], document["expected"])
    error = NoDataError if reply.status == HTTPStatus.NOT_FOUND else ClientError
    raise error(str(document.get("detail", f"status {reply.status}")))


def pretty(answer: dict[str, Any]) -> Table:
    """The answer as two columns: the value with its unit first, then how good and how complete it is."""
    unit = answer.get("unit", "")
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in values(answer).items():
        table.add_row(name, f"[bold]{number(value)}[/bold]{'' if name == 'count' else f' {escape(unit)}'}")
    window = answer.get("window", {})
    table.add_row("window", f"{window.get('start')} to {window.get('end')}")
    table.add_row("values", f"{answer.get('count', 0):,}")
    table.add_row("precision", precision(answer))
    table.add_row("completeness", completeness(answer))
    return table


def values(answer: dict[str, Any]) -> dict[str, float]:
    """The values asked for by name; several for `summary`."""
    several: dict[str, float] | None = answer.get("values")
    return {answer["stat"]: answer["value"]} if several is None else several


def precision(answer: dict[str, Any]) -> str:
    """How close the value is to the true one, in words."""
    if answer.get("exact", True):
        return "exact"
    bound = f"within {100 * answer.get('error_bound', 0):.2f} %"
    low, high = answer.get("lo"), answer.get("hi")
    return bound if low is None or high is None else f"{bound}, surely in [{number(low)}, {number(high)}]"


def completeness(answer: dict[str, Any]) -> str:
    """What is known to be missing or still to come, in words."""
    parts = ["final" if answer.get("final") else "hour still open"]
    parts += [f"{answer[name]:,} {name}" for name in ("missing", "duplicates", "late") if answer.get(name)]
    if answer.get("stale"):
        parts.append("from a standby, may lag")
    if "as_of" in answer:
        parts.append(f"as of {answer['as_of']}")
    return ", ".join(parts)


def number(value: float) -> str:
    """A number for people: thousands separated, six significant digits or the whole integer part."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.1f}"
