"""Bounds on connections, which aiohttp does not have: how many there may be, and how long without a request.

Without them, clients that connect and say nothing, or send half a header, hold a worker's descriptors for as long as
they like (measured in aiohttp 3.14: over 75 s). A proxy in front does this as well; the default installation has none.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from faust.types import AppT
from faust.web.drivers.aiohttp import Web

REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Refused(asyncio.Protocol):
    """A connection over the limit: told so, and closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answers before anything is asked."""
        out = cast(asyncio.WriteTransport, transport)
        out.write(REFUSAL)
        out.close()


class BoundedRunner(web.AppRunner):
    """Runs an aiohttp application for at most `limit` connections, each of which must make a request in time."""

    def __init__(self, app: web.Application, limit: int, first_request_s: float, **options: Any) -> None:
        super().__init__(app, **options)
        self.limit = limit
        self.first_request_s = first_request_s

    @property
    def server(self) -> Any:
        """What makes the protocol of a new connection; None before the start."""
        return None if self._server is None else self._admit

    def _admit(self) -> asyncio.Protocol:
        server = self._server
        if server is None or len(server.connections) >= self.limit:
            return Refused()
        return self._hurried(server())

    def _hurried(self, handler: RequestHandler) -> RequestHandler:
        """The handler with aiohttp's timer for idle connections cut down until the first request."""
        usual_s, handler._keepalive_timeout = handler._keepalive_timeout, self.first_request_s
        loop = asyncio.get_running_loop()
        # the timer is started by connection_made, which is the next callback but one
        loop.call_soon(loop.call_soon, setattr, handler, "_keepalive_timeout", usual_s)
        return handler


class BoundedWeb(Web):
    """Faust's web server with these bounds."""

    def __init__(self, app: AppT, limit: int, first_request_s: float) -> None:
        super().__init__(app)
        self._runner = BoundedRunner(self.web_app, limit, first_request_s, access_log=None)
