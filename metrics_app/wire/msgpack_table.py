"""Reads a sample table from MessagePack.

Called by `bodies`.

    {"keys": ["a", "b"], "index": [0, 1, 0], "values": <bytes>, "timestamps": <bytes>, "ids": ["x", nil, "y"]}

Columns of numbers are arrays, or their bytes, little-endian, which cost next to nothing to read: values and timestamps
float64, the index uint32, numbers uint64. Without an index there is a value a key. What is optional may be left out or
nil, as may a timestamp or an id in an array. A table that is malformed as such is refused as a whole.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
from msgspec import Raw, Struct, msgpack

from metrics_app.errors import UNREADABLE, InvalidBodyError
from metrics_app.wire.gathering import BodyParts, too_many
from metrics_app.wire.packed_columns import NIL, array_size, is_bytes, number_bytes
from metrics_app.wire.sample_table import Column, SampleTable, Times

EXPECTED = 'expected {"keys","values"} with optional index, timestamps, and ids or sender and numbers'
_NONE = Raw(NIL)


class TableBody(Struct, forbid_unknown_fields=True):
    """A whole body."""

    keys: Raw
    values: Raw
    index: Raw = _NONE
    timestamps: Raw = _NONE
    ids: Raw = _NONE
    sender: UUID | None = None
    numbers: Raw = _NONE


_BODY = msgpack.Decoder(TableBody)
_MEMBERS = msgpack.Decoder(dict[str, Raw])
_ARRAYS: dict[str, msgpack.Decoder[Any]] = {
    "keys": msgpack.Decoder(list[str]),
    "values": msgpack.Decoder(list[float]),
    "timestamps": msgpack.Decoder(list[float | None]),
    "index": msgpack.Decoder(list[int]),
    "numbers": msgpack.Decoder(list[int]),
    "ids": msgpack.Decoder(list[str | None]),
}
_KINDS = {"values": "<f8", "timestamps": "<f8", "index": "<u4", "numbers": "<u8"}


def is_table(body: bytes) -> bool:
    """Whether a MessagePack body is a map with keys in it, and so no series."""
    try:
        return "keys" in _MEMBERS.decode(body)
    except UNREADABLE:
        return False


def read(body: bytes, parts: BodyParts) -> SampleTable:
    """The table in a body.

    Raises:
        InvalidBodyError: not of that form.
        BodyTooLargeError: more values or keys than the limit.
    """
    try:
        sent = _BODY.decode(body)
        values = _numbers("values", sent.values, parts)
        parts.count_in(len(values))
        return SampleTable(
            keys=_array("keys", sent.keys, parts),
            values=values,
            places=None if _is_nil(sent.index) else _numbers("index", sent.index, parts),
            times=None if _is_nil(sent.timestamps) else _times(sent.timestamps, parts),
            ids=None if _is_nil(sent.ids) else _array("ids", sent.ids, parts),
            sender=parts.owner.sender(sent.sender.bytes if sent.sender else b""),
            numbers=None if _is_nil(sent.numbers) else _numbers("numbers", sent.numbers, parts),
        )
    except InvalidBodyError:
        raise
    except (*UNREADABLE, ValueError) as error:
        raise InvalidBodyError(f"{EXPECTED}: {error}") from None


def _is_nil(raw: Raw) -> bool:
    return bytes(memoryview(raw)[:1]) == NIL


def _array(name: str, raw: Raw, parts: BodyParts) -> list[Any]:
    if not is_bytes(raw) and array_size(raw) > parts.limits.max_items:  # one byte can be a member, an object takes many
        raise too_many(parts.limits.max_items)
    try:
        found: list[Any] = _ARRAYS[name].decode(raw)
    except UNREADABLE as error:
        raise ValueError(f"{name}: {error}") from None
    return found


def _numbers(name: str, raw: Raw, parts: BodyParts) -> Column:
    """A column, as float64 or int64."""
    kind = _KINDS[name]
    if is_bytes(raw):
        column: Column = np.frombuffer(number_bytes(name, raw, kind), kind)
        return column if kind == "<f8" else column.astype(np.int64)
    try:
        return np.array(_array(name, raw, parts), np.float64 if kind == "<f8" else np.int64)
    except OverflowError:
        raise ValueError(f"{name}: expected whole numbers below 2^63") from None


def _times(raw: Raw, parts: BodyParts) -> Times:
    if is_bytes(raw):
        seconds = _numbers("timestamps", raw, parts)
        return Times.of_seconds(seconds, np.ones(len(seconds), bool))
    sent = _array("timestamps", raw, parts)
    given = np.array([second is not None for second in sent], bool)
    return Times.of_seconds(np.array([second or 0.0 for second in sent], np.float64), given)
