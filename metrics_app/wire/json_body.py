"""Reads samples as JSON: an object, a pair, an array of either, or one of either on each line.

Called by `bodies`.

A body is first decoded whole into typed structures, which is fast; only when that fails is it taken apart to find the
items at fault.

One sample in JSON, as an object or as a pair, and what is wrong with what is neither.

Nothing here is lenient: no number in a string, no true for 1, no unknown member. Of a member given twice the last
counts.

The moment of a sample lies in the hour that its text says: no rounding puts it into the next one.

A float64 holds 0.2 us of today's seconds, a datetime 1 us; more digits are rounded. That matters only where the result
is the start of an hour: then the text is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from itertools import pairwise
from struct import pack
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Raw, Struct, ValidationError, json
from msgspec.json import Decoder

from metrics_app.errors import UNREADABLE
from metrics_app.wire.chunk import VALUE_MAX, Chunk
from metrics_app.wire.gathering import (
    HOUR_S,
    ITEMS_A_STEP,
    NO_MORE_ROWS,
    NOW,
    WHITESPACE,
    BodyParts,
    Steps,
    check_encoding,
    check_size,
    malformed,
    opening,
    shown,
    why_not_then,
)
from metrics_app.wire.metric_key import EXPECTED as A_KEY
from metrics_app.wire.metric_key import key_bytes
from metrics_app.wire.ownership import FORBIDDEN, forbidden

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

SAMPLE, PAIR = Decoder(Sample), Decoder(Pair)
MEMBERS = Decoder(dict[str, Raw] | list[Raw])

_FIELDS: dict[str, tuple[Decoder[Any], str]] = {
    "key": (Decoder(str), A_KEY),
    "value": (Decoder(Value), "a number from 0 to 2^44"),
    "timestamp": (Decoder(Timestamp), "epoch seconds or RFC 3339 text with an offset"),
    "id": (Decoder(Id), "a text of 1 to 255 characters"),
}
_REQUIRED = ("key", "value")
PAIRED = ("key", "value", "timestamp")


def read_item(index: int, text: bytes | memoryview, gathering: BodyParts) -> Item | None:
    """Reads a JSON text as one sample; None when it is not a sample, which is then noted as a rejection."""
    try:
        return PAIR.decode(text) if opening(text)[0] else SAMPLE.decode(text)
    except UNREADABLE:
        gathering.reject(index, *_fault(text))
        return None


def _fault(text: bytes | memoryview) -> tuple[str, str]:
    try:
        members = MEMBERS.decode(text)
    except ValidationError:
        return "shape", f"expected an object or a pair, got {shown(text)}"
    except UNREADABLE as error:
        return "json", str(error)
    if isinstance(members, list):
        if not len(_REQUIRED) <= len(members) <= len(PAIRED):
            return "shape", f"expected a pair of key and value, or these and a timestamp, got {len(members)} members"
        members = dict(zip(PAIRED, members, strict=False))
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


_PLACE = PAIRED.index("timestamp")
_SECONDS = slice(17, 19)  # of RFC 3339, YYYY-MM-DDTHH:MM:SS


def unrounded(at: float, sample: bytes | Raw) -> float:
    """The start of an hour, or the last float64 before it when the sample's text shows an earlier time.

    Args:
        at: epoch seconds of the sample's timestamp, as they were decoded; the start of an hour.
        sample: its JSON.
    """
    # there is no hour before 1970
    return math.nextafter(at, -math.inf) if at > 0.0 and _is_before(at, _written(sample)) else at


def _written(sample: bytes | Raw) -> bytes:
    members = MEMBERS.decode(sample)
    return bytes(members["timestamp"] if isinstance(members, dict) else members[_PLACE])


def _is_before(at: float, written: bytes) -> bool:
    """Whether a timestamp was rounded up to the start of the hour."""
    if not written.startswith(b'"'):
        return Decimal(written.decode()) < Decimal(at)
    return json.decode(written, type=str)[_SECONDS] != "00"  # offsets are of whole minutes


_SAMPLES, _PAIRS = Decoder(list[Sample]), Decoder(list[Pair])
_ITEMS = Decoder(list[Raw])

Texts = Callable[[], Sequence[bytes | Raw]]  # of the items, cut apart only where something has to be looked at
_Place = tuple[str, int, bool]  # key, hour, whether without an id


def lone(body: bytes) -> tuple[bytes, bytes] | None:
    """Key and value of a body that is one sample of now and without an id, the quickest way; None: `read` is to say."""
    decoder = PAIR if body.startswith(b'["') else SAMPLE if body.startswith(b"{") else None
    if decoder is None:
        return None
    try:
        item: Item = decoder.decode(body)
        if item.timestamp is not None or item.id is not None:
            return None
        return key_bytes(item.key), pack("<d", item.value + 0.0)  # -0.0 becomes 0.0
    except (*UNREADABLE, ValueError):
        return None


def read(body: bytes, gathering: BodyParts) -> Steps:
    """Gather the samples of a JSON text.

    Raises:
        InvalidBodyError: not JSON, or neither object nor array.
        BodyTooLargeError: more samples than the limit.
    """
    check_encoding(body)
    check_size(body, gathering)
    array, first = opening(body)
    if array and first != b'"':
        return _group(_items(body, first, gathering), cache(lambda: _ITEMS.decode(body)), gathering)
    item = _single(body, PAIR if array else SAMPLE, gathering)
    return iter(()) if _is_kept_at_once(item, gathering) else _group([item], lambda: [body], gathering)


def read_lines(body: bytes, gathering: BodyParts) -> Steps:
    """Gather the samples of newline-delimited JSON; lines are counted from 0, blank ones left out.

    Raises:
        BodyTooLargeError: more lines than the limit.
    """
    check_encoding(body)
    check_size(body, gathering)
    body = body.rstrip(WHITESPACE)
    gathering.count_in(body.count(b"\n") + 1)
    lines = [line for line in body.split(b"\n") if line.strip(WHITESPACE)]
    return _group(_lines(lines, gathering), lambda: lines, gathering)


def _lines(lines: list[bytes], gathering: BodyParts) -> Iterable[Item | None]:
    decoder: Decoder[Sample] | Decoder[Pair] = PAIR if opening(lines[0])[0] else SAMPLE
    try:
        # not msgspec's decode_lines, which takes two texts in a line, and one in two lines
        return [decoder.decode(line) for line in lines]
    except UNREADABLE:
        return (read_item(index, line, gathering) for index, line in enumerate(lines))


def _items(body: bytes, first: bytes, gathering: BodyParts) -> Iterable[Item | None]:
    decoder: Decoder[list[Sample]] | Decoder[list[Pair]] = _PAIRS if first == b"[" else _SAMPLES
    try:
        items: Sequence[Item] = decoder.decode(body)
    except UNREADABLE:
        return _items_apart(body, gathering)
    gathering.count_in(len(items))
    return items


def _items_apart(body: bytes, gathering: BodyParts) -> Iterable[Item | None]:
    try:
        raws = _ITEMS.decode(body)
    except UNREADABLE as error:
        raise malformed(body, error) from None
    gathering.count_in(len(raws))
    return (read_item(index, memoryview(raw), gathering) for index, raw in enumerate(raws))


def _single(body: bytes, decoder: Decoder[Sample] | Decoder[Pair], gathering: BodyParts) -> Item | None:
    try:
        return decoder.decode(body)
    except UNREADABLE:
        pass
    try:
        MEMBERS.decode(body)
    except UNREADABLE as error:
        raise malformed(body, error) from None
    return read_item(0, body, gathering)


def _group(items: Iterable[Item | None], texts: Texts, gathering: BodyParts) -> Steps:
    missing = NOW if gathering.request_id else int(gathering.now_s // HOUR_S)
    groups: dict[_Place, tuple[list[float], list[str]]] = {}
    refused: dict[_Place, list[int]] = {}  # before which of the values kept there was one that is not, as yet
    for index, item in enumerate(items):
        if index % ITEMS_A_STEP == ITEMS_A_STEP - 1:
            yield
        if item is None:
            continue
        timestamp = None if item.timestamp is None else _seconds(index, item.timestamp, texts)
        hour = missing if timestamp is None else int(timestamp // HOUR_S)
        place = item.key, hour, item.id is None
        group = groups.get(place)
        if timestamp is not None and not gathering.oldest_s <= timestamp <= gathering.newest_s:
            gathering.reject(index, "timestamp", why_not_then(timestamp, gathering))
            if gathering.request_id:
                refused.setdefault(place, []).append(len(group[0]) if group else 0)
            continue
        if group is None:
            if fault := _key_fault(item.key, hour, gathering):
                gathering.reject(index, *fault)
                continue
            if not gathering.owner.has(item.key):
                gathering.reject(index, FORBIDDEN, forbidden(gathering.owner.prefixes))
                continue
            group = groups[place] = [], []
            gathering.check_rows(len(groups))
        group[0].append(item.value + 0.0)  # -0.0 becomes 0.0
        if item.id is not None:
            group[1].append(item.id)
    yield from _add_all(groups, refused, gathering)


def _is_kept_at_once(item: Item | None, gathering: BodyParts) -> bool:
    """Keeps the only sample of a body when it is of now and without an id, as most are; False: it needs a look."""
    if item is None or item.timestamp is not None or item.id is not None or not gathering.owner.has(item.key):
        return False
    hour = NOW if gathering.request_id else int(gathering.now_s // HOUR_S)
    if _key_fault(item.key, hour, gathering):
        return False
    gathering.add(Chunk(key_bytes(item.key), hour, pack("<d", item.value + 0.0)))  # -0.0 becomes 0.0
    return True


def _key_fault(key: str, hour: int, gathering: BodyParts) -> tuple[str, str] | None:
    try:
        return None if gathering.may_keep(key_bytes(key), hour) else ("keys", NO_MORE_ROWS)
    except ValueError as error:
        return "key", f"key {shown(key)!r}: {error}"


def _add_all(
    groups: dict[_Place, tuple[list[float], list[str]]], refused: dict[_Place, list[int]], gathering: BodyParts
) -> Steps:
    for number, (place, (values, ids)) in enumerate(groups.items(), 1):
        if number % ITEMS_A_STEP == 0:
            yield
        _add(place, values, ids, refused.get(place, []), gathering)


def _add(place: _Place, values: list[float], ids: list[str], refused: list[int], gathering: BodyParts) -> None:
    """Gather the values of a group, which those refused among them divide unless each has an id."""
    key, hour, _ = place
    encoded = key_bytes(key)
    if ids:
        names = b"".join([gathering.owner.sample_id(encoded, text) for text in ids])
        gathering.add(Chunk(encoded, hour, pack(f"<{len(values)}d", *values), ids=names))
        return
    for start, stop in pairwise([0, *refused, len(values)]):
        gathering.add(Chunk(encoded, hour, pack(f"<{stop - start}d", *values[start:stop])))
        gathering.pass_over(encoded, hour, 1)


def _seconds(index: int, timestamp: float | datetime, texts: Texts) -> float:
    at = timestamp.timestamp() if isinstance(timestamp, datetime) else timestamp
    return unrounded(at, texts()[index]) if at % HOUR_S == 0.0 else at
