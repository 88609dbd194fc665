"""The lifespan of an ASGI app: its end is the last event that a server reports before the process ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, runtime_checkable

from metrics_app.client.aside import aside

Message = MutableMapping[str, Any]

_OVER = ("lifespan.shutdown.complete", "lifespan.shutdown.failed")


@runtime_checkable
class Sends(Protocol):
    """A client."""

    def send_now(self) -> None:
        """Sends what it has; takes a while."""


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
