"""The HTTP server of aiohttp, changed: connections are bounded, and certificates change while it runs.

Called by `app`.

Without it, clients that connect and say nothing take a worker's descriptors, and then it can neither write its rows nor
reach Kafka. (How long they may do so is aiohttp's keep-alive timer, in `problems.HANDLER_ARGS`.) A proxy in front does
this as well; the default installation has none.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import deque
from contextlib import suppress
from typing import Any, ClassVar

from aiohttp import web
from faust.types import AppT
from faust.web.drivers.aiohttp import Web

from metrics_app import process
from metrics_app.faust_runtime.connection import AnsweringHandler, AnsweringTLS, RequestTurns
from metrics_app.faust_runtime.small_requests import ShortWays, SmallRequestHandler

logger = logging.getLogger(__name__)

REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
BACKLOG = 1024  # a client that finds it full tries again after a second
AT_ONCE = 16  # accepted in one turn of the event loop; descriptors closed for them are free after it
HANDSHAKE_S = 15
FAREWELL_S = 5  # a client has so long to answer the end of TLS
SEND_BUFFER_BYTES = 256 << 10  # of the kernel, which else keeps megabytes for each client that does not read
MOST_LISTED = 2  # times the limit, before those that asked something, or are gone, are left out
PAUSE_S = 0.5  # pause when there is no descriptor for the next connection
READ_BEFORE_REFUSAL = 64 << 10  # bytes that are unread at a close make the kernel drop the reply


class Listener:
    """Accepts on a few sockets, for as many clients as there may be; a handshake under way counts as one.

    When there is no room, the client that has been there longest without asking anything makes room; when all have
    asked something, the new one is refused.

    Args:
        server: aiohttp's; knows the connections that are made.
        limit: most connections; fewer where the limit of open files leaves less than that for clients.
        ways: for requests that do not need aiohttp.
    Attributes:
        tls: what new connections show; None for plain HTTP.
    """

    def __init__(
        self, sockets: list[socket.socket], server: Any, limit: int, tls: ssl.SSLContext | None, ways: ShortWays
    ) -> None:
        self.tls = tls
        self._ways = ways
        self._sockets = sockets
        self._server = server
        # Clients are counted. The number of a new descriptor says too little: what is closed for it leaves a low number
        # behind, the next one gets that and seems to fit, and so they grow until none is left.
        in_use = max(sock.fileno() for sock in sockets) + 1
        self._limit = max(1, min(limit, process.for_clients() - in_use))
        self._silent: deque[AnsweringHandler] = deque()  # the longest connected first; some have asked something since
        self._arriving: dict[asyncio.Task[None], None] = {}
        self._loop = asyncio.get_running_loop()
        self._turns = RequestTurns(self._loop)

    @property
    def sockets(self) -> list[socket.socket]:
        """Those it listens on."""
        return self._sockets

    def listen(self) -> None:
        """Accepts from now on."""
        for sock in self._sockets:
            sock.listen(BACKLOG)
            self._loop.add_reader(sock, self._accept, sock)

    def close(self) -> None:
        """Accepts no more; connections that are made stay."""
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets = []
        for task in self._arriving:
            task.cancel()

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(sock, error)
                return
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if self._is_full() and not self._make_room():
                self._refuse(connection)
            else:
                task = self._loop.create_task(self._welcome(connection))
                self._arriving[task] = None
                task.add_done_callback(self._arriving.pop)

    def _is_full(self) -> bool:
        return len(self._server.connections) + len(self._arriving) >= self._limit

    def _make_room(self) -> bool:
        """Whether a connection could be closed on which nothing was asked yet."""
        while self._silent:  # of those that have asked something since, each is looked at once
            handler = self._silent.popleft()
            if handler.is_silent:
                handler.force_close()
                return True
        for task in self._arriving:
            if not task.cancelling():
                task.cancel()
                return True
        return False

    def _pause(self, sock: socket.socket, error: OSError) -> None:
        """Waits for a descriptor and makes room for it; meanwhile clients wait in the queue of the kernel."""
        self._make_room()
        logger.warning("no connection can be accepted for %g s: %s", PAUSE_S, error)
        self._loop.remove_reader(sock)
        self._loop.call_later(PAUSE_S, self._resume, sock)

    def _resume(self, sock: socket.socket) -> None:
        if sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def _refuse(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            if self.tls is None:
                connection.send(REFUSAL)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(READ_BEFORE_REFUSAL)

    async def _welcome(self, connection: socket.socket) -> None:
        handler = SmallRequestHandler(
            self._server, loop=self._loop, turns=self._turns, ways=self._ways, **self._server._kwargs
        )
        with suppress(OSError):  # gone, or no TLS: nobody is there to be told
            if self.tls is None:
                await self._loop.connect_accepted_socket(lambda: handler, connection)
            else:
                await self._shake_hands(handler, self.tls, connection)
            self._silent.append(handler)
            if len(self._silent) > MOST_LISTED * self._limit:
                self._silent = deque(each for each in self._silent if each.is_silent)

    async def _shake_hands(self, handler: AnsweringHandler, context: ssl.SSLContext, connection: socket.socket) -> None:
        done = self._loop.create_future()
        protocol = AnsweringTLS(
            self._loop,
            handler,
            context,
            done,
            server_side=True,
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=FAREWELL_S,
        )
        transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, connection)
        try:
            await done
        except asyncio.CancelledError:
            transport.abort()
            raise


class BoundedSite(web.BaseSite):
    """Where an aiohttp application listens, by a `Listener`."""

    __slots__ = ("_host", "_limit", "_port", "_tls")

    def __init__(self, runner: web.AppRunner, host: str, port: int, limit: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(runner)
        self._host = host
        self._port = port
        self._limit = limit
        self._tls = tls

    @property
    def name(self) -> str:
        """For messages of aiohttp."""
        return f"{self._host}:{self._port}"

    @property
    def listener(self) -> Listener:
        """What accepts; once it has started."""
        assert isinstance(self._server, Listener)
        return self._server

    async def start(self) -> None:
        """Binds and listens.

        Raises:
            OSError: an address cannot be bound.
        """
        await super().start()
        assert isinstance(self._runner, web.AppRunner)
        sockets, ways = await bound(self._host, self._port), ShortWays.of(self._runner.app)
        listener = Listener(sockets, self._runner.server, self._limit, self._tls, ways)
        self._server = listener  # type: ignore[assignment]  # all that aiohttp asks of it is to close
        listener.listen()


async def bound(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host, bound.

    Raises:
        OSError: one cannot be.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, address in sorted({(family, address) for family, _, _, _, address in found}):
            sockets.append(_bind(family, address))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind(family: socket.AddressFamily, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {address[0]} port {address[1]}: {error.strerror}") from None
    return sock


class BoundedWeb(Web):
    """Faust's web server with this bound, and without Faust's own page at /."""

    production_blueprints: ClassVar[Any] = []

    def __init__(self, app: AppT, limit: int, shutdown_s: float = 5.0) -> None:
        super().__init__(app)
        self._limit = limit
        self._runner = web.AppRunner(self.web_app, access_log=None, shutdown_timeout=shutdown_s)

    def _create_site(self) -> BoundedSite:
        conf = self.app.conf
        process.check(self._limit)
        return BoundedSite(self._runner, str(conf.web_bind), conf.web_port, self._limit, conf.web_ssl_context)

    def show(self, tls: ssl.SSLContext) -> None:
        """Shows another certificate to clients that connect from now on."""
        for site in self._runner.sites:
            assert isinstance(site, BoundedSite)
            site.listener.tls = tls
