"""One connection of aiohttp's server, changed: half-closed clients are answered, and those that do not read are let go.

Called by `web_server`.

Clients that close their side after a request, and want the reply: `shutdown(SHUT_WR)`, `nc -N`, HTTP/1.0.

aiohttp closes a connection at the end of its input: the reply to a request whose values count is lost then, and the
requests behind it are not looked at. asyncio's TLS begins to close in the same step in which it reports the end.

A reply that is not read stays in memory. So the next request is not answered before, and after a while the connection
is closed. Requests that are sent at once, without waiting for replies, are answered one in each turn of the event loop.
Of all clients together a bounded number of requests begins in one turn, and too many questions are refused at once.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio.sslproto import SSLProtocol, SSLProtocolState
from collections import deque
from ssl import MemoryBIO
from typing import Any

from aiohttp.web import BaseRequest, RequestPayloadError, StreamResponse

from metrics_app.faust_runtime.refusals import RefusingHandler
from metrics_app.http.problems import finished, problem
from metrics_app.turns import turn

LOOK_INTERVAL_S = 0.05


BEGUN_A_TURN = 32
QUESTIONS_WAITING = 256  # they take about 150 ms
ALWAYS = frozenset({"/livez", "/readyz", "/metrics"})
AT_ONCE = struct.pack("ii", 1, 0)
WRITE_S = 10.0  # a client that reads nothing for so long is gone


class RequestTurns:
    """The requests that begin in a turn of the event loop, of all connections of a server; the others wait in line.

    Attributes:
        pipelined: held by the one request that was sent before the reply to the one before it, and begins next.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._left = BEGUN_A_TURN
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._questions = 0
        self.pipelined = asyncio.Lock()

    def take(self) -> bool:
        """Whether a request may begin in this turn."""
        if not self._left or self._waiting:
            return False
        if self._left == BEGUN_A_TURN:
            self._loop.call_soon(self._begin_turn)
        self._left -= 1
        return True

    async def wait(self, is_question: bool) -> bool:
        """Returns when a request may begin; False at once, when too many questions wait and this is one more."""
        if is_question and self._questions >= QUESTIONS_WAITING:
            return False
        mine: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(mine)
        self._questions += is_question
        try:
            await mine
        finally:
            self._questions -= is_question
        return True

    def _begin_turn(self) -> None:
        self._left = BEGUN_A_TURN
        while self._left and self._waiting:
            mine = self._waiting.popleft()
            if not mine.done():
                mine.set_result(None)
                self._left -= 1
        if self._left < BEGUN_A_TURN:
            self._loop.call_soon(self._begin_turn)


async def _refuse(_request: BaseRequest) -> StreamResponse:
    return finished(problem(503, "Too many questions", "too many wait to be answered here", {"Retry-After": "1"}))


class AnsweringHandler(RefusingHandler):
    """One connection. After the end of its input every whole request is answered, and then it is closed.

    Args:
        turns: of the server.
    """

    __slots__ = ("_turns", "_unread")

    def __init__(self, *arguments: Any, turns: RequestTurns, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._turns = turns
        self._unread: asyncio.TimerHandle | None = None

    @property
    def is_silent(self) -> bool:
        """Whether it is open and no request has come."""
        return self.transport is not None and not self._request_count

    async def _handle_request(
        self, request: BaseRequest, start_time: float | None, request_handler: Any
    ) -> tuple[Any, bool]:
        """Answers a request: not before the last reply was read, and of several that came at once in turn with others.

        Else a client that sends hundreds at once, and reads none of the replies, takes the loop and the memory.
        """
        if self._paused:
            await self._drain_helper()
        if self._messages:
            async with self._turns.pipelined:  # one for all connections, or they would have all the slices
                await turn()
        if (
            not self._turns.take()
            and request.path not in ALWAYS
            and not await self._turns.wait(request.method == "GET")
        ):
            request_handler = _refuse
        answered: tuple[Any, bool] = await super()._handle_request(request, start_time, request_handler)
        if isinstance(request.content.exception(), RequestPayloadError):
            self.force_close()  # nothing more comes: aiohttp would read on, and log the error as one of ours
        return answered

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered: from now on the time counts."""
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        self._forget_unread()

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone."""
        self._forget_unread()
        super().connection_lost(exc)

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _watch_reading(self) -> None:
        if self.transport is not None:
            left = self.transport.get_write_buffer_size()
            self._unread = self._loop.call_later(WRITE_S, self._let_go_unless_read, left)

    def _let_go_unless_read(self, before: int) -> None:
        if self.transport is None:
            return
        if self.transport.get_write_buffer_size() < before:
            self._watch_reading()
            return
        if (sock := self.transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)  # the kernel is to forget what it holds too
        self.transport.abort()

    def eof_received(self) -> bool:  # type: ignore[override]
        """True: the transport stays open for what is to be written."""
        self._loop.call_soon(self._end_when_answered)
        return True

    def _end_when_answered(self) -> None:
        if self.transport is None:
            return
        if self._waiter is not None and not self._waiter.done() and not self._messages:
            self.force_close()
            return
        if not self._reading_paused and not self._buffer_paused:  # otherwise more has arrived than was parsed
            self._break_off()
        self._loop.call_later(LOOK_INTERVAL_S, self._end_when_answered)

    def _break_off(self) -> None:
        """Fails a body that is incomplete and can never be completed."""
        bodies = [payload for _, payload in self._messages]
        if self._current_request is not None:
            bodies.append(self._current_request.content)
        for body in bodies:
            if not body.is_eof() and body.exception() is None:
                body.set_exception(RequestPayloadError("the client has closed its side of the connection"))


class AnsweringTLS(SSLProtocol):
    """TLS for such a handler. The end may come with a farewell of TLS (close_notify) or as the end of TCP alone."""

    _state: SSLProtocolState  # asyncio's
    _incoming: MemoryBIO
    _app_protocol: AnsweringHandler
    _told = False
    _stays = False

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio's returns nothing, which closes
        """True: the transport stays open for replies. Called at the end of TCP."""
        if self._state is not SSLProtocolState.WRAPPED:
            return super().eof_received()
        self._eof_received = True  # nobody will answer a farewell of ours
        self._tell_end()
        return True

    def _tell_end(self) -> None:
        if self._state is SSLProtocolState.WRAPPED and self._incoming.pending:  # decrypted when the handler has room
            self._loop.call_later(LOOK_INTERVAL_S, self._tell_end)
        else:
            self._call_eof_received()
            self._stays = False

    def _call_eof_received(self) -> None:
        if not self._told and self._state is SSLProtocolState.WRAPPED:
            self._told = True
            self._stays = self._app_protocol.eof_received()

    def _start_shutdown(self) -> None:
        if self._stays:  # asyncio's own, of the same step; the handler closes when it has answered
            self._stays = False
        else:
            super()._start_shutdown()
