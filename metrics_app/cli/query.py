"""`metrics-app query`: what was recorded for one key in an hour, a day or a range."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from metrics_app.cli.answers import pretty
from metrics_app.cli.service import DEFAULT_URL, Url, ask
from metrics_app.cli.terminal import examples, out, print_json
from metrics_app.errors import ClientError, InvalidQueryError, NoDataError

EXAMPLES = examples(
    "metrics-app query checkout median",
    "metrics-app query checkout p99 2026-11-23 22",
    "metrics-app query checkout p99 2026-11-23",
    "metrics-app query checkout average --from 2026-11-01 --to 2026-12-01",
    "metrics-app query checkout under 2026-11-23 --threshold 250",
    "metrics-app query checkout compare 2026-11-23 22 --with 2026-11-22/22",
    "metrics-app query checkout summary --json",
)
STAT_HELP = "average, min, max, median, count, sum, stddev, p95, p99.9, summary; under, compare, histogram."


def query(
    key: Annotated[str, typer.Argument(help="Key.")],
    stat: Annotated[str, typer.Argument(help=STAT_HELP)],
    date: Annotated[str | None, typer.Argument(help="UTC date, YYYY-MM-DD.", show_default="today")] = None,
    hour: Annotated[
        str | None, typer.Argument(help="UTC hour, 0 to 23; without it, but with a date, the whole day.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Start of a range: a date, date/hour or RFC 3339; with --to.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="End of the range, which is not in it.")] = None,
    baseline: Annotated[
        str | None, typer.Option("--with", help="For compare: when the time to compare with starts.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="For under: the share of values up to this one.")] = None,
    unit: Annotated[str, typer.Option(help="Unit of the threshold: that of the service.")] = "ms",
    url: Url = DEFAULT_URL,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as it came.")] = False,
) -> None:
    """Ask what was recorded for one key; in the current UTC hour unless another time is named."""
    if date is not None and (start is not None or end is not None):
        raise typer.BadParameter("either a date, or --from and --to")
    given = {"from": start, "to": end, "with": baseline, unit: threshold}
    parameters = {name: str(value) for name, value in given.items() if value is not None}
    answer = fetch(url, [key, stat, *_when(date, hour, in_path=start is None and end is None)], parameters)
    if json or "buckets" in answer:
        print_json(answer)
    else:
        out.print(pretty(answer))


def fetch(url: str, path: list[str], parameters: dict[str, str]) -> dict[str, Any]:
    """The answer of the service.

    Raises:
        NoDataError, InvalidQueryError, ClientError: it has none, with its own reason.
    """
    asked = f"?{urlencode(parameters)}" if parameters else ""
    reply = ask("GET", f"{url.rstrip('/')}/{'/'.join(quote(part, safe='') for part in path)}{asked}")
    document = reply.document
    if reply.status == HTTPStatus.OK:
        return document
    if {"part", "value", "expected"} <= document.keys():
        raise InvalidQueryError(document["part"], document["value"], document["expected"])
    error = NoDataError if reply.status == HTTPStatus.NOT_FOUND else ClientError
    raise error(str(document.get("detail", f"status {reply.status}")))


def _when(date: str | None, hour: str | None, in_path: bool) -> list[str]:
    if date is not None:
        return [date] if hour is None else [date, hour]
    now = datetime.now(UTC)
    return [f"{now:%Y-%m-%d}", str(now.hour)] if in_path else []
