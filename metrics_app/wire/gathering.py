"""Collects what one request body holds: chunks to keep, and items that are rejected with a reason.

Called by `bodies`, `columnar_body` and `json_body`.

What JSON texts have in common, whatever they mean: how they begin, how much is in them, why they cannot be read.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from struct import pack
from typing import NamedTuple

import numpy as np

from metrics_app.errors import BodyTooLargeError, InvalidBodyError
from metrics_app.wire.chunk import ID_BYTES, VALUE_BYTES, Chunk
from metrics_app.wire.ownership import NO_OWNER, Owner

HOUR_S = 3600
LISTED = 100  # rejections described in a reply; the rest are only counted
IDS_A_CHUNK = 1_500  # a chunk with an id a value is not divided again, and costs by its ids
NOW = -1  # hour of a sample that carries no timestamp

_SHOWN = 60  # characters of a refused text that are repeated in the reply
_MS_OR_FINER = 1e11  # epoch seconds of the year 5138; today's milliseconds are beyond it


Steps = Iterator[None]  # of reading a body: between two of them others may have the event loop
ITEMS_A_STEP = 32


class BodyLimits(NamedTuple):
    """Bounds on one body: samples, seconds into the future and the past, values a chunk, and rows."""

    max_items: int
    max_ahead_s: float
    retention_s: float
    chunk_values: int
    max_rows: int = 20_000


@dataclass(frozen=True, slots=True)
class Rejection:
    """An item that is not kept: its place in the body, a word for machines and a sentence for people."""

    index: int
    reason: str
    detail: str


class Parsed(NamedTuple):
    """A body read to its end.

    Attributes:
        chunks: what is to be kept.
        accepted: values in the chunks.
        rejected: the first `LISTED` items that are not.
        reasons: values not kept, all of them, by reason.
    """

    chunks: list[Chunk]
    accepted: int
    rejected: list[Rejection]
    reasons: Counter[str]

    @property
    def received(self) -> int:
        """Values in the body."""
        return self.accepted + self.reasons.total()


NO_MORE_ROWS = "key: too many keys that are new in this hour; those that were sent before are taken"


def _every_row(_rows: Sequence[tuple[bytes, int]]) -> list[int]:
    return []


@dataclass
class BodyParts:
    """The chunks and rejections of one body while it is read.

    Attributes:
        admits: which of some rows, each a key and an hour, counted from 0, no values are taken of.
    """

    now_s: float
    limits: BodyLimits
    request_id: bytes = b""
    admits: Callable[[Sequence[tuple[bytes, int]]], list[int]] = _every_row
    owner: Owner = NO_OWNER
    parsed: Parsed = field(init=False)
    _counted: int = 0
    _passed: defaultdict[tuple[bytes, int], int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        self.oldest_s = self.now_s - self.limits.retention_s
        self.newest_s = self.now_s + self.limits.max_ahead_s
        self.parsed = Parsed([], 0, [], Counter())

    def reject(self, index: int, reason: str, detail: str, values: int = 1) -> None:
        """Count the values as not kept, and describe them if there is room in the reply."""
        self.parsed.reasons[reason] += values
        if len(self.parsed.rejected) < LISTED:
            self.parsed.rejected.append(Rejection(index, reason, detail))

    def count_in(self, values: int) -> None:
        """Count values of the body before they are looked at.

        Raises:
            BodyTooLargeError: with these the body has more than the limit.
        """
        self._counted += values
        if self._counted > self.limits.max_items:
            raise too_many(self.limits.max_items)

    def add(self, chunk: Chunk) -> None:
        """Keep the values of a chunk, in pieces of at most `chunk_values`, each with what identifies it."""
        self.check_rows(len(self.parsed.chunks) + 1)
        if self.request_id and not chunk.ids and not chunk.sender:
            chunk = self._named(chunk)
        hour = int(self.now_s // HOUR_S) if chunk.hour == NOW else chunk.hour
        if chunk.hour != hour:
            chunk = chunk._replace(hour=hour)
        if chunk.histogram:
            self.parsed.chunks.append(chunk)
            return
        if not chunk.values and chunk.sender and chunk.first:  # how far its numbers reach
            self.parsed.chunks.append(chunk)
            return
        per_value = len(chunk.ids) > ID_BYTES
        most = min(self.limits.chunk_values, IDS_A_CHUNK) if per_value else self.limits.chunk_values
        if 0 < chunk.count <= most:
            self.parsed.chunks.append(chunk)
            return
        for at in range(0, chunk.count, most):
            end = min(at + most, chunk.count)
            values = chunk.values[at * VALUE_BYTES : end * VALUE_BYTES]
            ids = chunk.ids[at * ID_BYTES : end * ID_BYTES] if per_value else chunk.ids
            first = chunk.first + at if chunk.sender or chunk.first else 0
            self.parsed.chunks.append(Chunk(chunk.key, hour, values, chunk.sender, first, ids))

    def add_all(self, chunks: Sequence[Chunk], longest: int) -> None:
        """Keep values of many chunks that know their hour, as `add` does; the longest has so many of them."""
        if self.request_id or longest > min(self.limits.chunk_values, IDS_A_CHUNK):
            for chunk in chunks:
                self.add(chunk)
            return
        self.check_rows(len(self.parsed.chunks) + len(chunks))
        self.parsed.chunks.extend(chunks)

    def may_keep(self, key: bytes, hour: int) -> bool:
        """Whether values of a key in an hour (or NOW) are taken."""
        return not self.not_admitted([key], [hour])

    def not_admitted(self, keys: Iterable[bytes], hours: Iterable[int]) -> list[int]:
        """Which of many keys, each in its hour (or NOW), `may_keep` refuses; counted from 0."""
        if self.request_id:
            hours = [int(self.now_s // HOUR_S) if hour == NOW else hour for hour in hours]
        return self.admits(list(zip(keys, hours, strict=True)))

    def check_rows(self, rows: int) -> None:
        """Refuse a body of more keys and hours than the limit.

        Raises:
            BodyTooLargeError: it is one.
        """
        if rows > self.limits.max_rows:
            raise BodyTooLargeError("the number of rows", self.limits.max_rows, "rows, each a key in an hour")

    def pass_over(self, key: bytes, hour: int, values: int) -> None:
        """Leave values of a key and hour (or NOW) out, without giving their places to those behind them.

        What is refused now may be taken when the request is repeated: clocks go on, and settings change.
        """
        if self.request_id:
            self._passed[key, hour] += values

    def _named(self, chunk: Chunk) -> Chunk:
        """The chunk with its id, which is that of all values of the request for its key and hour, and its place."""
        # NOW, not the hour it stands for, goes into the id: a retry after the turn of the hour must give the same id;
        # the 0 was the number of a piece, and keeps the ids what they were
        id_ = _hash(b"request", self.request_id, chunk.key, pack("<iI", chunk.hour, 0))
        first = 1 + self._passed[chunk.key, chunk.hour]
        self._passed[chunk.key, chunk.hour] += chunk.count
        return chunk._replace(ids=id_, first=first)

    def done(self) -> Parsed:
        """Everything gathered."""
        chunks = self.parsed.chunks  # taken apart, as there may be many
        counts = [weight or len(values) // VALUE_BYTES for _, _, values, _, _, _, _, weight in chunks]
        return self.parsed._replace(accepted=sum(counts))


def too_many(limit: int) -> BodyTooLargeError:
    """The error for a body of more than `limit` samples."""
    return BodyTooLargeError("the number of samples", limit, "samples")


def why_not_then(timestamp: float, gathering: BodyParts) -> str:
    """Why a timestamp outside the bounds is refused."""
    limits = gathering.limits
    if timestamp >= _MS_OR_FINER:
        return f"timestamp: expected epoch seconds; {timestamp:.0f} looks like milliseconds or finer"
    if timestamp > gathering.newest_s:
        ahead_s = timestamp - gathering.now_s
        return f"timestamp: expected at most {limits.max_ahead_s:g} s ahead of the clock; it is {ahead_s:.6g} s ahead"
    age_h = (gathering.now_s - timestamp) / HOUR_S
    return f"timestamp: expected within the {limits.retention_s / HOUR_S:g} h kept; it is {age_h:.6g} h old"


def shown(text: str | bytes | memoryview) -> str:
    """The text cut to what a reply may repeat."""
    if not isinstance(text, str):
        text = bytes(text[: 4 * _SHOWN]).decode(errors="replace")
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _hash(kind: bytes, *parts: bytes) -> bytes:
    # no part but the last can hold a NUL, so that no two lists of parts give the same bytes
    return blake2b(b"\0".join(parts), digest_size=ID_BYTES, person=kind).digest()


WHITESPACE = b" \t\r\n"  # JSON's; Python has more
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


def check_size(body: bytes, gathering: BodyParts) -> None:
    """Refuse a small body of very many tiny items before they become objects, many times its size.

    Raises:
        BodyTooLargeError: more values than the limit, going by the punctuation of the JSON text.
    """
    limit = gathering.limits.max_items
    if len(body) <= limit:
        return

    def fits(containers: int, commas: int) -> bool:
        # a sample is one, a series two of them; the body itself may be two
        return containers <= 2 * limit + 2 and commas <= _MOST_COMMAS * limit

    if fits(body.count(b"[") + body.count(b"{"), body.count(b",")):
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
