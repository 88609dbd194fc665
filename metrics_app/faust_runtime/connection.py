"""One connection of aiohttp's server, changed: half-closed clients are answered, and those that do not read are let go.

Called by `web_server`.

Clients that close their side after a request, and want the reply: `shutdown(SHUT_WR)`, `nc -N`, HTTP/1.0.

aiohttp closes a connection at the end of its input: the reply to a request whose values count is lost then, and the
requests behind it are not looked at. asyncio's TLS begins to close in the same step in which it reports the end.

A reply that is not read stays in memory. So the next request is not answered before, and after a while the connection
is closed. Requests that are sent at once, without waiting for replies, are answered one in each turn of the event loop.
"""

from __future__ import annotations

import asyncio
from asyncio.sslproto import SSLProtocol, SSLProtocolState
from ssl import MemoryBIO
from typing import Any

from aiohttp.web import RequestHandler, RequestPayloadError

from metrics_app.turns import turn

LOOK_INTERVAL_S = 0.05


WRITE_S = 10.0  # a client that reads nothing for so long is gone


class AnsweringHandler(RequestHandler):
    """One connection. After the end of its input every whole request is answered, and then it is closed."""

    __slots__ = ("_unread",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._unread: asyncio.TimerHandle | None = None

    @property
    def is_silent(self) -> bool:
        """Whether it is open and no request has come."""
        return self.transport is not None and not self._request_count

    async def _handle_request(self, *arguments: Any) -> tuple[Any, bool]:
        """Answers a request: not before the last reply was read, and of several that came at once in turn with others.

        Else a client that sends hundreds at once, and reads none of the replies, takes the loop and the memory.
        """
        if self._paused:
            await self._drain_helper()
        if self._messages:
            await turn()
        return await super()._handle_request(*arguments)

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered: from now on the time counts."""
        super().pause_writing()
        self._unread = self._loop.call_later(WRITE_S, self._give_up_writing)

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

    def _give_up_writing(self) -> None:
        if self.transport is not None:
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
