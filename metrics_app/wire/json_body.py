"""Samples as JSON: an object, a pair, an array of either, or one of either a line.

A body is first decoded whole into typed structures, which is fast; only when that fails is it taken apart to find
the items at fault. Of a member given twice the last counts. Beyond syntax, nothing here is lenient: no number in a
string, no true for 1, no unknown member.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from struct import pack
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import DecodeError, Meta, Raw, Struct, ValidationError
from msgspec.json import Decoder

from metrics_app.errors import InvalidBodyError
from metrics_app.wire.chunk import VALUE_MAX, Chunk
from metrics_app.wire.gathering import HOUR_S, NOW, Gathering, sample_id, shown, too_many, why_not_then
from metrics_app.wire.keys import EXPECTED as A_KEY
from metrics_app.wire.keys import key_bytes

UNREADABLE = (DecodeError, UnicodeDecodeError, RecursionError)
EXPECTED = "an object with key and value, a pair [key, value], or an array of them"

Value = Annotated[float, Meta(ge=0, le=VALUE_MAX)]
Timestamp = float | Annotated[datetime, Meta(tz=True)] | None
Id = Annotated[str, Meta(min_length=1, max_length=255)] | None


class Sample(Struct, forbid_unknown_fields=True):
    """The object form."""

    key: str
    value: Value
    timestamp: Timestamp = None
    id: Id = None


class Pair(Struct, array_like=True, forbid_unknown_fields=True):
    """The array form."""

    key: str
    value: Value
    timestamp: Timestamp = None
    id: ClassVar[None] = None


Item = Sample | Pair

_SAMPLE, _PAIR = Decoder(Sample), Decoder(Pair)
_SAMPLES, _PAIRS = Decoder(list[Sample]), Decoder(list[Pair])
_ITEMS, _MEMBERS = Decoder(list[Raw]), Decoder(dict[str, Raw] | list[Raw])
_FIELDS: dict[str, tuple[Decoder[Any], str]] = {
    "key": (Decoder(str), A_KEY),
    "value": (Decoder(Value), "a number from 0 to 2^44"),
    "timestamp": (Decoder(Timestamp), "epoch seconds or RFC 3339 text with an offset"),
    "id": (Decoder(Id), "a text of 1 to 255 characters"),
}
_REQUIRED = ("key", "value")
_PAIRED = ("key", "value", "timestamp")
_OPENING = re.compile(rb"[ \t\r\n]*(\[)?[ \t\r\n]*(.)?", re.DOTALL)
_SLICE_BYTES = 1 << 17


def read(body: bytes, gathering: Gathering) -> None:
    """Gather the samples of a JSON text.

    Raises:
        InvalidBodyError: not JSON, or neither object nor array.
        BodyTooLargeError: more samples than the limit.
    """
    check_size(body, gathering)
    array, first = opening(body)
    if array and first != b'"':
        _group(_items(body, first, gathering), gathering)
    else:
        _group([_single(body, gathering)], gathering)


def read_lines(body: bytes, gathering: Gathering) -> None:
    """Gather the samples of newline-delimited JSON; lines are counted from 0, blank ones left out.

    Raises:
        BodyTooLargeError: more lines than the limit.
    """
    gathering.count_in(body.count(b"\n", 0, len(body.rstrip())) + 1)
    try:
        decoder: Decoder[Sample] | Decoder[Pair] = _PAIR if opening(body)[0] else _SAMPLE
        items: Iterable[Item | None] = decoder.decode_lines(body)
    except UNREADABLE:
        lines = (line for line in body.split(b"\n") if line.strip())
        items = (_item(index, line, gathering) for index, line in enumerate(lines))
    _group(items, gathering)


def opening(body: bytes | memoryview) -> tuple[bool, bytes]:
    """Whether a JSON text starts with `[`, and its first other character; empty if there is none."""
    match = _OPENING.match(body)
    return (match[1] is not None, match[2] or b"") if match else (False, b"")


def check_size(body: bytes, gathering: Gathering) -> None:
    """Refuse a small body of very many tiny items before they become objects, many times its size.

    Raises:
        BodyTooLargeError: more values than the limit, going by the punctuation of the JSON text.
    """
    limit = gathering.limits.max_items

    def fits(containers: int, commas: int) -> bool:
        # a sample is one, a series two of them; the body itself may be two
        return containers <= 2 * limit + 2 and commas <= len(_FIELDS) * limit

    if len(body) <= limit or fits(body.count(b"[") + body.count(b"{"), body.count(b",")):
        return
    # texts may hold punctuation too; leaving it out takes a while, and is done only where it matters
    if not fits(*_punctuation(body)):
        raise too_many(limit)


def _punctuation(body: bytes) -> tuple[int, int]:
    """Opening brackets and commas outside of texts."""
    containers = commas = 0
    within = np.False_
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"")  # without escaped quotes
    for at in range(0, len(plain), _SLICE_BYTES):
        codes = np.frombuffer(plain[at : at + _SLICE_BYTES], np.uint8)
        inside = np.logical_xor.accumulate(codes == ord('"')) ^ within
        within = inside[-1]
        counts = np.bincount(codes[~inside], minlength=256)
        containers += int(counts[ord("[")] + counts[ord("{")])
        commas += int(counts[ord(",")])
    return containers, commas


def malformed(body: bytes, error: Exception) -> InvalidBodyError:
    """The error for a body that is not JSON at all, or no form of a sample."""
    if isinstance(error, RecursionError):
        return InvalidBodyError(f"nested too deeply; expected {EXPECTED}")
    hint = ""
    if body.startswith(b"\xef\xbb\xbf"):
        hint = "; it starts with a byte order mark, which JSON does not have"
    elif b"NaN" in body or b"Infinity" in body:
        hint = "; JSON has no NaN and no Infinity, a value is a finite number"
    elif b"\\ud" in body.lower():
        hint = "; a \\ud... escape is one half of a character and needs the other next to it"
    return InvalidBodyError(f"expected {EXPECTED}: {error}{hint}")


def _items(body: bytes, first: bytes, gathering: Gathering) -> Iterable[Item | None]:
    decoder: Decoder[list[Sample]] | Decoder[list[Pair]] = _PAIRS if first == b"[" else _SAMPLES
    try:
        items: Sequence[Item] = decoder.decode(body)
    except UNREADABLE:
        return _items_apart(body, gathering)
    gathering.count_in(len(items))
    return items


def _items_apart(body: bytes, gathering: Gathering) -> Iterable[Item | None]:
    try:
        raws = _ITEMS.decode(body)
    except UNREADABLE as error:
        raise malformed(body, error) from None
    gathering.count_in(len(raws))
    return (_item(index, memoryview(raw), gathering) for index, raw in enumerate(raws))


def _single(body: bytes, gathering: Gathering) -> Item | None:
    try:
        _MEMBERS.decode(body)
    except UNREADABLE as error:
        raise malformed(body, error) from None
    return _item(0, body, gathering)


def _item(index: int, text: bytes | memoryview, gathering: Gathering) -> Item | None:
    try:
        return _PAIR.decode(text) if opening(text)[0] else _SAMPLE.decode(text)
    except UNREADABLE:
        gathering.reject(index, *_fault(text))
        return None


def _fault(text: bytes | memoryview) -> tuple[str, str]:
    try:
        members = _MEMBERS.decode(text)
    except ValidationError:
        return "shape", f"expected an object or a pair, got {shown(text)}"
    except UNREADABLE as error:
        return "json", str(error)
    if isinstance(members, list):
        if not len(_REQUIRED) <= len(members) <= len(_PAIRED):
            return "shape", f"expected a pair of key and value, or these and a timestamp, got {len(members)} members"
        members = dict(zip(_PAIRED, members, strict=False))
    return _member_fault(members)


def _member_fault(members: dict[str, Raw]) -> tuple[str, str]:
    for name in members:
        if name not in _FIELDS:
            return "shape", f"member {shown(name)!r} is unknown; known are {', '.join(_FIELDS)}"
    for name, (decoder, expected) in _FIELDS.items():
        if name not in members:
            if name in _REQUIRED:
                return name, f"{name} is missing: expected {expected}"
            continue
        try:
            decoder.decode(members[name])
        except UNREADABLE:
            return name, f"{name}: expected {expected}, got {shown(memoryview(members[name]))}"
    return "shape", "a member is given twice, once with something else than expected"


def _group(items: Iterable[Item | None], gathering: Gathering) -> None:
    missing = NOW if gathering.request_id else int(gathering.now_s // HOUR_S)
    groups: dict[tuple[str, int, bool], tuple[list[float], list[str]]] = {}
    for index, item in enumerate(items):
        if item is None:
            continue
        hour = missing if item.timestamp is None else _hour(index, item.timestamp, gathering)
        if hour is None:
            continue
        place = item.key, hour, item.id is None
        group = groups.get(place)
        if group is None:
            try:
                key_bytes(item.key)
            except ValueError as error:
                gathering.reject(index, "key", f"key {shown(item.key)!r}: {error}")
                continue
            group = groups[place] = [], []
        group[0].append(item.value + 0.0)  # -0.0 becomes 0.0
        if item.id is not None:
            group[1].append(item.id)
    for (key, hour, _), (values, ids) in groups.items():
        encoded = key_bytes(key)
        packed = pack(f"<{len(values)}d", *values)
        gathering.add(Chunk(encoded, hour, packed, ids=b"".join([sample_id(encoded, text) for text in ids])))


def _hour(index: int, timestamp: float | datetime, gathering: Gathering) -> int | None:
    if isinstance(timestamp, datetime):
        timestamp = timestamp.timestamp()
    if gathering.oldest_s <= timestamp <= gathering.newest_s:
        return int(timestamp // HOUR_S)
    gathering.reject(index, "timestamp", why_not_then(timestamp, gathering))
    return None
