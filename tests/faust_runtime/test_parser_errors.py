"""What the HTTP parser, and aiohttp before our middleware, refuse is answered like everything else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiohttp import web

from metrics_app.faust_runtime.web_server import BoundedSite
from metrics_app.http.problems import HEADERS, PROBLEM
from metrics_app.kafka.ports import free_port


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server without any middleware of ours."""

    async def here(request: web.Request) -> web.Response:
        return web.Response(text="here")

    app = web.Application()
    app.router.add_get("/", here)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await BoundedSite(runner, "127.0.0.1", port, limit=9, tls=None).start()
    yield port
    await runner.cleanup()


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"secret" * 5000 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: \xff\r\nConnection: close\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: gold\r\nConnection: close\r\n\r\n", 417),
    ],
)
async def test_what_is_no_request_gets_a_problem_document_that_repeats_nothing(port, said, status, caplog):
    caplog.set_level(logging.DEBUG)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    head, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
    writer.close()
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    document = msgspec.json.decode(body)
    assert (document["status"], headers["Content-Type"]) == (status, PROBLEM)
    assert headers.items() >= {**HEADERS, "Cache-Control": "no-store"}.items()
    assert "secret" not in document["detail"] + caplog.text
