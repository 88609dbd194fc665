"""`metrics-app send`: a few samples by hand or from another program's output.

Called by `cli.main`.

A line that is no sample is one more rejected sample: it never stops the lines after it.
"""

from __future__ import annotations

import itertools
import math
import re
import shlex
import sys
import uuid
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from msgspec import Raw

from metrics_app.cli.query import DEFAULT_URL, TokenFile, Url, ask, shown
from metrics_app.cli.terminal import examples, print_json, print_line, say
from metrics_app.credentials import NO_CREDENTIALS, Credentials
from metrics_app.errors import ClientError

EXAMPLES = examples(
    "metrics-app send checkout 12.5",
    "metrics-app send checkout 12.5 --timestamp 2026-11-23T22:10:00Z",
    "printf 'checkout 12.5\\ncheckout 14\\n' | metrics-app send",
    "metrics-app send --batch nightly-1 < samples.txt",
)
LINES_A_REQUEST = 1000
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")  # JSON's
LISTED = 20  # rejected samples that are printed, a line each; --json has all of them


@dataclass
class Sending:
    """What has become of a batch so far.

    Attributes:
        batch: its name; the same samples sent again under it count once, within the reach of ids.
        credentials: what the service is shown.
        rejected: what the service or the reader of lines refused, each with its line.
    """

    batch: str
    credentials: Credentials = NO_CREDENTIALS
    accepted: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)

    def send(self, url: str, lines: Iterator[Line]) -> None:
        """Posts the samples, `LINES_A_REQUEST` a request.

        Raises:
            ClientError: a request failed; those before it are in.
        """
        for chunk in iter(lambda: list(itertools.islice(lines, LINES_A_REQUEST)), []):
            for line in chunk:
                if line.item is None:
                    self._reject(line, {"reason": "line", "detail": line.problem})
            self._post(url, [line for line in chunk if line.item is not None])

    def _post(self, url: str, lines: list[Line]) -> None:
        if not lines:
            return
        reply = ask(
            "POST", f"{url.rstrip('/')}/samples", self.credentials, msgspec.json.encode([line.item for line in lines])
        )
        if "accepted" not in reply.document:  # it is also in the problem document of a request without a usable sample
            raise ClientError(f"not accepted: {reply.document.get('detail', f'status {reply.status}')}")
        self.accepted += reply.document["accepted"]
        for item in reply.document.get("rejected", []):
            self._reject(lines[item["index"]], item)

    def _reject(self, line: Line, why: dict[str, Any]) -> None:
        detail = why.get("detail") or why["reason"]
        self.rejected.append({"line": line.number, "reason": why["reason"], "detail": detail})

    def print(self, as_json: bool) -> None:
        """Prints how much is in and what is not."""
        if as_json:
            print_json({"batch": self.batch, "accepted": self.accepted, "rejected": self.rejected})
            return
        print_line(f"accepted {self.accepted}")
        for item in self.rejected[:LISTED]:
            say(f"rejected line {item['line']}: {item['detail']}")
        if len(self.rejected) > LISTED:
            say(f"and {len(self.rejected) - LISTED:,} more: --json lists all of them")

    @property
    def how_to_go_on(self) -> str:
        """What to do after a failure."""
        return f"send the same again with --batch {shlex.quote(self.batch)}: what is in counts once"


def send(
    key: Annotated[str | None, typer.Argument(help="Key; none: lines `key value` are read from stdin.")] = None,
    value: Annotated[float | None, typer.Argument(help="Response time.")] = None,
    timestamp: Annotated[
        str | None, typer.Option(help="Epoch seconds or RFC 3339.", show_default="the time of arrival")
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(help="Name of this input: sent again under it, a line counts once.", show_default="a new one"),
    ] = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send one sample, or those on stdin; exit code 1 when any was not accepted.

    Accepted means that all in-sync replicas of Kafka have it. A line that is rejected does not stop the others: correct
    it and send the whole again under the batch that is named, and nothing counts twice.
    """
    if key is not None and value is None:
        raise typer.BadParameter("a value must follow the key")
    sending = Sending(batch or f"send-{uuid.uuid4().hex[:12]}", shown(token_file))
    at = None if timestamp is None else _parsed(timestamp)
    if key is None or value is None:
        lines = samples(sys.stdin.buffer, sending.batch, at)
    else:
        lines = iter([sample(key, value, sending.batch, at)])
    try:
        sending.send(url, lines)
    except (ClientError, KeyboardInterrupt) as error:
        if sending.accepted or sending.rejected:
            sending.print(json)
        say(sending.how_to_go_on)
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(130) from error
        raise
    sending.print(json)
    if sending.rejected:
        say(f"correct what was rejected and {sending.how_to_go_on}")
        raise typer.Exit(1)


def _parsed(timestamp: str) -> msgspec.Raw | str:
    """A number as it was written, for a float64 could turn out an hour later; any other text as text."""
    return msgspec.Raw(timestamp.encode()) if _NUMBER.fullmatch(timestamp) else timestamp


SHOWN = 60  # characters of a bad line that its rejection repeats


class Line(NamedTuple):
    """One line that is not blank.

    Attributes:
        number: counted from 1, blank lines included.
        item: the sample as the service takes it; None for a line that is none.
        problem: what is wrong with a line that is no sample.
    """

    number: int
    item: dict[str, Any] | None
    problem: str = ""


def samples(lines: Iterable[bytes], batch: str, timestamp: Raw | str | None = None) -> Iterator[Line]:
    """The lines as samples, each with an id.

    The id is made of the batch's name, the text, and how often the text came before. So the same lines under the same
    name give the same ids, also when other lines between them were corrected.

    Args:
        timestamp: given to every sample; None: the time of arrival.
    """
    seen: Counter[bytes] = Counter()
    for number, raw in enumerate(lines, 1):
        text = raw.removeprefix(BOM_UTF8).strip() if number == 1 else raw.strip()
        if not text:
            continue
        try:
            key, value = _split(text)
        except ValueError as error:
            yield Line(number, None, str(error))
            continue
        yield Line(number, _item(key, value, timestamp, _id(batch, text, seen[text])))
        seen[text] += 1


def sample(key: str, value: float, batch: str, timestamp: Raw | str | None = None) -> Line:
    """The one sample of a command line. A key that is no UTF-8 is a problem, as on a line of stdin."""
    try:
        text = f"{key} {value}".encode()
    except UnicodeEncodeError:
        return Line(1, None, f"expected a key in UTF-8, got {_shown(ascii(key)[1:-1])}")
    return Line(1, _item(key, value, timestamp, _id(batch, text, 0)))


def _item(key: str, value: float, timestamp: Raw | str | None, id_: str) -> dict[str, Any]:
    at = {} if timestamp is None else {"timestamp": timestamp}
    return {"key": key, "value": value, **at, "id": id_}


def _split(text: bytes) -> tuple[str, float]:
    try:
        line = text.decode()
    except UnicodeDecodeError:
        raise ValueError(f"expected UTF-8, got {_shown(repr(text)[2:-1])}") from None
    key, *numbers = line.rsplit(maxsplit=1)
    if not numbers or not _is_number(numbers[0]):
        raise ValueError(f"expected `key value`, got {_shown(line)}")
    return key.strip(), float(numbers[0])


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def _shown(text: str) -> str:
    return f"{text[:SHOWN]!r}{'...' if len(text) > SHOWN else ''}"


def _id(batch: str, text: bytes, repetition: int) -> str:
    return blake2b(b"\0".join([batch.encode(), str(repetition).encode(), text]), digest_size=16).hexdigest()
