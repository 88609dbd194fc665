"""Answers small requests that arrive whole without aiohttp's request, task and response machinery.

Called by `web_server`, `collector.views` and `app`.

    bytes -> plain_head -> a handler that is registered here -> bytes of the reply
          |             \\-> GET: what can be answered at once -> bytes of the reply
          \\-> anything else: the same bytes to aiohttp

A request of one sample costs aiohttp three times as much as its parsing, its way to Kafka and its reply together. So a
request that has nothing unusual goes from the transport to its handler. Everything else goes to aiohttp untouched, and
aiohttp alone knows HTTP: heads are read by its own parser, and what it said of a head is remembered, for clients repeat
theirs. A connection has one request in progress, either here or in aiohttp; what arrives meanwhile waits.

A question whose answer needs nothing to be waited for is answered in the same step. Whoever answers it says None to
everything else, errors too, and aiohttp begins with the question anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from aiohttp import HttpVersion11, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import _serialize_headers

from metrics_app.faust_runtime.connection import LOOK_INTERVAL_S, AnsweringHandler

MOST_HEAD_BYTES = 2048
MOST_BODY_BYTES = 16 << 10
HEADS = 2048  # remembered; clients of one kind differ in Content-Length alone
END_OF_HEAD = b"\r\n\r\n"
UNKNOWN = -1
NOT_PLAIN = ("", "")

# every other header may mean something: to aiohttp, to a middleware or to the handler
PLAIN_HEADERS = {
    "accept",
    "accept-encoding",
    "accept-language",
    "connection",
    "content-length",
    "content-type",
    "host",
    "idempotency-key",
    "metrics-dropped",
    "user-agent",
}


class Head(NamedTuple):
    """What aiohttp's parser said of the head of a request.

    Attributes:
        route: method and path of a plain request; NOT_PLAIN when there is anything unusual.
        length: bytes of the body.
    """

    route: tuple[str, str]
    length: int
    headers: Mapping[str, str]


class SmallRequest(NamedTuple):
    """A plain request that has arrived whole.

    Attributes:
        headers: as aiohttp gives them, a CIMultiDictProxy.
        remote: address of the client.
    """

    method: str
    headers: Any
    body: bytes
    remote: str


Serve = Callable[[Any], Awaitable[web.StreamResponse]]


class SmallRoute(NamedTuple):
    """What answers the plain requests for a path.

    Attributes:
        serve: gives the reply, also of what fails, as the middlewares would have made it.
        is_dated: whether replies show a Date.
        takes: whether nothing in these headers concerns a middleware.
    """

    serve: Serve
    is_dated: Callable[[], bool] = lambda: True
    takes: Callable[[Mapping[str, str]], bool] = lambda headers: True


class AtOnce(NamedTuple):
    """What answers plain questions (GET, no body) without waiting for anything.

    Attributes:
        answer: given path with query string, and headers, the whole reply; None: aiohttp is to see to it.
        is_dated: whether replies show a Date.
    """

    answer: Callable[[str, Mapping[str, str]], web.Response | None] = lambda path, headers: None
    is_dated: Callable[[], bool] = lambda: True


Routes = dict[tuple[str, str], SmallRoute]
ROUTES = web.AppKey("small_requests", dict[tuple[str, str], SmallRoute])
AT_ONCE = web.AppKey("at_once", AtOnce)


class ShortWays(NamedTuple):
    """All that goes past aiohttp in one server."""

    routes: Routes
    questions: AtOnce | None

    @classmethod
    def of(cls, app: web.Application) -> ShortWays:
        """Those that are registered in an application."""
        return cls(app.get(ROUTES, {}), app.get(AT_ONCE))


@lru_cache(HEADS)
def plain_head(head: bytes) -> Head | None:
    """What aiohttp's parser says of a head; None when it is not known where the request ends."""
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(BaseProtocol(loop), loop, 1 << 16, auto_decompress=False)
    try:
        messages, upgraded, _ = parser.feed_data(head)
    except HttpProcessingError:
        return None
    if len(messages) != 1 or upgraded or head.count(b"\n") != head.count(b"\r\n"):
        return None
    message = messages[0][0]
    length = message.headers.get("Content-Length", "0")
    if message.chunked or message.upgrade or message.method == "CONNECT" or not _is_number(length):
        return None
    return Head((message.method, message.path) if _is_plain(message) else NOT_PLAIN, int(length), message.headers)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10  # fits any integer of a parser


def _is_plain(message: RawRequestMessage) -> bool:
    headers = message.headers
    names = [name.lower() for name, _ in headers.items()]  # iterating gives a name once, however often it came
    return (
        message.version == HttpVersion11
        and not message.should_close
        and message.compression is None
        and len(names) == len(set(names))
        and PLAIN_HEADERS.issuperset(names)
        and "host" in names
        and all(text.isascii() and text.isprintable() for text in headers.values())
        and headers.get("Connection", "keep-alive").lower() == "keep-alive"
    )


def written(reply: web.StreamResponse, is_dated: bool) -> bytes:
    """The bytes of a reply to a plain request, as aiohttp writes them."""
    assert isinstance(reply, web.Response)
    assert isinstance(reply.body, bytes)
    lines = (f"HTTP/1.1 {reply.status} {reply.reason}", *reply.headers.items())
    date = b"Date: %s\r\n\r\n" % rfc822_formatted_time().encode() if is_dated else b"\r\n"
    return b"".join((_head(lines, len(reply.body)), date, reply.body))


@lru_cache(HEADS)
def _head(lines: tuple[Any, ...], length: int) -> bytes:
    """The head but for its date and its last line, which is empty."""
    status, *headers = lines
    full: Any = {**dict(headers), "Content-Length": str(length)}  # no header of ours comes twice
    return _serialize_headers(status, full)[:-2]


class SmallRequestHandler(AnsweringHandler):
    """One connection, with a short way for small requests.

    Args:
        ways: of plain requests; without any aiohttp gets everything.
    """

    __slots__ = ("_held", "_questions", "_remote", "_rest", "_routes", "_serving")

    def __init__(self, *arguments: Any, ways: ShortWays, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._routes, self._questions = ways
        self._remote = ""
        self._serving: asyncio.Task[None] | None = None
        self._held = b""  # arrived while a small request was served
        # how much of aiohttp's last request is still to come; UNKNOWN: only aiohttp can say
        self._rest = 0 if any(ways) else UNKNOWN

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        super().connection_made(transport)
        if isinstance(self.peername, (list, tuple)):
            self._remote = str(self.peername[0])

    def data_received(self, data: bytes) -> None:
        """Gives what has arrived to whom it is for."""
        if self._serving is not None:
            self._held += data
            self._pause_transport_reading()
        elif self._rest == UNKNOWN or not data or not self._begin(data):
            super().data_received(data)

    def _begin(self, data: bytes) -> bool:
        """Begins to serve a plain request; False: it is aiohttp's, and it is noted where that ends."""
        if self._rest:
            self._note(self._rest - len(data))
            return False
        end = data.find(END_OF_HEAD, 0, MOST_HEAD_BYTES) + len(END_OF_HEAD)
        head = plain_head(data[:end])
        if head is None:
            self._rest = UNKNOWN
            return False
        rest = end + head.length - len(data)
        if not rest and self._questions is not None and head.route[0] == "GET" and self._answered(head):
            return True
        route = self._routes.get(head.route)
        if (
            rest
            or route is None
            or not self._is_free()
            or head.length > MOST_BODY_BYTES
            or not route.takes(head.headers)
        ):
            self._note(rest)
            return False
        self._request_count += 1
        self._request_in_progress = True
        request = SmallRequest(head.route[0], head.headers, data[end:], self._remote)
        self._serving = self._loop.create_task(self._serve(route, request))
        return True

    def _answered(self, head: Head) -> bool:
        """Whether a question could be answered at once, and is."""
        if head.length or not self._is_free() or not self._turns.take():
            return False
        assert self._questions is not None
        reply = self._questions.answer(head.route[1], head.headers)
        if reply is None:
            return False
        self._request_count += 1
        assert self.transport is not None
        self.transport.write(written(reply, self._questions.is_dated()))
        self._await_next()
        return True

    def _note(self, rest: int) -> None:
        self._rest = rest if rest >= 0 else UNKNOWN

    def _is_free(self) -> bool:
        """Whether aiohttp waits for a request, and the client has read its replies."""
        waiter = self._waiter
        is_waiting = waiter is not None and not waiter.done() and not self._messages
        return is_waiting and not (self._paused or self._close or self._force_close)

    async def _serve(self, route: SmallRoute, request: SmallRequest) -> None:
        try:
            if not self._turns.take():
                await self._turns.wait(is_question=False)
            reply = await route.serve(request)
            if self.transport is not None:
                self.transport.write(written(reply, route.is_dated()))
        finally:
            self._finish()

    def _finish(self) -> None:
        """Lets the connection go on, as aiohttp does after a request."""
        self._serving = None
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():  # of a shutdown
            self._handler_waiter.set_result(None)
        if self.transport is None:
            return
        if self._close or self._force_close:
            self.transport.close()
            return
        self._await_next()
        if self._held:
            held, self._held = self._held, b""
            self._resume_transport_reading()
            self.data_received(held)

    def _await_next(self) -> None:
        """From now on the time counts that a connection may be idle."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    def _process_keepalive(self) -> None:
        if self._serving is None:
            super()._process_keepalive()
        else:
            self._keepalive_handle = None  # begins anew after the reply

    def _end_when_answered(self) -> None:
        if self._serving is None:
            super()._end_when_answered()
        else:
            self._loop.call_later(LOOK_INTERVAL_S, self._end_when_answered)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109  # aiohttp's
        """Waits for the request in progress as long as aiohttp does for its own, then ends it."""
        try:
            await super().shutdown(timeout)
        finally:
            if self._serving is not None:
                self._serving.cancel()
