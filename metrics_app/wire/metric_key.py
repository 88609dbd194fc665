"""Which texts are metric keys.

Called by `columnar_body`, `json_body`, `record`, `aggregator`, `client.intake` and others.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_KEY_BYTES = 256
EXPECTED = f"1 to {MAX_KEY_BYTES} bytes of UTF-8 without control characters"

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_ASCII_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


@lru_cache(maxsize=1 << 14)
def key_bytes(key: str) -> bytes:
    """The key as it is stored and hashed: its UTF-8 bytes, unnormalised.

    Raises:
        ValueError: the sentence says what was expected and what is wrong with this one.
    """
    try:
        encoded = key.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"expected {EXPECTED}; it has a lone surrogate at character {error.start}") from None
    if not 0 < len(encoded) <= MAX_KEY_BYTES:
        raise ValueError(f"expected {EXPECTED}; it has {len(encoded):,} bytes")
    if control := _CONTROL.search(key):
        raise ValueError(f"expected {EXPECTED}; it has U+{ord(control[0]):04X} at character {control.start()}")
    return encoded


def are_plain(keys: bytes) -> bool:
    """Whether keys, one after the other, are ASCII without control characters: then only their lengths can be wrong."""
    return keys.isascii() and not _ASCII_CONTROL.search(keys)


@lru_cache(maxsize=1 << 15)
def fault_of(key: bytes) -> str | None:
    """Says why bytes are not a valid key by the rules of `key_bytes`; None when they are."""
    try:
        key_bytes(key.decode())
    except UnicodeDecodeError as error:
        return f"expected {EXPECTED}; byte {error.start} is not UTF-8"
    except ValueError as error:
        return str(error)
    return None
