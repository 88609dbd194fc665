"""ASGI middleware: how long each request of an app took, errors included."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from time import perf_counter
from typing import Any

from metrics_app.client.lifespan import Lifespan
from metrics_app.client.routes import AsgiRoutes, request_key
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
    """

    def __init__(self, app: Callable[..., Awaitable[None]], client: Recorder, key: Key | None = None) -> None:
        self._app = app
        self._client = client
        self._key = key or AsgiRoutes()

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

        async def timed_send(message: Message) -> None:
            nonlocal recorded
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False) and not recorded:
                recorded = True
                self._record(scope, started)

        try:
            await self._app(scope, receive, timed_send)
        finally:
            if not recorded:  # it raised, or the peer went away
                self._record(scope, started)

    def _record(self, scope: Scope, started: float) -> None:
        took_ms = (perf_counter() - started) * MS
        try:
            key = self._key(scope)
        except Exception:
            key = request_key(scope.get("method", ""), None)
        self._client.record(key, took_ms)
