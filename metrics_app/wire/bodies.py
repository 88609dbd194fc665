"""Request bodies of `POST /samples`: what each content type means, and decompression with a bound.

Called by `collector`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

from metrics_app.errors import BodyTooLargeError, InvalidBodyError, UnsupportedTypeError
from metrics_app.wire import arrow_table, columnar_body, json_body, msgpack_table, table_rows
from metrics_app.wire.gathering import EXPECTED, WHITESPACE, BodyLimits, BodyParts, Parsed, Rejection, Steps, shown

__all__ = ["BodyLimits", "BodyParts", "Parsed", "Rejection", "Steps", "inflate", "lone_sample", "parse", "parsing"]

JSON, LINES, MSGPACK = "application/json", "application/x-ndjson", "application/msgpack"
ARROW = "application/vnd.apache.arrow.stream"
MAX_GZIP_MEMBERS = 100  # each costs a copy of what follows it

_CHARSET = re.compile(r'charset *= *"?([^"; ]+)', re.IGNORECASE)


def parse(body: bytes, content_type: str, now_s: float, limits: BodyLimits, request_id: bytes = b"") -> Parsed:
    """What the body holds, read in one go; see `parsing`."""
    parts = BodyParts(now_s, limits, request_id)
    for _ in parsing(body, content_type, parts):
        pass
    return parts.done()


def parsing(body: bytes, content_type: str, parts: BodyParts) -> Steps:
    """Reads a body into parts, step by step, each of less than a few milliseconds but for the first decoding.

    Values are gathered into chunks of one key and hour; items that cannot be kept are noted.

    Args:
        body: as sent, decompressed.
        content_type: of the request; empty is taken as JSON.

    Raises:
        UnsupportedTypeError: a content type that is not taken.
        BodyTooLargeError: more samples than the limit.
        InvalidBodyError: nothing in the body can be told apart as an item.
    """
    read = _reader(content_type)
    if not body.strip(WHITESPACE):
        raise InvalidBodyError(f"the body is empty; expected {EXPECTED}")
    return read(body, parts)


def lone_sample(body: bytes, content_type: str) -> tuple[bytes, bytes] | None:
    """Key and value of a body that is a single JSON sample without anything unusual; None: `parsing` is to say."""
    return json_body.lone(body) if _READERS.get(content_type) is _read_json else None


def inflate(body: bytes, limit: int) -> bytes:
    """The decompressed gzip body.

    Raises:
        BodyTooLargeError: it would be more than `limit` bytes; no more than that is decompressed to find out.
        InvalidBodyError: not gzip, cut short, damaged, or followed by something else.
    """
    parts: list[bytes] = []
    room = limit
    for _ in range(MAX_GZIP_MEMBERS):
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            parts.append(member.decompress(body, room + 1))
        except zlib.error as error:
            raise InvalidBodyError(f"the body is not the gzip its Content-Encoding says: {error}") from None
        room -= len(parts[-1])
        if room < 0:
            raise BodyTooLargeError("the decompressed body", limit, "bytes")
        if not member.eof:
            raise InvalidBodyError("the gzip body is cut short")
        body = member.unused_data
        if not body:
            return b"".join(parts)
    raise InvalidBodyError(f"expected at most {MAX_GZIP_MEMBERS} gzip members")


def _read_json(body: bytes, gathering: BodyParts) -> Steps:
    is_columnar = columnar_body.is_columnar(body)
    return columnar_body.read_json(body, gathering) if is_columnar else json_body.read(body, gathering)


def _read_msgpack(body: bytes, gathering: BodyParts) -> Steps:
    if msgpack_table.is_table(body):
        return table_rows.gather(msgpack_table.read(body, gathering), gathering)
    return columnar_body.read_msgpack(body, gathering)


def _read_arrow(body: bytes, gathering: BodyParts) -> Steps:
    return table_rows.gather(arrow_table.read(body, gathering), gathering)


# what `curl -d` sends without a header is taken as JSON too
_READERS: dict[str, Callable[[bytes, BodyParts], Steps]] = {
    "": _read_json,
    JSON: _read_json,
    "text/plain": _read_json,
    "application/x-www-form-urlencoded": _read_json,
    LINES: json_body.read_lines,
    MSGPACK: _read_msgpack,
    "application/x-msgpack": _read_msgpack,
    ARROW: _read_arrow,
}


def _reader(content_type: str) -> Callable[[bytes, BodyParts], Steps]:
    name, _, parameters = content_type.partition(";")
    reader = _READERS.get(name.strip().lower())
    if reader is None:
        name = shown(name.strip())
        raise UnsupportedTypeError(
            f"content type {name!r} is not taken; expected {JSON}, {LINES}, {MSGPACK} or {ARROW}"
        )
    charset = _CHARSET.search(parameters)
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedTypeError(f"charset {shown(charset[1])!r} is not taken; expected utf-8")
    return reader
