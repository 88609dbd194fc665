"""Sends requests to WSGI and ASGI apps in this process; needs nothing but the standard library."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from wsgiref.util import setup_testing_defaults


class Ledger:
    """What was recorded."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def record(self, key: str, ms: float) -> None:
        assert 0 < ms < 60_000
        self.keys.append(key)


def over_wsgi(app: Any, *requests: str) -> list[int]:
    """The statuses of requests such as "GET /users/1"."""
    return [_one_over_wsgi(app, *request.split(" ")) for request in requests]


def _one_over_wsgi(app: Any, method: str, path: str) -> int:
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path}
    setup_testing_defaults(environ)
    environ["SCRIPT_NAME"] = ""
    statuses: list[str] = []
    response = app(environ, lambda status, headers, exc_info=None: statuses.append(status))
    for _ in response:
        pass
    if hasattr(response, "close"):
        response.close()
    return int(statuses[-1][:3])


def over_asgi(app: Any, *requests: str) -> list[int]:
    """The statuses of requests such as "GET /users/1"."""

    async def all_of_them() -> list[int]:
        return [await _one_over_asgi(app, *request.split(" ")) for request in requests]

    return asyncio.run(all_of_them())


async def _one_over_asgi(app: Any, method: str, path: str) -> int:
    statuses: list[int] = []
    waiting: Sequence[Any] = [{"type": "http.request", "body": b"", "more_body": False}]
    received = iter(waiting)

    async def receive() -> Any:
        for message in received:
            return message
        return await asyncio.Event().wait()  # the peer stays

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"testserver")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "extensions": {},
    }
    await app(scope, receive, send)
    return statuses[0]
