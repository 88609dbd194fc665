"""Reads and parses the body of a request. A body whose header shows it to be unusable is refused before it is sent.

Called by `views`.

Bodies are taken apart in slices, so that the event loop goes on turning whatever comes at once. A body of 100,000
samples takes half a second. So large ones go one by one, their clients in turn; of small ones so many bytes are taken
apart in one turn of the loop. (A thread for the large ones would take the GIL at each call of numpy that lets go of it:
questions then took up to half a second.)
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from aiohttp import HttpVersion11, StreamReader, web

from metrics_app.collector.senders import Admits
from metrics_app.errors import BodyTooLargeError, InvalidBodyError, OverloadedError, SlowBodyError, UnsupportedTypeError
from metrics_app.faust_runtime.small_requests import SmallRequest
from metrics_app.turns import Slice, turn
from metrics_app.wire import bodies
from metrics_app.wire.ownership import NO_OWNER, Owner

CONTINUE = "100-continue"
SMALL_BYTES = 64 << 10
TURN_BYTES = 128 << 10
GZIP = ("gzip", "x-gzip")  # the second is the first (RFC 9110, 8.4.1.3)


def is_gzipped(request: web.Request | SmallRequest) -> bool:
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


class BodyReader:
    """Reads bodies, of which those that are still to come take a bounded part of the memory.

    Args:
        most_bytes: of one body.
        within_s: longest time for one.
        incoming_bytes: of all bodies that are on their way, as large as they say they are; of one client half of it.
    """

    def __init__(self, most_bytes: int, within_s: float, incoming_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._within_s = within_s
        self._incoming_bytes = max(incoming_bytes, 2 * most_bytes)
        self._incoming: Counter[str] = Counter()

    async def read(self, request: web.Request) -> bytes:
        """All of a body.

        Raises:
            BodyTooLargeError: it is, or is announced to be, too large.
            SlowBodyError: it took too long.
            InvalidBodyError: it broke off.
            OverloadedError: too much is on its way already.
        """
        if (request.content_length or 0) > self._most_bytes:
            raise BodyTooLargeError("the body", self._most_bytes, "bytes")
        try:
            if request.content.is_eof():  # a small body comes with the header: there is nothing to wait for
                body = request.content.read_nowait()
            else:
                with self.room_for(request.remote or "", request.content_length or self._most_bytes):
                    async with asyncio.timeout(self._within_s):
                        await _ask(request)
                        body = await _read(request.content, self._most_bytes)
        except TimeoutError:
            raise SlowBodyError(self._within_s) from None
        except (web.RequestPayloadError, ConnectionError) as error:
            raise InvalidBodyError(f"the body broke off: {error}") from error
        if len(body) > self._most_bytes:
            raise BodyTooLargeError("the body", self._most_bytes, "bytes")
        return body

    @contextmanager
    def room_for(self, client: str, size: int) -> Iterator[None]:
        """Within it a body of so many bytes may come.

        Raises:
            OverloadedError: too much is on its way already.
        """
        incoming = self._incoming
        is_small = size <= SMALL_BYTES  # aiohttp holds as much of each connection anyway
        if not is_small:
            if incoming.total() + size > self._incoming_bytes or incoming[client] + size > self._incoming_bytes // 2:
                raise _busy("too many large bodies are on their way")
            incoming[client] += size
        try:
            yield
        finally:
            if not is_small:
                incoming[client] -= size
                if not incoming[client]:
                    del incoming[client]


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


def _everything(_rows: Sequence[tuple[bytes, int]]) -> list[int]:
    return []


Reading = Callable[[bytes, str, bodies.BodyParts], bodies.Steps]  # of an inflated body and its content type


def read_samples(sent: bytes, content_type: str, parts: bodies.BodyParts) -> bodies.Steps:
    """What `POST /samples` takes."""
    return bodies.parsing(sent, content_type, parts)


class RequestBody(NamedTuple):
    """A body as it was sent, and what its header said of it.

    Attributes:
        read: takes it apart.
        client: who sent it: the address of the connection.
        admits: which of some rows, each a key and an hour, the client may not send values for.
        owner: what his token says of him.
    """

    sent: bytes
    content_type: str
    gzipped: bool
    request_id: bytes
    client: str = ""
    admits: Admits = _everything
    owner: Owner = NO_OWNER
    read: Reading = read_samples


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
        self._large = FairQueue(patience_s)
        self._taken = 0  # bytes of small bodies, in this turn of the loop

    async def parse(self, body: RequestBody, now_s: float) -> tuple[bytes, bodies.Parsed]:
        """The body inflated, and what it holds.

        Raises:
            InvalidBodyError: nothing in it can be told apart as an item, or it is too large, or no gzip.
            OverloadedError: too many others are before it.
        """
        small = _small(body)
        if small is not None:
            await self._room_for(len(small))
            return small, await self._parse(small, body, now_s)
        async with self._large.turn_of(body.client):
            inflated = body.sent
            if body.gzipped:  # zlib lets other threads run meanwhile
                inflated = await asyncio.to_thread(bodies.inflate, body.sent, self._max_inflated_bytes)
            await turn()
            return inflated, await self._parse(inflated, body, now_s)

    async def _room_for(self, size: int) -> None:
        while not self.has_room_for(size):  # noqa: ASYNC110  each turn lets some go on
            await asyncio.sleep(0)

    def has_room_for(self, size: int) -> bool:
        """Whether a body of so many bytes may be taken apart in this turn of the loop; then it is counted."""
        if self._taken and self._taken + size > TURN_BYTES:
            return False
        if not self._taken:
            asyncio.get_running_loop().call_soon(self._begin_turn)
        self._taken += size
        return True

    def _begin_turn(self) -> None:
        self._taken = 0

    async def _parse(self, inflated: bytes, body: RequestBody, now_s: float) -> bodies.Parsed:
        parts = bodies.BodyParts(now_s, self._limits, body.request_id, body.admits, body.owner)
        a_slice = Slice()
        for _ in body.read(inflated, body.content_type, parts):
            if a_slice.is_over:
                await a_slice.rest()
        return parts.done()


def _small(body: RequestBody) -> bytes | None:
    """The body inflated, when it is small; None when it is not."""
    if len(body.sent) > SMALL_BYTES:
        return None
    if not body.gzipped:
        return body.sent
    try:
        return bodies.inflate(body.sent, SMALL_BYTES)
    except BodyTooLargeError:
        return None


MOST_WAITING = 64
MOST_OF_ONE = 32


class FairQueue:
    """One large body at a time, the clients in turn: whoever sends many waits for himself, not the others for him.

    Args:
        patience_s: longest wait for a turn.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._is_taken = False

    @asynccontextmanager
    async def turn_of(self, client: str) -> AsyncIterator[None]:
        """Within it nobody else has a turn.

        Raises:
            OverloadedError: it does not come in time, or too many others wait already.
        """
        if self._is_taken:
            await self._wait(client)
        self._is_taken = True
        try:
            yield
        finally:
            self._is_taken = self._next()

    async def _wait(self, client: str) -> None:
        own = self._waiting.get(client, ())
        if len(own) >= MOST_OF_ONE or sum(map(len, self._waiting.values())) >= MOST_WAITING:
            raise _busy("too many large bodies wait to be read")
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(mine)
        try:
            async with asyncio.timeout(self._patience_s):
                await mine
        except TimeoutError:
            raise _busy(f"too many large bodies were read before it, for {self._patience_s:g} s") from None
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():  # it had the turn already
                self._is_taken = self._next()
            raise

    def _next(self) -> bool:
        """Gives the turn to the next client's first body; whether there is one."""
        while self._waiting:
            client, own = self._waiting.popitem(last=False)
            first = own.popleft()
            if own:
                self._waiting[client] = own
            if not first.done():
                first.set_result(None)
                return True
        return False


def _busy(why: str) -> OverloadedError:
    return OverloadedError(f"{why}; nothing was kept, send it again", reason="busy", nothing_kept=True)
