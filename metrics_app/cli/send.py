"""`metrics-app send`: a few samples by hand or from another program's output."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import typer

from metrics_app.cli.service import DEFAULT_URL, Url, ask
from metrics_app.cli.terminal import examples, print_json, print_line, say
from metrics_app.errors import ClientError

EXAMPLES = examples(
    "metrics-app send checkout 12.5",
    "metrics-app send checkout 12.5 --timestamp 2026-11-23T22:10:00Z",
    "printf 'checkout 12.5\\ncheckout 14\\n' | metrics-app send",
)
LINES_A_REQUEST = 1000


def send(
    key: Annotated[str | None, typer.Argument(help="Key; none: lines `key value` are read from stdin.")] = None,
    value: Annotated[float | None, typer.Argument(help="Response time.")] = None,
    timestamp: Annotated[
        str | None, typer.Option(help="Epoch seconds or RFC 3339.", show_default="the time of arrival")
    ] = None,
    url: Url = DEFAULT_URL,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send one sample, or those on stdin; exit code 1 when any was not accepted.

    Accepted means that all in-sync replicas of Kafka have it.
    """
    if key is not None and value is None:
        raise typer.BadParameter("a value must follow the key")
    accepted, rejected = 0, list[dict[str, Any]]()
    for first, items in _requests(key, value, timestamp):
        taken, refused = _post(url, items)
        accepted += taken
        rejected += [{**item, "index": first + item["index"]} for item in refused]
    if json:
        print_json({"accepted": accepted, "rejected": rejected})
    else:
        print_line(f"accepted {accepted}")
        for item in rejected:
            say(f"rejected sample {item['index'] + 1}: {item.get('detail') or item['reason']}")
    if rejected:
        raise typer.Exit(1)


def _requests(key: str | None, value: float | None, timestamp: str | None) -> Iterator[tuple[int, list[Any]]]:
    """(number of the first sample, samples) per request."""
    at = [] if timestamp is None else [_parsed(timestamp)]
    if key is not None:
        yield 0, [[key, value, *at]]
        return
    first = 0
    samples = ([*_split(number, line), *at] for number, line in enumerate(sys.stdin, 1) if line.strip())
    while items := list(itertools.islice(samples, LINES_A_REQUEST)):
        yield first, items
        first += len(items)


def _parsed(timestamp: str) -> float | str:
    try:
        return float(timestamp)
    except ValueError:
        return timestamp


def _split(number: int, line: str) -> tuple[str, float]:
    try:
        key, value = line.rsplit(maxsplit=1)
        return key.strip(), float(value)
    except ValueError:
        raise typer.BadParameter(f"line {number} of stdin: expected `key value`, got {line.strip()!r}") from None


def _post(url: str, items: list[Any]) -> tuple[int, list[dict[str, Any]]]:
    reply = ask("POST", f"{url.rstrip('/')}/samples", msgspec.json.encode(items))
    if "accepted" in reply.document:  # also in the problem document of a request without a usable sample
        return reply.document["accepted"], reply.document.get("rejected", [])
    raise ClientError(f"not accepted: {reply.document.get('detail', f'status {reply.status}')}")
