"""Clients that send much at once, or read nothing, hold nobody up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress

import pytest
from aiohttp import web

from metrics_app.faust_runtime import connection
from metrics_app.faust_runtime.web_server import BoundedSite
from metrics_app.kafka.ports import free_port

GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONG = b"x" * (1 << 20)


class Server:
    """Answers at once, and notes what it was asked: /long with a megabyte, /held when told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.port = free_port()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path == "/held":
            await self.may_answer.wait()
        return web.Response(body=LONG if request.path == "/long" else b"here")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        app = web.Application()
        app.router.add_route("*", "/{path}", self.answer)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        await BoundedSite(runner, "127.0.0.1", self.port, limit=600, tls=None).start()
        try:
            yield self
        finally:
            self.may_answer.set()
            await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server().running() as running:
        yield running


async def reply_to(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    finally:
        await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def unread(port: int, request: bytes) -> socket.socket:
    """A client with a small buffer that sends and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(request)
    return client


async def received(client: socket.socket) -> int:
    """Bytes until the end."""
    size = 0
    while part := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1 << 20), 5):
        size += len(part)
    return size


async def test_who_does_not_read_is_not_answered_further_and_is_let_go(server, monkeypatch):
    monkeypatch.setattr(connection, "WRITE_S", 0.3)
    with closing(unread(server.port, GET % b"/long" * 20)) as client:
        await asyncio.sleep(0.2)
        assert len(server.asked) <= 2, "the second waits until the first is read"
        await asyncio.sleep(0.6)
        client.setblocking(False)
        with pytest.raises(ConnectionError):
            await received(client)


async def test_who_reads_slowly_gets_everything(server, monkeypatch):
    monkeypatch.setattr(connection, "WRITE_S", 1.0)
    with closing(unread(server.port, GET % b"/long" * 2)) as client:
        client.setblocking(False)
        got = 0
        async with asyncio.timeout(30):
            while got < 2 * len(LONG):
                got += len(await asyncio.get_running_loop().sock_recv(client, 256 << 10))
                await asyncio.sleep(0.02)
    assert server.asked == ["/long", "/long"]


async def test_a_single_request_passes_by_those_that_were_sent_at_once(server):
    clients = [unread(server.port, GET % b"/many" * 30) for _ in range(20)]
    await asyncio.sleep(0)
    assert (await reply_to(server.port, GET % b"/single")).startswith(b"HTTP/1.1 200")
    asked_before = server.asked.index("/single")
    async with asyncio.timeout(20):
        while server.asked.count("/many") < 600:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.01)
    assert asked_before < 300, "of 600 that were there before"
    for client in clients:
        client.close()


async def test_questions_beyond_what_may_wait_are_refused_at_once_but_no_health_check_and_no_sample(monkeypatch):
    monkeypatch.setattr(connection, "BEGUN_A_TURN", 1)
    monkeypatch.setattr(connection, "QUESTIONS_WAITING", 0)
    async with Server().running() as server:
        opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(12)]
        await asyncio.sleep(0.05)
        sample = b"POST /samples HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        for (_, writer), request in zip(opened, [*[GET % b"/q"] * 10, GET % b"/livez", sample], strict=True):
            writer.write(request)
        heads = [await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20) for reader, _ in opened]
        for _, writer in opened:
            await close(writer)
    refused = [head for head in heads[:10] if head.startswith(b"HTTP/1.1 503")]
    assert 0 < len(refused) < 10
    assert all(b"Retry-After: 1" in head and b"application/problem+json" in head for head in refused)
    assert all(head.startswith(b"HTTP/1.1 200") for head in heads[10:])
