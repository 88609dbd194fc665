"""Reads the timings of statsd and DogStatsD packets. Pure: no socket, no clock.

Called by `collector.statsd`.

    checkout:12.5|ms          checkout:12.5:13:9|h|#env:prod,route:/pay          a line each, several in a packet

Timings (`ms`), histograms (`h`) and distributions (`d`) are values; several in a line are divided by colons. Counters,
gauges and sets (`c`, `g`, `s`), events and checks are left out without a word, for clients send all of it to one
address. A line with a sample rate below 1 is rejected: the values that were left out of it are not known, so no
statistic of it could say how good it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from metrics_app.sources.key_template import KeyTemplate, MissingNameError
from metrics_app.wire.chunk import VALUE_MAX
from metrics_app.wire.metric_key import key_bytes

TIMINGS = (b"ms", b"h", b"d")
OTHERS = (b"c", b"g", b"s", b"m", b"kv")
NOT_METRICS = (b"_e{", b"_sc|")
NAME = "name"
REMEMBERED_BYTES = 512  # of tags; longer ones are read each time, so that what is remembered takes a few MiB at most


class Timing(NamedTuple):
    """Values of one line."""

    key: bytes
    values: list[float]


class UnusableLine(NamedTuple):
    """A line that cannot be taken: a word for the counters, and how many values it had, as far as that can be said."""

    reason: str
    values: int = 1


def lines(packet: bytes, template: KeyTemplate) -> Iterator[Timing | UnusableLine]:
    """What the lines of a packet say, but for those that are no timings."""
    for line in packet.split(b"\n"):
        if line and (found := _line(line.rstrip(b"\r"), template)) is not None:
            yield found


def _line(line: bytes, template: KeyTemplate) -> Timing | UnusableLine | None:
    head, *parts = line.split(b"|")
    if line.startswith(NOT_METRICS) or (parts and parts[0] in OTHERS):
        return None
    name, colon, given = head.partition(b":")
    if not (parts and parts[0] in TIMINGS and colon and name):
        return UnusableLine("form")
    texts = given.split(b":")
    if len(parts) > 1 and any(part.startswith(b"@") and _rate(part) != 1.0 for part in parts[1:]):
        return UnusableLine("sample-rate", len(texts))
    values = None if b"_" in given else _values(texts)  # Python reads 1_0 as 10
    if values is None:
        return UnusableLine("value", len(texts))
    more = b"|".join(parts[1:])
    try:
        return Timing((_known_key if len(more) <= REMEMBERED_BYTES else _key)(template, name, more), values)
    except (MissingNameError, ValueError):
        return UnusableLine("key", len(texts))


def _key(template: KeyTemplate, name: bytes, more: bytes) -> bytes:
    """The key of a name and what follows the kind.

    Raises:
        ValueError: it is none, or a tag is missing.
    """
    return key_bytes(template.filled({**_tags(more.split(b"|")), NAME: name.decode()}))


_known_key = lru_cache(1 << 14)(_key)  # clients repeat theirs


def _rate(part: bytes) -> float:
    try:
        return float(part[1:])
    except ValueError:
        return math.nan


def _values(texts: list[bytes]) -> list[float] | None:
    """The numbers; None when one is none, or out of bounds."""
    try:
        values = [float(text) + 0.0 for text in texts]  # -0.0 becomes 0.0
    except ValueError:
        return None
    return values if all(0.0 <= value <= VALUE_MAX for value in values) else None


def _tags(parts: list[bytes]) -> dict[str, str]:
    """The tags of a line, `#name:text,...`; one without a text stands for itself."""
    found: dict[str, str] = {}
    for part in parts:
        if part.startswith(b"#"):
            for tag in part[1:].decode().split(","):
                name, _, text = tag.partition(":")
                found[name] = text or name
    return found
