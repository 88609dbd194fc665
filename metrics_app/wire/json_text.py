"""What JSON texts have in common, whatever they mean: how they begin, how much is in them, why they cannot be read."""

from __future__ import annotations

import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE

import numpy as np
from msgspec import DecodeError

from metrics_app.errors import InvalidBodyError
from metrics_app.wire.gathering import Gathering, too_many

WHITESPACE = b" \t\r\n"  # JSON's; Python has more
UNREADABLE = (DecodeError, UnicodeDecodeError, RecursionError)
EXPECTED = "an object with key and value, a pair [key, value], or an array of them"

_MOST_COMMAS = 4  # a sample, with the one after it: it has at most four members
_OPENING = re.compile(rb"[ \t\r\n]*(\[)?[ \t\r\n]*(.)?", re.DOTALL)
_SLICE_BYTES = 1 << 17


def opening(body: bytes | memoryview) -> tuple[bool, bytes]:
    """Whether a JSON text starts with `[`, and its first other character; empty if there is none."""
    match = _OPENING.match(body)
    return (match[1] is not None, match[2] or b"") if match else (False, b"")


def check_encoding(body: bytes) -> None:
    """Refuse a text that is no plain UTF-8 from its first bytes on, whatever is in it.

    Raises:
        InvalidBodyError: a byte order mark, or UTF-16 or UTF-32 without one: a zero among the first bytes.
    """
    if body.startswith(BOM_UTF8):
        raise InvalidBodyError("the body starts with a byte order mark; expected UTF-8 without one")
    if body.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0" in body[:4]:
        raise InvalidBodyError("the body looks like UTF-16 or UTF-32; expected UTF-8")


def check_size(body: bytes, gathering: Gathering) -> None:
    """Refuse a small body of very many tiny items before they become objects, many times its size.

    Raises:
        BodyTooLargeError: more values than the limit, going by the punctuation of the JSON text.
    """
    limit = gathering.limits.max_items

    def fits(containers: int, commas: int) -> bool:
        # a sample is one, a series two of them; the body itself may be two
        return containers <= 2 * limit + 2 and commas <= _MOST_COMMAS * limit

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
    if b"NaN" in body or b"Infinity" in body:
        hint = "; JSON has no NaN and no Infinity, a value is a finite number"
    elif b"\\ud" in body.lower():
        hint = "; a \\ud... escape is one half of a character and needs the other next to it"
    return InvalidBodyError(f"expected {EXPECTED}: {error}{hint}")
