"""One Kafka record of the samples topic: many chunks, column by column.

    header    magic "MR", version, zero, CRC-32 of what follows; number of chunks, senders; bytes of keys, ids, values
    chunks    a row each: hour, values, sender (0: none), ids, first, key bytes
    senders   16 bytes each
    keys      one after the other
    ids       16 bytes each
    values    float64 each

Everything is little-endian; the last three columns are in the order of the chunks. Version 1 readers refuse others.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from metrics_app.errors import FormatError
from metrics_app.wire.chunk import ID_BYTES, SENDER_BYTES, VALUE_BYTES, VALUE_MAX, Chunk
from metrics_app.wire.keys import MAX_KEY_BYTES

MAGIC = b"MR"
VERSION = 1

_HEAD = struct.Struct("<2sBBI")
_COUNTS = struct.Struct("<IIIII")
_ROW = struct.Struct("<iIIIQH")

OVERHEAD_BYTES = _HEAD.size + _COUNTS.size
CHUNK_OVERHEAD_BYTES = _ROW.size + SENDER_BYTES


def size_of(chunk: Chunk) -> int:
    """Most bytes the chunk adds to a record (`OVERHEAD_BYTES` come on top, once)."""
    return CHUNK_OVERHEAD_BYTES + len(chunk.key) + len(chunk.ids) + len(chunk.values)


def encode(chunks: Sequence[Chunk]) -> bytes:
    """The chunks as one record, in their order; the same chunks always give the same bytes."""
    numbers = {b"": 0}
    rows = [
        _ROW.pack(
            hour,
            len(values) // VALUE_BYTES,
            numbers.setdefault(sender, len(numbers)),
            len(ids) // ID_BYTES,
            first,
            len(key),
        )
        for key, hour, values, sender, first, ids in chunks
    ]
    senders = b"".join(numbers)
    keys = b"".join([chunk.key for chunk in chunks])
    ids = b"".join([chunk.ids for chunk in chunks])
    values = b"".join([chunk.values for chunk in chunks])
    counts = _COUNTS.pack(len(rows), len(numbers) - 1, len(keys), len(ids), len(values))
    body = b"".join([counts, *rows, senders, keys, ids, values])
    return _HEAD.pack(MAGIC, VERSION, 0, zlib.crc32(body)) + body


def decode(record: bytes) -> list[Chunk]:
    """The chunks of a record; their values are slices of it, not copies.

    Raises:
        FormatError: it is not a record of this version, was changed or cut on the way, or holds what no chunk may hold.
    """
    _check_head(record)
    count, sender_count, *sizes = _COUNTS.unpack_from(record, _HEAD.size)
    view = memoryview(record)
    at = OVERHEAD_BYTES
    columns = []
    for size in (count * _ROW.size, sender_count * SENDER_BYTES, *sizes):
        columns.append(view[at : at + size])
        at += size
    if at != len(record):
        raise FormatError("record", f"{len(record):,} bytes where its header says {at:,}")
    table, sender_table, keys, ids, values = columns
    _check_values(values)
    senders = [b"", *(bytes(sender_table[i : i + SENDER_BYTES]) for i in range(0, len(sender_table), SENDER_BYTES))]
    return _chunks(table, senders, bytes(keys), bytes(ids), values)


def _check_head(record: bytes) -> None:
    if len(record) < OVERHEAD_BYTES:
        raise FormatError("record", f"{len(record)} bytes are fewer than a header")
    magic, version, zero, crc = _HEAD.unpack_from(record)
    if magic != MAGIC:
        raise FormatError("record", f"starts with {magic!r}, not {MAGIC!r}")
    if version != VERSION or zero:
        raise FormatError("record", f"version {version}.{zero}; this program reads version {VERSION}.0")
    if zlib.crc32(memoryview(record)[_HEAD.size :]) != crc:
        raise FormatError("record", "its checksum does not fit its bytes")


def _check_values(values: memoryview) -> None:
    if len(values) % VALUE_BYTES:
        raise FormatError("record", "the values are not whole")
    if values:
        numbers = np.frombuffer(values, "<f8")
        # written so that NaN fails it
        if not (numbers.min() >= 0 and numbers.max() <= VALUE_MAX):
            raise FormatError("record", f"a value is outside 0 to {VALUE_MAX:g}")


def _chunks(table: memoryview, senders: list[bytes], keys: bytes, ids: bytes, values: memoryview) -> list[Chunk]:
    chunks: list[Chunk] = []
    key_at = id_at = value_at = 0
    for hour, count, sender, id_count, first, key_size in _ROW.iter_unpack(table):
        if not 0 < key_size <= MAX_KEY_BYTES or sender >= len(senders) or id_count not in (0, 1, count):
            raise FormatError("record", f"chunk {len(chunks)} is malformed")
        key_end, id_end, value_end = key_at + key_size, id_at + id_count * ID_BYTES, value_at + count * VALUE_BYTES
        chunks.append(
            Chunk(keys[key_at:key_end], hour, values[value_at:value_end], senders[sender], first, ids[id_at:id_end])
        )
        key_at, id_at, value_at = key_end, id_end, value_end
    if (key_at, id_at, value_at) != (len(keys), len(ids), len(values)):
        raise FormatError("record", "its chunks do not add up to its columns")
    return chunks
