"""A closed-loop HTTP client that costs little beside what it measures: requests are bytes, replies are only counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

ACCEPTED = b"HTTP/1.1 202"
CONTENT_LENGTH = b"content-length:"

Feed = Callable[[int], bytes | None]


class Flood(NamedTuple):
    """Requests answered 202, all others, and the seconds from the first request to the last reply."""

    accepted: int
    failed: int
    seconds: float


def post(url: str, body: bytes, content_type: str = "application/json") -> bytes:
    """The bytes of a POST to `/samples` over a connection that is kept."""
    head = f"POST /samples HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def flood(url: str, feed: Feed, connections: int) -> Flood:
    """Sends what `feed(connection)` gives, one request at a time on each connection, until it gives None."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    opened = [_Connection(number, feed) for number in range(connections)]
    for connection in opened:
        await loop.create_connection(partial(_same, connection), host or "", port or 80)
    await asyncio.gather(*(connection.ended for connection in opened))
    accepted, failed = (sum(getattr(each, name) for each in opened) for name in ("accepted", "failed"))
    return Flood(accepted, failed, time.perf_counter() - started)


def _same(connection: _Connection) -> _Connection:
    return connection


class _Connection(asyncio.Protocol):
    """One connection: a request, its whole reply, the next request."""

    def __init__(self, number: int, feed: Feed) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.accepted = self.failed = 0
        self._number = number
        self._feed = feed
        self._reply = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the first request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        """Counts a reply that is whole, and sends the next request."""
        self._reply += data
        head, end, body = self._reply.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        if head.startswith(ACCEPTED):
            self.accepted += 1
        else:
            self.failed += 1
        self._reply = b""
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        """The end; a reply that was still to come counts as failed."""
        if not self.ended.done():
            self.failed += 1
            self.ended.set_result(None)

    def _next(self) -> None:
        request = self._feed(self._number)
        if request is not None:
            self._transport.write(request)
            return
        self.ended.set_result(None)
        self._transport.close()


def _length(head: bytes) -> int:
    lower = head.lower()
    return int(lower[lower.index(CONTENT_LENGTH) + len(CONTENT_LENGTH) :].split(b"\r\n", 1)[0])
