"""Reads and parses the body of a request. A body whose header shows it to be unusable is refused before it is sent.

Called by `views`.

Bodies are taken apart in turns, so that the event loop goes on turning whatever comes at once.

A body of 100,000 keys takes a second. So large ones, and those of which nobody knows how large they are once inflated,
go one by one to a thread; of small ones so many bytes are taken apart in one turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import HttpVersion11, StreamReader, web

from metrics_app.errors import BodyTooLargeError, InvalidBodyError, OverloadedError, SlowBodyError, UnsupportedTypeError
from metrics_app.wire import bodies

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
        if request.content.is_eof():  # a small body comes with the header: there is nothing to wait for
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
        writer.output_size = 0  # aiohttp would take it for a part of the reply


async def _read(content: StreamReader, limit: int) -> bytes:
    """All of it, or more than `limit` bytes of it."""
    parts, size = [], 0
    async for part in content.iter_any():
        parts.append(part)
        size += len(part)
        if size > limit:
            break
    return b"".join(parts)


SMALL_BYTES = 64 << 10
TURN_BYTES = 128 << 10


class RequestBody(NamedTuple):
    """A body as it was sent, and what its header said of it."""

    sent: bytes
    content_type: str
    gzipped: bool
    request_id: bytes


class Parsing:
    """Takes bodies apart.

    Args:
        limits: bounds on samples and their times.
        max_inflated_bytes: of a gzipped body.
        patience_s: longest wait of a large body for those before it.
    """

    def __init__(self, limits: bodies.BodyLimits, max_inflated_bytes: int, patience_s: float) -> None:
        self._limits = limits
        self._max_inflated_bytes = max_inflated_bytes
        self._patience_s = patience_s
        self._thread = ThreadPoolExecutor(1, "bodies")
        self._one_at_a_time = asyncio.Lock()
        self._taken = 0  # bytes, in this turn of the loop

    async def parse(self, body: RequestBody, now_s: float) -> tuple[bytes, bodies.Parsed]:
        """The body inflated, and what it holds.

        Raises:
            InvalidBodyError: nothing in it can be told apart as an item, or it is too large, or no gzip.
            OverloadedError: too many others are before it.
        """
        if body.gzipped or len(body.sent) > SMALL_BYTES:
            async with self._turn():
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._parse, body, now_s)
        while self._taken and self._taken + len(body.sent) > TURN_BYTES:  # noqa: ASYNC110  each turn lets some go on
            await asyncio.sleep(0)
        if not self._taken:
            asyncio.get_running_loop().call_soon(self._begin_turn)
        self._taken += len(body.sent)
        return self._parse(body, now_s)

    def _begin_turn(self) -> None:
        self._taken = 0

    def _parse(self, body: RequestBody, now_s: float) -> tuple[bytes, bodies.Parsed]:
        inflated = bodies.inflate(body.sent, self._max_inflated_bytes) if body.gzipped else body.sent
        return inflated, bodies.parse(inflated, body.content_type, now_s, self._limits, body.request_id)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._one_at_a_time.acquire()
        except TimeoutError:
            detail = (
                f"too many large bodies wait to be read, for {self._patience_s:g} s; nothing was kept, send it again"
            )
            raise OverloadedError(detail, reason="busy", nothing_kept=True) from None
        try:
            yield
        finally:
            self._one_at_a_time.release()
