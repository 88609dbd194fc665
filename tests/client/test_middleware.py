"""The middleware on real Flask and Starlette apps."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from typing import Any

import flask
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from werkzeug.test import Client

from metrics_app.client.asgi import TimingMiddleware as AsgiTiming
from metrics_app.client.wsgi import TimingMiddleware as WsgiTiming


class Ledger:
    """What was recorded."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, float]] = []

    def record(self, key: str, ms: float) -> None:
        self.taken.append((key, ms))

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.taken]


def flask_app(ledger: Ledger) -> Client:
    app = flask.Flask(__name__)
    app.testing = False

    @app.get("/users/<int:number>")
    def user(number: int) -> str:
        return str(number)

    @app.post("/users/<int:number>")
    def fails(number: int) -> str:
        raise RuntimeError("on purpose")

    @app.get("/stream")
    def stream() -> flask.Response:
        def parts() -> Iterable[str]:
            for part in "abc":
                threading.Event().wait(0.03)
                yield part

        return flask.Response(parts())

    app.wsgi_app = WsgiTiming(app.wsgi_app, ledger)  # type: ignore[method-assign]  # as Flask's manual says
    return Client(app)


def test_flask_requests_are_timed_under_their_rule() -> None:
    ledger = Ledger()
    browser = flask_app(ledger)
    asked = [
        ("GET", "/users/1", 200),
        ("GET", "/users/4711", 200),
        ("POST", "/users/1", 500),
        ("GET", "/nowhere/4711", 404),
        ("DELETE", "/users/1", 405),
        ("BREW", "/users/1", 405),
    ]
    for method, path, status in asked:
        with browser.open(path, method=method) as reply:
            assert reply.status_code == status
    assert ledger.keys == [
        "GET /users/<int:number>",
        "GET /users/<int:number>",
        "POST /users/<int:number>",
        "GET *",
        "DELETE *",
        "OTHER *",
    ]
    assert all(0 < ms < 5000 for _, ms in ledger.taken)


def test_a_wsgi_response_is_timed_until_its_end() -> None:
    ledger = Ledger()
    with flask_app(ledger).get("/stream") as response:
        assert response.get_data(as_text=True) == "abc"
        assert ledger.taken == []
    ((key, ms),) = ledger.taken
    assert key == "GET /stream"
    assert 80 < ms < 5000


def test_a_wsgi_app_that_raises_is_timed_and_raises() -> None:
    ledger = Ledger()

    def app(environ: Any, start: Any) -> Iterable[bytes]:
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        WsgiTiming(app, ledger)({"REQUEST_METHOD": "GET"}, start)
    assert ledger.keys == ["GET *"]


def test_a_file_is_left_to_the_server() -> None:
    ledger = Ledger()

    class FileWrapper:
        def __iter__(self) -> Any:
            return iter([b"x"])

    sent = FileWrapper()
    environ = {"REQUEST_METHOD": "GET", "wsgi.file_wrapper": FileWrapper}
    assert WsgiTiming(lambda environ, start: sent, ledger)(environ, start) is sent
    assert ledger.keys == ["GET *"]


def start(*arguments: Any) -> None:
    """A server's start_response."""


def test_a_key_function_of_the_app_is_used_and_may_fail() -> None:
    ledger = Ledger()
    for key in (lambda environ: "mine", lambda environ: environ["absent"]):
        response: Any = WsgiTiming(lambda environ, start: [b""], ledger, key=key)({"REQUEST_METHOD": "GET"}, start)
        assert list(response) == [b""]
        assert len(ledger.taken) < 2
        response.close()
        response.close()
    assert ledger.keys == ["mine", "GET *"], "once, when it is closed"


async def user(request: Request) -> Response:
    return PlainTextResponse(str(request.path_params["number"]))


async def fails(request: Request) -> Response:
    raise RuntimeError("on purpose")


async def stream(request: Request) -> Response:
    async def parts() -> Any:
        for part in "abc":
            await asyncio.sleep(0.03)
            yield part

    return StreamingResponse(parts(), background=BackgroundTask(asyncio.sleep, 0.3))


def starlette_app(ledger: Ledger) -> Any:
    app = Starlette(
        routes=[
            Route("/users/{number:int}", user),
            Route("/fails", fails),
            Route("/stream", stream),
            Mount("/tenants/{tenant}", routes=[Route("/users/{number:int}", user), Route("/", user)]),
        ]
    )
    return AsgiTiming(app, ledger)


async def call(app: Any, path: str, method: str = "GET", kind: str = "http") -> int:
    sent: list[Any] = []

    received = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        for message in received:
            return message
        return await asyncio.Event().wait()  # the peer stays

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "root_path": "",
    }
    await app(scope, receive, send)
    return int(sent[0].get("status", 0))


async def test_starlette_requests_are_timed_under_their_template() -> None:
    ledger = Ledger()
    app = starlette_app(ledger)
    for path in ("/users/1", "/users/4711", "/tenants/a/users/1", "/tenants/b/users/2"):
        assert await call(app, path) == 200
    assert await call(app, "/nowhere/1") == 404
    assert await call(app, "/users/1", "DELETE") == 405
    with pytest.raises(RuntimeError, match="on purpose"):
        await call(app, "/fails")
    assert ledger.keys == [
        "GET /users/{number:int}",
        "GET /users/{number:int}",
        "GET /tenants/{tenant}/users/{number:int}",
        "GET /tenants/{tenant}/users/{number:int}",
        "GET *",
        "DELETE /users/{number:int}",
        "GET /fails",
    ]


async def test_an_asgi_response_is_timed_until_its_end_and_no_longer() -> None:
    ledger = Ledger()
    began = time.monotonic()
    assert await call(starlette_app(ledger), "/stream") == 200
    whole_ms = 1000 * (time.monotonic() - began)
    ((key, ms),) = ledger.taken
    assert key == "GET /stream"
    assert 80 < ms < whole_ms - 290, "the background task took 300 ms more"


@pytest.mark.parametrize(("line", "status_class"), [("204 No Content", "2xx"), ("teapot", "5xx"), ("999 Odd", "5xx")])
def test_the_class_of_a_wsgi_status_is_one_of_five(line: str, status_class: str) -> None:
    ledger = Ledger()

    def app(environ: Any, start: Any) -> Iterable[bytes]:
        start(line, [])
        return [b""]

    response: Any = WsgiTiming(app, ledger, status_class=True)({"REQUEST_METHOD": "GET"}, start)
    response.close()
    assert ledger.keys == [f"GET * {status_class}"]


async def test_a_request_without_a_reply_is_a_5xx_and_a_key_of_the_app_gets_the_class_too() -> None:
    ledger = Ledger()

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        await call(AsgiTiming(fails, ledger, key=lambda scope: "mine", status_class=True), "/")
    assert ledger.keys == ["mine 5xx"]


async def test_an_app_may_note_its_route_itself() -> None:
    ledger = Ledger()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["metrics_app.route"] = "/users/{id}"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    await call(AsgiTiming(app, ledger), "/users/4711")
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/shop", "metrics_app.route": "/users/<id>"}
    response: Any = WsgiTiming(lambda environ, start: [b""], ledger)(environ, start)
    response.close()
    assert ledger.keys == ["GET /users/{id}", "GET /shop/users/<id>"]


async def test_what_is_no_http_request_passes_untimed() -> None:
    ledger = Ledger()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})

    await call(AsgiTiming(app, ledger), "/", kind="websocket")
    assert ledger.taken == []
