"""Reads a sample table from an Arrow IPC stream, with pyarrow, which is loaded when the first one comes.

Called by `bodies`.

Its columns are named as the members of a sample in JSON: `key` (texts, or a dictionary of them) and `value` (numbers);
optional are `timestamp` (with a time zone, or epoch seconds), `id` (texts), and `number` (whole numbers), with the
sender's UUID as `sender` in the metadata of the schema. What is null is left out, of timestamps and ids.

No more memory is taken than the body has, times a constant: compressed buffers, which may be anything, are refused, and
so are types of which a small one can stand for much.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any
from uuid import UUID

import numpy as np

from metrics_app.errors import InvalidBodyError, UnsupportedTypeError
from metrics_app.wire.gathering import HOUR_S, BodyParts, shown, too_many
from metrics_app.wire.sample_table import Column, SampleTable, Times

EXPECTED = "expected an Arrow IPC stream with columns key, value and, if need be, timestamp, id or number"
COLUMNS = ("key", "value", "timestamp", "id", "number")
END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream
_PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_HEADER, _COMPRESSION = 2, 3  # fields of the tables Message and RecordBatch; 1 of DictionaryBatch is a RecordBatch
_DICTIONARY_DATA = 1


def read(body: bytes, parts: BodyParts) -> SampleTable:
    """The table in a body.

    Raises:
        UnsupportedTypeError: pyarrow is not installed.
        InvalidBodyError: not of that form.
        BodyTooLargeError: more values or keys than the limit.
    """
    arrow = library()
    try:
        _check_messages(body, arrow)
        return _table(_batches(body, parts, arrow), parts, arrow)
    except InvalidBodyError:
        raise
    except (arrow.ArrowException, OSError, ValueError, struct.error) as error:
        raise InvalidBodyError(f"{EXPECTED}: {error}") from None


@cache
def library() -> Any:
    """The module `pyarrow`.

    Raises:
        UnsupportedTypeError: it is not installed.
    """
    try:
        import pyarrow.ipc  # most services never need it, and it takes a fifth of a second
    except ModuleNotFoundError:
        raise UnsupportedTypeError("Arrow is not taken here: the service lacks pyarrow (metrics-app[arrow])") from None
    return pyarrow


def _check_messages(body: bytes, arrow: Any) -> None:
    if not body.endswith(END):
        raise ValueError("the stream is cut short")
    source = arrow.BufferReader(body)
    for message in arrow.ipc.MessageReader.open_stream(source):
        if message.type not in ("schema", "record batch", "dictionary"):
            raise ValueError(f"a message is a {message.type}")
        if message.type != "schema" and _is_compressed(bytes(message.metadata), message.type == "dictionary"):
            raise ValueError("buffers are compressed; send them as they are, with Content-Encoding: gzip if need be")
    if source.tell() != len(body):
        raise ValueError("something follows the stream")


def _is_compressed(metadata: bytes, is_dictionary: bool) -> bool:
    batch = _field(metadata, struct.unpack_from("<I", metadata)[0], _HEADER)
    if is_dictionary:
        batch = _field(metadata, batch, _DICTIONARY_DATA)
    return _field(metadata, batch, _COMPRESSION) != 0


def _field(metadata: bytes, table: int, number: int) -> int:
    """Where a table that is a field of a flatbuffers table is; 0 if it is not there."""
    at = table - struct.unpack_from("<i", metadata, table)[0]
    size, entry = struct.unpack_from("<H", metadata, at)[0], 4 + 2 * number
    offset = struct.unpack_from("<H", metadata, at + entry)[0] if entry < size else 0
    return table + offset + int(struct.unpack_from("<I", metadata, table + offset)[0]) if offset else 0


def _batches(body: bytes, parts: BodyParts, arrow: Any) -> Any:
    """The stream as one Arrow table, valid through and through, whose columns are known."""
    with arrow.ipc.open_stream(body, options=arrow.ipc.IpcReadOptions(use_threads=False)) as stream:
        names = stream.schema.names
        for name in names:
            if name not in COLUMNS or names.count(name) > 1:
                raise ValueError(f"column {shown(name)!r}: expected each of {', '.join(COLUMNS)} at most once")
        if missing := {"key", "value"}.difference(names):
            raise ValueError(f"column {min(missing)!r} is missing")
        batches = []
        for batch in stream:
            parts.count_in(batch.num_rows)
            batch.validate(full=True)
            batches.append(batch)
        return arrow.Table.from_batches(batches, stream.schema)


def _table(table: Any, parts: BodyParts, arrow: Any) -> SampleTable:
    keys, places = _keys(table, parts, arrow)
    sent = (table.schema.metadata or {}).get(b"sender")
    return SampleTable(
        keys=keys,
        values=_numbers(table, "value", np.nan, arrow),
        places=places,
        times=_times(table, arrow) if "timestamp" in table.column_names else None,
        ids=_texts(table, "id", arrow) if "id" in table.column_names else None,
        sender=parts.owner.sender(_sender(sent)),
        numbers=_whole(table, arrow) if "number" in table.column_names else None,
    )


def _sender(sent: bytes | None) -> bytes:
    try:
        return UUID(sent.decode()).bytes if sent is not None else b""
    except ValueError:
        raise ValueError("sender: expected a UUID in the metadata of the schema") from None


def _keys(table: Any, parts: BodyParts, arrow: Any) -> tuple[list[str], Column]:
    """Each key once, and which of them each row has."""
    column, types = table.column("key"), arrow.types
    if types.is_dictionary(column.type):
        _expect_text("key", column.type.value_type, column.type, arrow)
        column = table.select(["key"]).unify_dictionaries().column("key").combine_chunks()
    else:
        _expect_text("key", column.type, column.type, arrow)
        column = column.combine_chunks().dictionary_encode()
    if isinstance(column, arrow.ChunkedArray):  # one without a chunk stays one
        return [], np.empty(0, np.int64)
    if column.null_count or column.dictionary.null_count:
        raise ValueError("key: expected no nulls")
    if len(column.dictionary) > parts.limits.max_items:
        raise too_many(parts.limits.max_items)
    return column.dictionary.to_pylist(), column.indices.to_numpy().astype(np.int64)


def _expect_text(name: str, kind: Any, given: Any, arrow: Any) -> None:
    if not (arrow.types.is_string(kind) or arrow.types.is_large_string(kind)):
        raise ValueError(f"{name}: expected string or large_string, got {given}")


def _texts(table: Any, name: str, arrow: Any) -> list[str | None]:
    column = table.column(name)
    _expect_text(name, column.type, column.type, arrow)
    texts: list[str | None] = column.to_pylist()
    return texts


def _numbers(table: Any, name: str, missing: float, arrow: Any) -> Column:
    """A column of numbers as float64, with another one for each null."""
    column = table.column(name)
    if not (arrow.types.is_floating(column.type) or arrow.types.is_integer(column.type)):
        raise ValueError(f"{name}: expected numbers, got {column.type}")
    numbers: Column = column.cast(arrow.float64(), safe=False).fill_null(missing).to_numpy()
    return numbers


def _whole(table: Any, arrow: Any) -> Column:
    column = table.column("number")
    if not arrow.types.is_integer(column.type) or column.null_count:
        raise ValueError(f"number: expected whole numbers without nulls, got {column.type}")
    numbers: Column = column.cast(arrow.int64(), safe=False).to_numpy()
    return numbers


def _times(table: Any, arrow: Any) -> Times:
    column = table.column("timestamp")
    given = column.is_valid().to_numpy()
    if not arrow.types.is_timestamp(column.type):
        return Times.of_seconds(_numbers(table, "timestamp", 0.0, arrow), given)
    if column.type.tz is None:
        raise ValueError("timestamp: expected one with a time zone, or numbers: epoch seconds")
    per_s = _PER_S[column.type.unit]
    ticks = column.cast(arrow.int64()).fill_null(0).to_numpy()
    return Times(ticks / per_s, ticks // (HOUR_S * per_s), given)
