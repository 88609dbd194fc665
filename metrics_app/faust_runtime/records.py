"""Bounds what a compressed batch of Kafka may take in memory when it is inflated.

Called by `kafka.connections`.

A broker takes a batch by its compressed size, and a reader has to inflate it as a whole: 400 KB can be 400 MB. aiokafka
has no bound for it, so its decoders are replaced here. A batch beyond the bound is read as records without content, one
an offset, which readers put aside like other records that they cannot read.
"""

from __future__ import annotations

import logging
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cramjam
import numpy as np
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch

logger = logging.getLogger(__name__)

MAX_BYTES = 8 << 20  # our own batches have a tenth of it
MAX_STOOD_FOR = 10_000  # offsets of one batch; nobody puts that many aside before a person has looked
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEAD_BYTES = 16


class InflatedError(Exception):
    """A batch that would be larger than it may be."""


def gzip_decode(payload: Any) -> bytes:
    """The content of gzip, of one member or several."""
    parts: list[bytes] = []
    rest, room = bytes(payload), MAX_BYTES
    while rest:
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        parts.append(member.decompress(rest, room + 1))
        room -= len(parts[-1])
        if room < 0:
            raise InflatedError
        rest = member.unused_data
    return b"".join(parts)


def snappy_decode(payload: Any) -> bytes:
    """The content of raw snappy, or of blocks of it as Java writes them."""
    payload = bytes(payload)
    if not payload.startswith(_XERIAL):
        return _snappy_block(payload, MAX_BYTES)
    parts: list[bytes] = []
    at, room = _XERIAL_HEAD_BYTES, MAX_BYTES
    while at < len(payload):
        (size,) = struct.unpack_from("!i", payload, at)
        parts.append(_snappy_block(payload[at + 4 : at + 4 + size], room))
        room -= len(parts[-1])
        at += 4 + size
    return b"".join(parts)


def lz4_decode(payload: Any) -> bytes:
    """The content of an lz4 frame."""
    return _into(cramjam.lz4.decompress_into, payload)


def zstd_decode(payload: Any) -> bytes:
    """The content of a zstd frame."""
    return _into(cramjam.zstd.decompress_into, payload)


def _snappy_block(block: bytes, room: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(block) > room:  # the block says so itself, and decompression checks it
        raise InflatedError
    return bytes(cramjam.snappy.decompress_raw(block))


def _into(decompress: Callable[[Any, Any], int], payload: Any) -> bytes:
    content = np.empty(MAX_BYTES, np.uint8)  # pages that are not written to take no memory
    try:
        return content[: decompress(payload, content)].tobytes()
    except cramjam.DecompressionError as error:
        if "whole buffer" in str(error):
            raise InflatedError from error
        raise


class _Nothing(NamedTuple):
    """A record whose content is not known."""

    offset: int
    timestamp: int
    timestamp_type: int | None
    key: None = None
    value: None = None
    checksum: None = None
    headers: tuple[()] = ()


class _Batch:
    """A batch of aiokafka's that is inflated within the bound, when its records are asked for."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(self._batch)
        except InflatedError:
            return self._nothing()

    def _nothing(self) -> Iterator[_Nothing]:
        first, stop = self._batch.base_offset, self._batch.next_offset
        logger.error(
            "the batch of offsets %s to %s inflates to over %s bytes and is not read", first, stop - 1, MAX_BYTES
        )
        for offset in range(first, min(stop, first + MAX_STOOD_FOR)):
            yield _Nothing(offset, self._batch.max_timestamp, self._batch.timestamp_type)


class BoundedRecords(fetcher.MemoryRecords):  # type: ignore[misc]  # it ships no type information
    """The batches of a fetch."""

    def next_batch(self) -> Any:
        """The next one; None behind the last."""
        batch = super().next_batch()
        return None if batch is None else _Batch(batch)


def bound() -> None:
    """Has every consumer of this process keep to the bound."""
    fetcher.MemoryRecords = BoundedRecords
    for batch in (DefaultRecordBatch, LegacyRecordBatch):  # written in C or in Python
        module = sys.modules[batch.__module__]
        for decode in (gzip_decode, snappy_decode, lz4_decode, zstd_decode):
            if hasattr(module, decode.__name__):
                setattr(module, decode.__name__, decode)
