"""Samples as JSON: an object, a pair, an array of either, or one of either a line.

A body is first decoded whole into typed structures, which is fast; only when that fails is it taken apart to find
the items at fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache
from itertools import pairwise
from struct import pack

from msgspec import Raw
from msgspec.json import Decoder

from metrics_app.wire.chunk import Chunk
from metrics_app.wire.gathering import HOUR_S, NOW, Gathering, sample_id, shown, why_not_then
from metrics_app.wire.json_sample import MEMBERS, PAIR, SAMPLE, Item, Pair, Sample, read_item
from metrics_app.wire.json_text import UNREADABLE, WHITESPACE, check_encoding, check_size, malformed, opening
from metrics_app.wire.keys import key_bytes
from metrics_app.wire.timestamp import unrounded

_SAMPLES, _PAIRS = Decoder(list[Sample]), Decoder(list[Pair])
_ITEMS = Decoder(list[Raw])

Texts = Callable[[], Sequence[bytes | Raw]]  # of the items, cut apart only where something has to be looked at
_Place = tuple[str, int, bool]  # key, hour, whether without an id


def read(body: bytes, gathering: Gathering) -> None:
    """Gather the samples of a JSON text.

    Raises:
        InvalidBodyError: not JSON, or neither object nor array.
        BodyTooLargeError: more samples than the limit.
    """
    check_encoding(body)
    check_size(body, gathering)
    array, first = opening(body)
    if array and first != b'"':
        _group(_items(body, first, gathering), cache(lambda: _ITEMS.decode(body)), gathering)
    else:
        _group([_single(body, PAIR if array else SAMPLE, gathering)], lambda: [body], gathering)


def read_lines(body: bytes, gathering: Gathering) -> None:
    """Gather the samples of newline-delimited JSON; lines are counted from 0, blank ones left out.

    Raises:
        BodyTooLargeError: more lines than the limit.
    """
    check_encoding(body)
    check_size(body, gathering)
    body = body.rstrip(WHITESPACE)
    gathering.count_in(body.count(b"\n") + 1)
    lines = [line for line in body.split(b"\n") if line.strip(WHITESPACE)]
    _group(_lines(lines, gathering), lambda: lines, gathering)


def _lines(lines: list[bytes], gathering: Gathering) -> Iterable[Item | None]:
    decoder: Decoder[Sample] | Decoder[Pair] = PAIR if opening(lines[0])[0] else SAMPLE
    try:
        # not msgspec's decode_lines, which takes two texts in a line, and one in two lines
        return [decoder.decode(line) for line in lines]
    except UNREADABLE:
        return (read_item(index, line, gathering) for index, line in enumerate(lines))


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
    return (read_item(index, memoryview(raw), gathering) for index, raw in enumerate(raws))


def _single(body: bytes, decoder: Decoder[Sample] | Decoder[Pair], gathering: Gathering) -> Item | None:
    try:
        return decoder.decode(body)
    except UNREADABLE:
        pass
    try:
        MEMBERS.decode(body)
    except UNREADABLE as error:
        raise malformed(body, error) from None
    return read_item(0, body, gathering)


def _group(items: Iterable[Item | None], texts: Texts, gathering: Gathering) -> None:
    missing = NOW if gathering.request_id else int(gathering.now_s // HOUR_S)
    groups: dict[_Place, tuple[list[float], list[str]]] = {}
    refused: dict[_Place, list[int]] = {}  # before which of the values kept there was one that is not, as yet
    for index, item in enumerate(items):
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
            try:
                key_bytes(item.key)
            except ValueError as error:
                gathering.reject(index, "key", f"key {shown(item.key)!r}: {error}")
                continue
            group = groups[place] = [], []
        group[0].append(item.value + 0.0)  # -0.0 becomes 0.0
        if item.id is not None:
            group[1].append(item.id)
    for place, (values, ids) in groups.items():
        _add(place, values, ids, refused.get(place, []), gathering)


def _add(place: _Place, values: list[float], ids: list[str], refused: list[int], gathering: Gathering) -> None:
    """Gather the values of a group, which those refused among them divide unless each has an id."""
    key, hour, _ = place
    encoded = key_bytes(key)
    if ids:
        names = b"".join([sample_id(encoded, text) for text in ids])
        gathering.add(Chunk(encoded, hour, pack(f"<{len(values)}d", *values), ids=names))
        return
    for start, stop in pairwise([0, *refused, len(values)]):
        gathering.add(Chunk(encoded, hour, pack(f"<{stop - start}d", *values[start:stop])))
        gathering.pass_over(encoded, hour, 1)


def _seconds(index: int, timestamp: float | datetime, texts: Texts) -> float:
    at = timestamp.timestamp() if isinstance(timestamp, datetime) else timestamp
    return unrounded(at, texts()[index]) if at % HOUR_S == 0.0 else at
