"""Clients that close their side after a request, and want the reply: `shutdown(SHUT_WR)`, `nc -N`, HTTP/1.0.

aiohttp closes a connection at the end of its input: the reply to a request whose values count is lost then, and the
requests behind it are not looked at. asyncio's TLS begins to close in the same step in which it reports the end.
"""

from __future__ import annotations

from asyncio.sslproto import SSLProtocol, SSLProtocolState
from ssl import MemoryBIO

from aiohttp.web import RequestHandler, RequestPayloadError

LOOK_INTERVAL_S = 0.05


class AnsweringHandler(RequestHandler):
    """One connection. After the end of its input every whole request is answered, and then it is closed."""

    __slots__ = ()

    @property
    def is_silent(self) -> bool:
        """Whether it is open and no request has come."""
        return self.transport is not None and not self._request_count

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
        if not self._reading_paused and not self._buffer_paused:  # else more has come than was looked at
            self._break_off()
        self._loop.call_later(LOOK_INTERVAL_S, self._end_when_answered)

    def _break_off(self) -> None:
        """Fails a body that is not whole, for it will never be."""
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
