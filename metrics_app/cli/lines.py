"""Reads lines `key value` into samples. Called by `send`.

A line that is no sample is one more rejected sample: it never stops the lines after it.
"""

from __future__ import annotations

import math
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

from msgspec import Raw

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
