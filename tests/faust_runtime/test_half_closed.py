"""Clients that close their side and wait: what counts is answered, what is not answered does not count."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from metrics_app.collector.views import SampleIntake
from metrics_app.configuration import load
from metrics_app.faust_runtime.web_server import BoundedSite
from metrics_app.http import tls
from metrics_app.http.problems import HANDLER_ARGS, problem_middleware
from metrics_app.kafka.ports import free_port
from metrics_app.telemetry import Telemetry
from tests import certificates
from tests.collector.fakes import FakeSink

ACK_S = 0.05  # so that the end of the input comes before the reply
BODY = b'["a",1]'
POST = b"POST /samples HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(BODY)


class SlowSink(FakeSink):
    """Takes as long as Kafka."""

    async def publish(self, chunks: Any) -> None:
        await asyncio.sleep(ACK_S)
        await super().publish(chunks)

    @property
    def counted(self) -> int:
        return sum(len(chunk.values) // 8 for chunk in self.chunks)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return certificates.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def sink() -> SlowSink:
    return SlowSink()


Serve = Callable[..., Any]


@pytest.fixture
async def serve(sink: SlowSink) -> AsyncIterator[Serve]:
    """Starts a collector on a port, which is returned."""
    runners: list[web.AppRunner] = []

    async def run(**settings: Any) -> int:
        effective = load(**settings)
        telemetry = Telemetry()
        app = web.Application(middlewares=[problem_middleware(telemetry)])
        app.router.add_post("/samples", SampleIntake(effective, telemetry, sink).take)
        runners.append(web.AppRunner(app, access_log=None, shutdown_timeout=1, **cast(Any, HANDLER_ARGS)))
        await runners[-1].setup()
        port = free_port()
        await BoundedSite(runners[-1], "127.0.0.1", port, 100, tls.server_side(effective)).start()
        return port

    yield run
    for runner in runners:
        await runner.cleanup()


def spoken(port: int, *parts: bytes) -> bytes:
    """What comes back for these parts, the last of which is followed by the end of our side."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        return everything(connection.recv)


def everything(read: Callable[[int], bytes]) -> bytes:
    parts = []
    while part := read(1 << 16):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (POST + BODY, 1),
        ((POST + BODY) * 5, 5),
        ((POST + BODY) * 40, 40),  # more than are parsed ahead
        (POST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + BODY, 1),
        (POST.replace(b"HTTP/1.1", b"HTTP/1.0") + BODY, 1),
        (
            b"POST /samples HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n"
            + BODY
            + b"\r\n0\r\n\r\n",
            1,
        ),
        (POST + BODY + b"POST /samples HTTP/1.1\r\nHo", 1),
    ],
)
async def test_every_whole_request_before_the_end_is_answered(serve: Serve, sink: SlowSink, sent: bytes, answers: int):
    reply = await asyncio.to_thread(spoken, await serve(), sent)
    assert reply.count(b" 202 Accepted") == answers
    assert reply.count(b" 202 ") == sink.counted


CHUNKED = POST.replace(b"Content-Length: 7", b"Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    "sent",
    [
        POST + BODY[:3],
        POST,
        POST.replace(b"th: 7", b"th: 900000") + BODY * 10_000,
        CHUNKED + b"7\r\n" + BODY[:3],
    ],
)
async def test_a_body_that_the_end_cuts_off_is_refused_and_nothing_of_it_counts(
    serve: Serve, sink: SlowSink, sent: bytes, caplog: pytest.LogCaptureFixture
):
    """That is no error of ours, and the log says nothing of it."""
    reply = await asyncio.to_thread(spoken, await serve(), POST + BODY, sent)
    assert reply.count(b" 202 Accepted") == 1
    assert b" 400 Bad Request" in reply
    assert b"the body broke off" in reply
    assert sink.counted == 1
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_a_large_body_before_the_end_is_read_to_its_end(serve: Serve, sink: SlowSink):
    body = b"[" + b",".join([BODY] * 90_000) + b"]"
    port = await serve()
    reply = await asyncio.to_thread(spoken, port, POST.replace(b"th: 7", b"th: %d" % len(body)), body)
    assert reply.startswith(b"HTTP/1.1 202")
    assert sink.counted == 90_000


async def test_who_says_nothing_and_closes_its_side_is_let_go(serve: Serve):
    assert await asyncio.to_thread(spoken, await serve()) == b""
    assert await asyncio.to_thread(spoken, await serve(), POST[:20]) == b""


def spoken_over_tls(port: int, files: dict[str, Path], farewell: bool, version: ssl.TLSVersion, sent: bytes) -> bytes:
    """The same over TLS: our side ends with a farewell of TLS, or with the end of TCP alone."""
    context = ssl.create_default_context(cafile=files["tls_ca_file"])
    context.maximum_version = version
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    talk = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:

        def send() -> None:
            if outgoing.pending:  # a server that takes leave is not answered once our side has ended
                with contextlib.suppress(BrokenPipeError):
                    connection.sendall(outgoing.read())

        def until_done(step: Callable[[], Any]) -> Any:
            while True:
                try:
                    result = step()
                except ssl.SSLWantReadError:
                    send()
                    if part := connection.recv(1 << 16):
                        incoming.write(part)
                    else:
                        incoming.write_eof()
                else:
                    send()
                    return result

        until_done(talk.do_handshake)
        until_done(lambda: talk.write(sent))
        if farewell:
            with pytest.raises(ssl.SSLWantReadError):
                talk.unwrap()
            connection.sendall(outgoing.read())
        else:
            connection.shutdown(socket.SHUT_WR)
        return everything(lambda size: until_done(lambda: read(talk, size)))


def read(talk: ssl.SSLObject, size: int) -> bytes:
    try:
        return talk.read(size)
    except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
        return b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("farewell", [True, False])
@pytest.mark.parametrize("count", [1, 5])
async def test_the_same_over_tls(
    serve: Serve, sink: SlowSink, files: dict[str, Path], farewell: bool, version: ssl.TLSVersion, count: int
):
    port = await serve(**files)
    reply = await asyncio.to_thread(spoken_over_tls, port, files, farewell, version, (POST + BODY) * count)
    assert reply.count(b" 202 Accepted") == count
    assert sink.counted == count


async def test_a_cut_off_body_over_tls_is_refused(serve: Serve, sink: SlowSink, files: dict[str, Path]):
    port = await serve(**files)
    reply = await asyncio.to_thread(
        spoken_over_tls, port, files, False, ssl.TLSVersion.TLSv1_3, POST + BODY + POST + BODY[:2]
    )
    assert (reply.count(b" 202 Accepted"), reply.count(b" 400 Bad Request"), sink.counted) == (1, 1, 1)


async def test_a_large_body_over_tls_before_the_end_is_read_to_its_end(
    serve: Serve, sink: SlowSink, files: dict[str, Path]
):
    body = b"[" + b",".join([BODY] * 90_000) + b"]"
    port = await serve(**files)
    sent = POST.replace(b"th: 7", b"th: %d" % len(body)) + body
    reply = await asyncio.to_thread(spoken_over_tls, port, files, False, ssl.TLSVersion.TLSv1_3, sent)
    assert reply.startswith(b"HTTP/1.1 202")
    assert sink.counted == 90_000
