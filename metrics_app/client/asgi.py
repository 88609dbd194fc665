"""ASGI middleware: how long each request of an app took, errors included.

Called by `client` and `signals`.

The lifespan of an ASGI app: its end is the last event that a server reports before the process ends.

Servers that put back the signal handlers they found, and end by the signal they got: uvicorn, from 0.29 on.

A client that is made while such a server runs finds the server's handler, and not the one that will be there at the
end. So what waits is sent at the end of the server's own shutdown, its last step before that signal.

Runs what blocks outside of the event loop.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from time import perf_counter
from typing import Any, Protocol, TypeVar, runtime_checkable

from metrics_app.client.routes import AsgiRoutes, request_key, with_status
from metrics_app.client.timer import MS, Recorder

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Key = Callable[[Mapping[str, Any]], str]


class TimingMiddleware:
    """Times each HTTP request of an ASGI app from its call until the last of its response was sent.

    What an app does after its response, background tasks say, is not part of that. WebSockets are not timed. When the
    server ends, what was recorded is sent before the app's lifespan is over: some servers end by the signal they got.

    >>> app.add_middleware(TimingMiddleware, client=client)  # Starlette, FastAPI

    Args:
        app: the ASGI app.
        client: what records.
        key: the key of a request, from its scope after it was routed; by default method and route template, as far as
            the framework notes it there.
        status_class: whether the class of the status is added to the key, as in "GET /users/{id} 2xx".
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        client: Recorder,
        key: Key | None = None,
        *,
        status_class: bool = False,
    ) -> None:
        self._app = app
        self._client = client
        self._key = key or AsgiRoutes()
        self._status_class = status_class

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app's response."""
        if scope["type"] == "lifespan":
            await Lifespan(self._app, self._client)(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        recorded = False
        status = 0

        async def timed_send(message: Message) -> None:
            nonlocal recorded, status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False) and not recorded:
                recorded = True
                self._record(scope, status, started)

        try:
            await self._app(scope, receive, timed_send)
        finally:
            if not recorded:  # it raised, or the peer went away
                self._record(scope, status, started)

    def _record(self, scope: Scope, status: int, started: float) -> None:
        took_ms = (perf_counter() - started) * MS
        try:
            key = self._key(scope)
        except Exception:
            key = request_key(scope.get("method", ""), None)
        self._client.record(with_status(key, status) if self._status_class else key, took_ms)


_OVER = ("lifespan.shutdown.complete", "lifespan.shutdown.failed")


@runtime_checkable
class Sends(Protocol):
    """A client."""

    def send_now(self) -> None:
        """Sends all waiting values; may take up to `exit_timeout_s`."""


class Lifespan:
    """That of an app, at the end of which a client sends what it has. An app that knows of none gets one.

    Args:
        app: the ASGI app.
        client: the client; what cannot send is left alone.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], client: object) -> None:
        self._app = app
        self._client = client
        self._app_takes_part = False

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Runs it to its end."""

        async def received() -> Message:
            self._app_takes_part = True
            return await receive()

        async def sent(message: Message) -> None:
            if message["type"] in _OVER:
                await self._send_now()
            await send(message)

        try:
            await self._app(scope, received, sent)
        except Exception:
            if self._app_takes_part:
                raise
        if not self._app_takes_part:
            await self._alone(receive, sent)

    async def _alone(
        self, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        for phase in ("lifespan.startup", "lifespan.shutdown"):
            while (await receive())["type"] != phase:
                pass
            await send({"type": f"{phase}.complete"})

    async def _send_now(self) -> None:
        if isinstance(self._client, Sends):
            await aside(self._client.send_now)


def follow(handler: object, last_words: Callable[[], None]) -> None:
    """Calls `last_words` when the uvicorn server that owns the handler has shut down, and for no other handler."""
    server: Any = getattr(handler, "__self__", None)
    module: Any = sys.modules.get("uvicorn.server")
    if module is None or not isinstance(server, module.Server):
        return
    shutdown = server.shutdown

    async def shut_down(*arguments: Any, **named: Any) -> None:
        try:
            await shutdown(*arguments, **named)
        finally:
            await aside(last_words)

    server.shutdown = shut_down


R = TypeVar("R")


async def aside(function: Callable[[], R]) -> R:
    """Runs the function in another thread and returns its result.

    Where no thread can be had it runs here: as the interpreter ends, or in a loop that is not asyncio's.
    """
    try:
        future = asyncio.get_running_loop().run_in_executor(None, function)
    except RuntimeError:
        return function()
    return await future
