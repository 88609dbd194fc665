"""`metrics-app query`: what was recorded for one key in an hour, a day or a range.

Called by `load`, `main`, `send`, `status`, `capacity`, `top` and `tail`.

`metrics-app keys`: the keys recorded on a day, one a line.

One request to a running service, for the commands that make a single one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec
import typer
import urllib3

from metrics_app.cli.answers import pretty
from metrics_app.cli.terminal import examples, out, print_json, print_line, say
from metrics_app.credentials import NO_CREDENTIALS, Credentials
from metrics_app.errors import ClientError, InvalidQueryError, NoDataError, reason

TIMEOUT_S = 10.0  # above the service's own deadlines, so that its answer is seen rather than our timeout

Url = Annotated[str, typer.Option(envvar="METRICS_URL", help="Where the service is.")]
DEFAULT_URL = "http://127.0.0.1:8080"


class Reply(NamedTuple):
    """A status and the decoded JSON document that came with it."""

    status: int
    document: dict[str, Any]


TokenFile = Annotated[
    Path | None, typer.Option(help="File with the token to show.", show_default="METRICS_TOKEN, or METRICS_TOKEN_FILE")
]


def shown(token_file: Path | None) -> Credentials:
    """The token of an option or of the environment; there is no option for the token itself: others would see it.

    Raises:
        ClientError: the file, or what the environment says, is no token.
    """
    try:
        credentials = Credentials.given(file=token_file)
    except ValueError as error:
        raise ClientError(f"METRICS_TOKEN: {error}") from None
    if token_file is not None and not credentials.headers():
        raise ClientError(f"--token-file {token_file}: cannot be read, or is no token")
    return credentials


def ask(
    method: str,
    url: str,
    credentials: Credentials = NO_CREDENTIALS,
    body: bytes | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Reply:
    """The reply of the service, whatever its status.

    Raises:
        ClientError: nobody answered, or with something other than a JSON document.
    """
    if not url.startswith(("http://", "https://")):
        raise ClientError(f"no URL of a service: {url}; expected one such as {DEFAULT_URL}")
    timeout = urllib3.Timeout(connect=TIMEOUT_S, read=timeout_s)
    try:
        headers = {"Content-Type": "application/json", **credentials.headers()}
        reply = urllib3.request(method, url, body=body, headers=headers, timeout=timeout, retries=False)
        return Reply(reply.status, msgspec.json.decode(reply.data, type=dict[str, Any]))
    except urllib3.exceptions.HTTPError as error:
        raise ClientError(f"no answer from {url}: {reason(error)}") from error
    except msgspec.MsgspecError as error:
        raise ClientError(f"{url} did not answer with JSON, so it is not this service") from error


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
    token_file: TokenFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as it came.")] = False,
) -> None:
    """Ask what was recorded for one key; in the current UTC hour unless another time is named."""
    if date is not None and (start is not None or end is not None):
        raise typer.BadParameter("either a date, or --from and --to")
    given = {"from": start, "to": end, "with": baseline, unit: threshold}
    parameters = {name: str(value) for name, value in given.items() if value is not None}
    path = [key, stat, *_when(date, hour, in_path=start is None and end is None)]
    answer = fetch(url, path, parameters, shown(token_file))
    if json or "buckets" in answer:
        print_json(answer)
    else:
        out.print(pretty(answer))


def fetch(
    url: str, path: list[str], parameters: dict[str, str], credentials: Credentials, timeout_s: float = TIMEOUT_S
) -> dict[str, Any]:
    """The answer of the service.

    Raises:
        NoDataError, InvalidQueryError, ClientError: it has none, with its own reason.
    """
    asked = f"?{urlencode(parameters)}" if parameters else ""
    whole = f"{url.rstrip('/')}/{'/'.join(map(_segment, path))}{asked}"
    reply = ask("GET", whole, credentials, timeout_s=timeout_s)
    document = reply.document
    if reply.status == HTTPStatus.OK:
        return document
    if {"part", "value", "expected"} <= document.keys():
        raise InvalidQueryError(document["part"], document["value"], document["expected"])
    error = NoDataError if reply.status == HTTPStatus.NOT_FOUND else ClientError
    raise error(str(document.get("detail", f"status {reply.status}")))


def _segment(part: str) -> str:
    """A part of a path, percent-encoded; also where it is dots alone, which mean another folder."""
    return part.replace(".", "%2E") if part in (".", "..") else quote(part, safe="")


def _when(date: str | None, hour: str | None, in_path: bool) -> list[str]:
    if date is not None:
        return [date] if hour is None else [date, hour]
    now = datetime.now(UTC)
    return [f"{now:%Y-%m-%d}", str(now.hour)] if in_path else []


KEYS_EXAMPLES = examples(
    "metrics-app keys",
    "metrics-app keys --date 2026-11-23 --prefix checkout",
    "metrics-app keys | wc -l",
)


def keys(
    date: Annotated[str | None, typer.Option(help="UTC date, YYYY-MM-DD.", show_default="today")] = None,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.", show_default="all")] = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print one document with all of them.")] = False,
) -> None:
    """List the keys recorded on a day. Exits with 1 when a part of the service did not answer."""
    asked = {name: value for name, value in (("date", date), ("prefix", prefix)) if value}
    found: list[str] = []
    unanswered: set[int] = set()
    credentials = shown(token_file)
    while True:
        left = {} if limit is None else {"limit": str(min(limit - len(found), 100))}
        page = fetch(url, ["keys"], asked | left, credentials)
        asked |= {"date": page["date"], "after": page["next"]}
        found += page["keys"]
        unanswered.update(page["unanswered"])
        if not json:
            for key in page["keys"]:
                print_line(key)
        if page["next"] is None or len(found) == limit:
            break
    if json:
        whole = {"complete": not unanswered, "unanswered": sorted(unanswered), "lost_records": page["lost_records"]}
        print_json({"date": page["date"], "keys": found, **whole})
    if page["lost_records"] != 0:
        say("Kafka deleted records of that time before they were counted; keys that only they had are not listed")
    if unanswered:
        say(f"not complete: nobody answered for partitions {', '.join(map(str, sorted(unanswered)))}; try again")
        raise typer.Exit(1)
