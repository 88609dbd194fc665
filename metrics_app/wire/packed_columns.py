"""Columns of a MessagePack body: little-endian numbers as bytes, or an array, counted before it becomes objects.

Called by `columnar_body` and `msgpack_table`.
"""

from __future__ import annotations

import numpy as np
from msgspec import Raw, msgpack

NIL = b"\xc0"
_BIN = (0xC4, 0xC5, 0xC6)  # MessagePack's first byte of bytes with 8, 16, 32 bit length
_ARRAY_SIZES = {0xDC: 2, 0xDD: 4}  # bytes of length after the first byte of its longer arrays
_BYTES = msgpack.Decoder(bytes)


def array_size(raw: Raw) -> int:
    """Number of members of a MessagePack array, from its head; undefined for anything else."""
    packed = memoryview(raw)
    size = _ARRAY_SIZES.get(packed[0], 0)
    return int.from_bytes(packed[1 : 1 + size], "big") if size else packed[0] & 0x0F


def is_bytes(raw: Raw) -> bool:
    """Whether a column comes as bytes."""
    return memoryview(raw)[0] in _BIN


def number_bytes(name: str, raw: Raw, kind: str) -> bytes:
    """The bytes of a column that comes as such.

    Args:
        kind: of each number, as numpy names it: `<f8`, `<u4`.

    Raises:
        ValueError: the last number is cut.
    """
    block, each = _BYTES.decode(raw), np.dtype(kind)
    if len(block) % each.itemsize:
        whole = f"{each.name} bytes, got {len(block)} bytes, no multiple of {each.itemsize}"
        raise ValueError(f"{name}: expected {whole}")
    return block
