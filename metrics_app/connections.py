"""A bound on the number of connections, which aiohttp does not have.

Without it, clients that connect and say nothing take a worker's descriptors. (How long they may do so is aiohttp's
keep-alive timer, in `web.HANDLER_ARGS`.) A proxy in front does this as well; the default installation has none.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, cast

from aiohttp import web
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
    """Runs an aiohttp application for at most `limit` connections."""

    def __init__(self, app: web.Application, limit: int, **options: Any) -> None:
        super().__init__(app, **options)
        self.limit = limit

    @property
    def server(self) -> Any:
        """What makes the protocol of a new connection; None before the start."""
        return None if self._server is None else self._admit

    def _admit(self) -> asyncio.Protocol:
        server = self._server
        if server is None or len(server.connections) >= self.limit:
            return Refused()
        return server()


class BoundedWeb(Web):
    """Faust's web server with this bound, and without Faust's own page at /."""

    production_blueprints: ClassVar[Any] = []

    def __init__(self, app: AppT, limit: int) -> None:
        super().__init__(app)
        self._runner = BoundedRunner(self.web_app, limit, access_log=None)
