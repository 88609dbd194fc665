"""Encodes and checks a record of the samples topic: many chunks, column by column.

Called by `aggregator` and `collector`.

    header    magic "MR", version, zero, CRC-32 of what follows; number of chunks, senders; bytes of keys, ids, values
    chunks    a row each: hour, values, sender (0: none), ids, first, key bytes
    senders   16 bytes each
    keys      one after the other
    ids       16 bytes each
    values    float64 each

Version 2, written only when a chunk has a histogram, has two columns more: after the chunks a size for each, 0 for one
with values, and at the end the histograms, one after the other; the number of values in a row is then that of those it
stands for. Version 3, written only when `first` is the place of a chunk among the values of its id, is the same: a
reader that takes such an id for that of one chunk alone would leave the others out. Everything is little-endian; the
columns are in the order of the chunks. A reader refuses a version that it does not know, so aggregators are upgraded
before collectors, and these before senders of histograms.

Anybody who may write to the topic can write a record, so a reader takes nothing for granted: what decoding lets through
keeps the rules of a request body (`chunk.py`, `keys.py`), can be folded, and leads to rows that can be written.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np

from metrics_app.errors import FormatError
from metrics_app.stats import codec
from metrics_app.stats.summary import EXACT_DISTINCT
from metrics_app.wire.chunk import FIRST_MAX, HOUR_MAX, ID_BYTES, SENDER_BYTES, VALUE_BYTES, VALUE_MAX, Chunk, chunk_of
from metrics_app.wire.metric_key import MAX_KEY_BYTES, are_plain, fault_of
from metrics_app.wire.partition import partitions_of

MAGIC = b"MR"
VERSION = 1
WITH_HISTOGRAMS = 2
WITH_PLACES = 3

_HEAD = struct.Struct("<2sBBI")
_COUNTS = struct.Struct("<IIIII")
_ROW = struct.Struct("<iIIIQH")
_ROW_COLUMNS = np.dtype(  # the same, packed as it is
    [("hour", "<i4"), ("count", "<u4"), ("sender", "<u4"), ("ids", "<u4"), ("first", "<u8"), ("key", "<u2")]
)
_SIZE = struct.Struct("<I")

OVERHEAD_BYTES = _HEAD.size + _COUNTS.size
CHUNK_OVERHEAD_BYTES = _ROW.size + _SIZE.size + SENDER_BYTES
HISTOGRAM_COST = 8  # decoded twice, and merged
IDS_A_ROW = 4  # so many ids cost as much as a row
MAX_BYTES = 1 << 20  # no collector can be set to write a larger one
MAX_CHUNKS = MAX_BYTES // (CHUNK_OVERHEAD_BYTES + 1)  # as many as it may gather into one of that size


class RecordSource(NamedTuple):
    """Where and when a record was read: what is in it must belong there.

    Attributes:
        partition, partitions: of the topic; a key is in the partition that its hash leads to.
        newest_hour: the last hour that a sample may be of.
    """

    partition: int
    partitions: int
    newest_hour: int = HOUR_MAX

    def check(self, chunks: Sequence[Chunk]) -> None:
        """Refuses chunks that do not belong there.

        Raises:
            FormatError: naming the first one.
        """
        homes = partitions_of([chunk.key for chunk in chunks], self.partitions)
        if homes.count(self.partition) == len(chunks) and max([c.hour for c in chunks], default=0) <= self.newest_hour:
            return
        for number, (chunk, home) in enumerate(zip(chunks, homes, strict=True)):
            if home != self.partition:
                fault = f"key {chunk.key!r} is not of partition {self.partition} of {self.partitions}"
                raise FormatError("record", f"chunk {number}: {fault}")
            if chunk.hour > self.newest_hour:
                fault = f"hour {chunk.hour} is far ahead, expected at most {self.newest_hour}"
                raise FormatError("record", f"chunk {number}: {fault}")


def costs_of(chunks: Iterable[Chunk]) -> list[int]:
    """What folding each chunk costs, in rows of one value (about 30 us). Its bytes do not say so."""
    ids_a_row = ID_BYTES * IDS_A_ROW
    return [HISTOGRAM_COST if histogram else 1 + len(ids) // ids_a_row for _, _, _, _, _, ids, histogram, _ in chunks]


def sizes_of(chunks: Iterable[Chunk]) -> list[int]:
    """Most bytes that each chunk adds to a record (`OVERHEAD_BYTES` come on top, once)."""
    return [
        CHUNK_OVERHEAD_BYTES + len(key) + len(ids) + len(values) + len(histogram)
        for key, _, values, _, _, ids, histogram, _ in chunks
    ]


def encode(chunks: Sequence[Chunk]) -> bytes:
    """The chunks as one record, in their order; the same chunks always give the same bytes."""
    # column by column: what Python does once a chunk is most of what a record of many chunks costs
    keys, hours, values, senders, firsts, ids, histograms, weights = zip(*chunks, strict=True) if chunks else [()] * 8
    numbers = {sender: number for number, sender in enumerate(dict.fromkeys((b"", *senders)))}
    counts = [weight or len(block) // VALUE_BYTES for block, weight in zip(values, weights, strict=True)]
    of_ids = [len(each) // ID_BYTES for each in ids]
    rows = map(_ROW.pack, hours, counts, map(numbers.__getitem__, senders), of_ids, firsts, map(len, keys))
    version = _version_of(senders, firsts, histograms)
    sizes = [_SIZE.pack(len(histogram)) for histogram in histograms] if version != VERSION else []
    columns = [b"".join(column) for column in (keys, ids, values)]
    head = _COUNTS.pack(len(chunks), len(numbers) - 1, *map(len, columns))
    body = b"".join([head, *rows, *sizes, *numbers, *columns, *histograms])
    return _HEAD.pack(MAGIC, version, 0, zlib.crc32(body)) + body


def _version_of(senders: Sequence[bytes], firsts: Sequence[int], histograms: Sequence[bytes]) -> int:
    """The lowest version that can hold chunks of these columns."""
    if any(firsts) and any(first and not sender for first, sender in zip(firsts, senders, strict=True)):
        return WITH_PLACES
    return WITH_HISTOGRAMS if any(histograms) else VERSION


def decode(record: bytes, place: RecordSource | None = None) -> list[Chunk]:
    """The chunks of a record; their values are slices of it, not copies.

    Args:
        place: what its keys and hours must fit; without one that is not looked at.

    Raises:
        FormatError: it is not a record of this version, was changed or cut on the way, or holds what no chunk may hold.
    """
    if len(record) > MAX_BYTES:
        raise FormatError("record", f"{len(record):,} bytes, expected at most {MAX_BYTES:,}")
    version = _check_head(record)
    count, sender_count, *sizes = _COUNTS.unpack_from(record, _HEAD.size)
    if count > MAX_CHUNKS or sender_count > count:
        raise FormatError("record", f"{count:,} chunks of {sender_count:,} senders, expected at most {MAX_CHUNKS:,}")
    sized = count * _SIZE.size if version != VERSION else 0
    columns = _columns(record, [count * _ROW.size, sized, sender_count * SENDER_BYTES, *sizes])
    table, size_table, sender_table, keys, ids, values, histograms = columns
    if len(histograms) and not sized:
        raise FormatError("record", f"{len(histograms):,} bytes more than its header says")
    _check_values(values)
    senders = [b"", *(bytes(sender_table[i : i + SENDER_BYTES]) for i in range(0, len(sender_table), SENDER_BYTES))]
    histogram_sizes = [size for (size,) in _SIZE.iter_unpack(size_table)] or repeat(0)
    chunks = _chunks(table, histogram_sizes, senders, bytes(keys), bytes(ids), values, bytes(histograms))
    plain = are_plain(bytes(keys))
    for number, chunk in enumerate(chunks if not plain or histograms or _may_be_faulty(table) else ()):
        if (fault := _fault(chunk, version, plain)) is not None:
            raise FormatError("record", f"chunk {number}: {fault}")
    if place is not None:
        place.check(chunks)
    return chunks


def _may_be_faulty(table: memoryview) -> bool:
    """Whether an hour, or a number without a sender, may be a wrong one: a look at all chunks together."""
    rows = np.frombuffer(table, _ROW_COLUMNS)
    hours, firsts = rows["hour"], rows["first"]
    wrong = (hours < 0) | (hours > HOUR_MAX) | (firsts > np.where(rows["sender"] > 0, FIRST_MAX, 0))
    return bool(wrong.any())


def _columns(record: bytes, sizes: Sequence[int]) -> list[memoryview]:
    """Slices of these sizes, and what is left behind them."""
    view = memoryview(record)
    at = OVERHEAD_BYTES
    columns = []
    for size in sizes:
        columns.append(view[at : at + size])
        at += size
    if at > len(record):
        raise FormatError("record", f"{len(record):,} bytes where its header says {at:,}")
    return [*columns, view[at:]]


def _check_head(record: bytes) -> int:
    """Checks that the record is whole, and returns its version."""
    if len(record) < OVERHEAD_BYTES:
        raise FormatError("record", f"{len(record)} bytes are fewer than a header")
    magic, version, zero, crc = _HEAD.unpack_from(record)
    if magic != MAGIC:
        raise FormatError("record", f"starts with {magic!r}, not {MAGIC!r}")
    if not VERSION <= version <= WITH_PLACES or zero:
        raise FormatError("record", f"version {version}.{zero}; this program reads up to {WITH_PLACES}.0")
    if zlib.crc32(memoryview(record)[_HEAD.size :]) != crc:
        raise FormatError("record", "its checksum does not fit its bytes")
    return int(version)


def _check_values(values: memoryview) -> None:
    if len(values) % VALUE_BYTES:
        raise FormatError("record", "the values are not whole")
    if values:
        numbers = np.frombuffer(values, "<f8")
        # written so that NaN fails it
        if not (numbers.min() >= 0 and numbers.max() <= VALUE_MAX):
            raise FormatError("record", f"a value is outside 0 to {VALUE_MAX:g}")


def _chunks(
    table: memoryview,
    histogram_sizes: Iterable[int],
    senders: list[bytes],
    keys: bytes,
    ids: bytes,
    values: memoryview,
    histograms: bytes,
) -> list[Chunk]:
    chunks: list[Chunk] = []
    key_at = id_at = value_at = histogram_at = 0
    for row, size in zip(_ROW.iter_unpack(table), histogram_sizes, strict=False):
        hour, count, sender, id_count, first, key_size = row
        is_empty = not count and (id_count or not (sender and first))  # that of a sender says how far its numbers reach
        if is_empty or not 0 < key_size <= MAX_KEY_BYTES or sender >= len(senders) or id_count not in (0, 1, count):
            raise FormatError("record", f"chunk {len(chunks)} is malformed")
        key_end, id_end = key_at + key_size, id_at + id_count * ID_BYTES
        value_end = value_at if size else value_at + count * VALUE_BYTES
        histogram_end = histogram_at + size
        key, block, names = keys[key_at:key_end], values[value_at:value_end], ids[id_at:id_end]
        histogram = histograms[histogram_at:histogram_end]
        chunks.append(chunk_of((key, hour, block, senders[sender], first, names, histogram, count if size else 0)))
        key_at, id_at, value_at, histogram_at = key_end, id_end, value_end, histogram_end
    if (key_at, id_at, value_at, histogram_at) != (len(keys), len(ids), len(values), len(histograms)):
        raise FormatError("record", "its chunks do not add up to its columns")
    return chunks


def _fault(chunk: Chunk, version: int, plain: bool) -> str | None:
    """Says what in a chunk no request body could have contained; None when all is valid.

    Args:
        plain: whether all keys were found valid together (`are_plain`); their lengths are checked before.
    """
    if not plain and (fault := fault_of(chunk.key)):
        return f"key {chunk.key!r}: {fault}"
    if not 0 <= chunk.hour <= HOUR_MAX:
        return f"hour {chunk.hour}, expected 0 to {HOUR_MAX}"
    may_be_numbered = chunk.sender or (len(chunk.ids) == ID_BYTES and version >= WITH_PLACES)
    if chunk.first > (FIRST_MAX if may_be_numbered else 0):
        return f"first {chunk.first}, expected at most {FIRST_MAX}, and 0 without a sender or an id"
    return _histogram_fault(chunk) if chunk.histogram else None


def _histogram_fault(chunk: Chunk) -> str | None:
    summary = codec.decode(chunk.histogram, exact_distinct=EXACT_DISTINCT)
    if summary.histogram is None:
        return "a summary that is no histogram"
    if summary.count != chunk.weight or len(chunk.ids) > ID_BYTES:
        return f"a histogram of {summary.count:,} values stands for {chunk.weight:,}"
    return None
