from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, web

from metrics_app.faust_runtime import web_server
from metrics_app.faust_runtime.web_server import BoundedSite
from metrics_app.kafka.ports import free_port

SILENCE_S = 0.3


@asynccontextmanager
async def serving(silence_s: float) -> AsyncIterator[int]:
    """A server for two connections that wants a request within that time and answers after twice SILENCE_S."""

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(2 * SILENCE_S)
        return web.Response(text="here")

    app = web.Application()
    app.router.add_get("/", slow)
    runner = web.AppRunner(app, keepalive_timeout=silence_s, shutdown_timeout=1)
    await runner.setup()
    port = free_port()
    await BoundedSite(runner, "127.0.0.1", port, limit=2, tls=None).start()
    yield port
    await runner.cleanup()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Of a server that soon closes what is silent."""
    async with serving(SILENCE_S) as port:
        yield port


@pytest.fixture
async def patient() -> AsyncIterator[int]:
    """Of a server that waits for a request as long as a test takes."""
    async with serving(60) as port:
        yield port


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: a"])
async def test_a_connection_without_a_whole_request_is_closed(port, said):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    started = time.monotonic()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    assert time.monotonic() - started >= SILENCE_S / 2
    await close(writer)


async def test_a_request_that_takes_longer_than_that_is_answered_and_its_connection_used_again(port):
    async with ClientSession() as session:
        for _ in range(2):
            async with session.get(f"http://127.0.0.1:{port}/") as reply:
                assert await reply.text() == "here"


async def test_a_connection_over_the_limit_gets_a_503_and_the_others_go_on(patient):
    held = [await asyncio.open_connection("127.0.0.1", patient) for _ in range(2)]
    for _, writer in held:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.sleep(0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", patient)
    assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 503")
    assert (await asyncio.wait_for(held[0][0].readline(), 20)).startswith(b"HTTP/1.1 200")
    for other in [writer, *(writer for _, writer in held)]:
        await close(other)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: a"])
async def test_who_has_asked_nothing_makes_room_for_the_next_the_longest_silent_first(patient, said):
    held = [await asyncio.open_connection("127.0.0.1", patient) for _ in range(2)]
    for _, writer in held:
        writer.write(said)
    await asyncio.sleep(0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", patient)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await asyncio.wait_for(held[0][0].read(), 20) == b""
    assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 200")
    for other in [writer, *(writer for _, writer in held)]:
        await close(other)


async def test_without_a_descriptor_those_who_connect_wait_and_are_then_accepted(patient, monkeypatch):
    accepts = iter([OSError(24, "Too many open files")] * 2)
    accept = socket.socket.accept

    def failing(sock):
        if (error := next(accepts, None)) is not None:
            raise error
        return accept(sock)

    monkeypatch.setattr(socket.socket, "accept", failing)
    monkeypatch.setattr(web_server, "PAUSE_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", patient)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 200")
    await close(writer)
