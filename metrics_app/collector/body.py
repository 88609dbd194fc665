"""Reads the body of a request. What its header shows to be unusable is refused before the client is asked for it."""

from __future__ import annotations

import asyncio

from aiohttp import HttpVersion11, StreamReader, web

from metrics_app.errors import BodyTooLargeError, InvalidBodyError, SlowBodyError, UnsupportedTypeError

CONTINUE = "100-continue"
GZIP = ("gzip", "x-gzip")  # the second is the first (RFC 9110, 8.4.1.3)


def is_gzipped(request: web.Request) -> bool:
    """Whether the body is to be decompressed.

    Raises:
        UnsupportedTypeError: by something else than gzip.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", *GZIP):
        raise UnsupportedTypeError(f"content encoding {encoding[:60]!r} is not taken; expected gzip or none")
    return encoding in GZIP


async def expect(request: web.Request) -> None:
    """In place of aiohttp's way with `Expect`, which asks for the body before anybody has looked at the header.

    Raises:
        web.HTTPExpectationFailed: something else than a wait for 100 is expected.
    """
    if request.version >= HttpVersion11 and request.headers["Expect"].lower() != CONTINUE:
        raise web.HTTPExpectationFailed(text=f"Expect: only {CONTINUE} is known")


async def read(request: web.Request, limit: int, limit_s: float) -> bytes:
    """All of it.

    Raises:
        BodyTooLargeError: it is, or is announced to be, over `limit` bytes.
        SlowBodyError: it took longer than `limit_s` seconds.
        InvalidBodyError: it broke off.
    """
    if (request.content_length or 0) > limit:
        raise BodyTooLargeError("the body", limit, "bytes")
    try:
        if request.content.is_eof():  # it came with the header, as small ones do: nothing to wait for
            body = request.content.read_nowait()
        else:
            async with asyncio.timeout(limit_s):
                await _ask(request)
                body = await _read(request.content, limit)
    except TimeoutError:
        raise SlowBodyError(limit_s) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise InvalidBodyError(f"the body broke off: {error}") from error
    if len(body) > limit:
        raise BodyTooLargeError("the body", limit, "bytes")
    return body


async def _ask(request: web.Request) -> None:
    """Tells a client that waits for it to go on."""
    if request.version >= HttpVersion11 and request.headers.get("Expect", "").lower() == CONTINUE:
        writer = request.writer
        await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.output_size = 0  # else aiohttp takes it for a part of the reply


async def _read(content: StreamReader, limit: int) -> bytes:
    """All of it, or more than `limit` bytes of it."""
    parts, size = [], 0
    async for part in content.iter_any():
        parts.append(part)
        size += len(part)
        if size > limit:
            break
    return b"".join(parts)
