"""Requests get the same bytes, counters and samples with the lane for small requests and without it."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from pydantic import SecretStr

from metrics_app.collector import views
from metrics_app.collector.views import SampleIntake, add_lane
from metrics_app.configuration import load
from metrics_app.errors import OverloadedError
from metrics_app.faust_runtime import connection, small_requests
from metrics_app.faust_runtime.small_requests import NOT_PLAIN, ROUTES, SmallRoute, plain_head
from metrics_app.faust_runtime.web_server import BoundedSite
from metrics_app.http.access import Access
from metrics_app.http.problems import HANDLER_ARGS, answering, problem_middleware
from metrics_app.http.tokens import new_token
from metrics_app.kafka.ports import free_port
from metrics_app.settings import Settings
from metrics_app.telemetry import Telemetry
from tests.collector.fakes import FakeSink, until

BODY = b'["checkout",12.5]'
NOW_S = 1_790_000_000.0
Script = list[bytes]  # what is sent, each part once the server has had time for the one before
STATUS = re.compile(rb"HTTP/1.1 (\d+)")
DATE = re.compile(rb"Date: [^\r]+")


class Heard(asyncio.Protocol):
    """What came back, even if it ends with a reset."""

    def __init__(self) -> None:
        self.said, self.end = bytearray(), asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.said += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.end.set()


class Worker:
    """A collector on loopback, real but for what its samples go into."""

    def __init__(self, settings: Settings, is_dated: Callable[[], bool] = lambda: True) -> None:
        self.settings, self.telemetry, self.sink = settings, Telemetry(), FakeSink()
        self.is_dated = is_dated
        self.port, self.by_lane = free_port(), 0
        self.intake = SampleIntake(settings, self.telemetry, self.sink)

    async def start(self) -> None:
        access = Access(self.settings)
        app = web.Application(middlewares=[problem_middleware(self.telemetry, access)])
        app.router.add_post("/samples", self.intake.take)
        app.router.add_get("/livez", self._livez)
        app.on_response_prepare.append(self._hide_date)
        if self.settings.small_request_lane:
            answer = answering(self.telemetry, "/samples", self.intake.take)
            add_lane(app, self.settings, SmallRoute(self._counted(answer), self.is_dated, access.passes))
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, **cast(Any, HANDLER_ARGS))
        await self.runner.setup()
        await BoundedSite(self.runner, "127.0.0.1", self.port, 100, None).start()

    def _counted(self, answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def serve(request: Any) -> Any:
            self.by_lane += 1
            return answer(request)

        return serve

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _hide_date(self, _request: web.Request, response: web.StreamResponse) -> None:
        if not self.is_dated():
            response.headers.pop("Date", None)

    async def said(self, script: Script) -> bytes:
        """All that comes back for a script, after which our side is closed."""
        heard = Heard()
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: heard, "127.0.0.1", self.port)
        for part in script:
            transport.write(part)
            await asyncio.sleep(0.0015 if len(script) > 1 else 0)
        with suppress(OSError):  # the worker has closed
            transport.write_eof()
        try:
            await asyncio.wait_for(heard.end.wait(), 10)
        finally:
            transport.abort()
        return bytes(heard.said)

    def counted(self) -> dict[str, float]:
        """Its counters, and what it knows of its clients."""
        lines = self.telemetry.exposition().decode().splitlines()
        found = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}
        return {name: value for name, value in found.items() if "_created" not in name and "process_" not in name} | {
            f"client {name}": value
            for client in self.intake._senders.top("rows")["top"]
            for name, value in client.items()
        }


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LOOK_INTERVAL_S", 0.001)
    monkeypatch.setattr(small_requests, "LOOK_INTERVAL_S", 0.001)
    monkeypatch.setattr(views, "time", SimpleNamespace(time=lambda: NOW_S))


@pytest.fixture
async def both() -> AsyncIterator[tuple[Worker, Worker]]:
    """One with the lane, one without it."""
    workers = tuple(Worker(load(max_remembered_keys=50, small_request_lane=lane)) for lane in (True, False))
    for worker in workers:
        await worker.start()
    yield cast(tuple[Worker, Worker], workers)
    for worker in workers:
        await worker.runner.cleanup()


async def same(both: tuple[Worker, Worker], script: Script) -> bytes:
    """What both say, which must be the same; but for the second in which they say it."""
    ours, theirs = [DATE.sub(b"Date: x", said) for said in await asyncio.gather(*(each.said(script) for each in both))]
    assert ours == theirs, script
    assert both[0].counted() == both[1].counted(), script
    assert both[0].sink.chunks == both[1].sink.chunks, script
    for each in both:
        each.sink.chunks.clear()
    return ours


def request(body: bytes = BODY, *headers: bytes, line: bytes = b"POST /samples HTTP/1.1", length: bytes = b"") -> bytes:
    given = [b"Host: 127.0.0.1:1", *headers, b"Content-Length: " + (length or b"%d" % len(body))]
    return line + b"\r\n" + b"\r\n".join(given) + b"\r\n\r\n" + body


BODIES = (
    BODY,
    b'{"key":"checkout","value":3}',
    b'{"key":"a","value":1,"timestamp":1789999999,"id":"x"}',
    b'[["a",1],["b",2],{"key":"c","value":-1}]',
    b'["a",1,1]',
    b'["a",-1]',
    b'{"key":"a","value":1,"more":2}',
    b"[]",
    b"",
    b" ",
    b"{",
    b'["a",NaN]',
    b'["a", -0.0]',
    b'["a",1,null]',
    b'["a",1,1789999999]',
    b' ["a",1]',
    b'["a",1] ',
    b'["a",1]["a",1]',
    b'["",1]',
    b'["a\\u0001",1]',
    b'["\\ud800",1]',
    b'{"key":"a","value":1,"id":null}',
    b'{"key":"a","key":"b","value":1}',
    b"\xef\xbb\xbf[1]",
    b"\xff\xfe",
    b"[" * 500,
    '{"key":"Straße \\u00e9","value":1e3}'.encode(),
    b'["' + b"k" * 300 + b'",1]',
    b"[" + b",".join([BODY] * 300) + b"]",
    b"[" + b",".join([BODY] * 2000) + b"]",
    b'{"series":[{"key":"a","hour":497222,"values":[1,2]}]}',
)
HEADERS = (
    b"Content-Type: application/json",
    b"Content-Type: text/csv",
    b"content-type: application/json; charset=latin-1",
    b"Content-Type: application/x-ndjson",
    b"Content-Type: application/msgpack",
    b"Content-Type: \xff",
    b"CONTENT-TYPE:application/json",
    b"Accept: */*",
    b"User-Agent: a",
    b"User-Agent: a\tb",
    b"User-Agent : a",
    b"User-Agent: a\r\n b",
    b"Connection: keep-alive",
    b"Connection: Keep-Alive",
    b"Connection: close",
    b"Connection: upgrade",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"Expect: wonders",
    b"Content-Encoding: gzip",
    b"Content-Encoding: br",
    b"Content-Encoding: identity",
    b"Transfer-Encoding: chunked",
    b"Content-Length: 5",
    b"Host: b",
    b"X-Metrics-Hop: 1",
    b"Origin: http://a",
    b"Authorization: Bearer a",
    b"X-Forwarded-For: 1.2.3.4",
    b"Idempotency-Key: one",
    b'Idempotency-Key: "two"',
    b"Idempotency-Key: ",
    b"Idempotency-Key: \xe9",
    b"idempotency-key: low",
    b"metrics-dropped: key=2",
    b"Metrics-Dropped: overflow=120, value=3",
    b"Metrics-Dropped: overflow",
    b"Metrics-Dropped: ",
    b"a" * 2000 + b": b",
    b"",
    b":",
    b"a",
)
HOSTS = (b"127.0.0.1", b"localhost:80", b"LOCALHOST.", b"[::1]:1", b"evil.example", b"", b"a b", b"10.0.0.1", b"\xe9")
LINES = (
    b"POST /samples HTTP/1.1",
    b"POST /samples HTTP/1.0",
    b"POST /samples HTTP/2.0",
    b"POST /samples?a=1 HTTP/1.1",
    b"POST /Samples HTTP/1.1",
    b"POST http://a/samples HTTP/1.1",
    b"POST /%73amples HTTP/1.1",
    b"post /samples HTTP/1.1",
    b"GET /samples HTTP/1.1",
    b"HEAD /livez HTTP/1.1",
    b"GET /livez HTTP/1.1",
    b"POST  /samples HTTP/1.1",
    b"\r\nPOST /samples HTTP/1.1",
    b"CONNECT a:1 HTTP/1.1",
    b"nonsense",
)


def generated(seed: int, count: int) -> Iterator[Script]:
    """Requests, most of which have something unusual; alone, in pieces, and several on a connection."""
    chosen = random.Random(seed)
    for _ in range(count):
        whole = [_one(chosen) for _ in range(chosen.choice((1, 1, 1, 2, 3)))]
        match chosen.randrange(4):
            case 0:
                yield [b"".join(whole)]
            case 1:
                text = b"".join(whole)
                cuts = sorted(chosen.randrange(len(text)) for _ in range(chosen.randrange(1, 4)))
                yield [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
            case _:
                yield whole


def _one(chosen: random.Random) -> bytes:
    headers = chosen.sample(HEADERS, chosen.choice((0, 1, 1, 2, 3)))
    line = LINES[0] if chosen.random() < 0.7 else chosen.choice(LINES)
    length = (
        b"" if chosen.random() < 0.9 else chosen.choice((b"0", b"+17", b"017", b"17 ", b"1_7", b"-1", b"16", b"18"))
    )
    text = request(chosen.choice(BODIES), *headers, line=line, length=length)
    if chosen.random() < 0.1:
        at = chosen.randrange(len(text))
        text = text[:at] + bytes([chosen.randrange(256)]) + text[at + chosen.randrange(2) :]
    if chosen.random() < 0.05:
        text = text.replace(b"\r\n", b"\n")
    return text


@pytest.mark.parametrize(
    ("seed", "count"), [(1, 400), *(pytest.param(seed, 1500, marks=pytest.mark.slow) for seed in (2, 3))]
)
async def test_any_requests_get_the_same_answers_and_counters(both: tuple[Worker, Worker], seed: int, count: int):
    for number, script in enumerate(generated(seed, count)):
        for each in both:
            each.sink.failure = (None, None, None, OverloadedError("away", 3, "kafka"), ValueError("a bug"))[number % 5]
        await same(both, script)
    assert both[0].by_lane > count // 20


async def test_every_body_and_header_alone_gets_the_same_answer(both: tuple[Worker, Worker]):
    for body in BODIES:
        await same(both, [request(body, b"Content-Type: application/json")] * 2)
    assert both[0].by_lane >= 2 * (len(BODIES) - 2)  # the largest are aiohttp's
    for header in HEADERS:
        await same(both, [request(BODY, header)] * 2)
    for line in LINES:
        await same(both, [request(BODY, line=line), request()])
    for host in HOSTS:
        await same(both, [request().replace(b"127.0.0.1:1", host)] * 2)


async def test_with_tokens_every_request_is_aiohttps(tmp_path: Path):
    file = tmp_path / "tokens"
    file.write_text(new_token("a", ["ingest"], [])[1])
    file.chmod(0o600)
    worker = Worker(load(tokens_file=file, cluster_token=SecretStr("a")))
    await worker.start()
    assert STATUS.findall(await worker.said([request()])) == [b"401"]
    assert worker.by_lane == 0
    await worker.runner.cleanup()


async def test_a_request_cut_anywhere_gets_the_same_answer(both: tuple[Worker, Worker]):
    text = request(BODY, b"Content-Type: application/json")
    for at in range(1, len(text)):
        await same(both, [text[:at], text[at:], text])
    assert both[0].by_lane == len(BODY)  # a body that comes late leaves the next request of the connection to the lane


async def test_idempotency_keys_mean_the_same(both: tuple[Worker, Worker]):
    key = b"Idempotency-Key: k"
    said = await same(both, [request(BODY, key), request(BODY, key), request(b'["a",1]', key), request()])
    assert STATUS.findall(said) == [b"202", b"202", b"422", b"202"]
    assert both[0].by_lane == 4


async def test_a_clock_that_is_not_vouched_for_shows_no_date():
    worker = Worker(load(), is_dated=lambda: False)
    await worker.start()
    said = await worker.said([request()])
    assert said.startswith(b"HTTP/1.1 202")
    assert b"Date" not in said
    assert worker.by_lane == 1
    await worker.runner.cleanup()


class HeldSink(FakeSink):
    """Lets nothing go before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def publish(self, chunks: Any) -> None:
        self.entered.set()
        await self.gate.wait()
        await super().publish(chunks)


@pytest.fixture
async def held() -> AsyncIterator[Worker]:
    worker = Worker(load())
    worker.sink = worker.intake._sink = HeldSink()
    await worker.start()
    yield worker
    worker.sink.gate.set()
    await worker.runner.cleanup()


async def test_what_arrives_before_the_reply_is_answered_after_it(held: Worker):
    reader, writer = await asyncio.open_connection("127.0.0.1", held.port)
    writer.write(request(b'["first",1]'))
    await held.sink.entered.wait()
    writer.write(request(line=b"GET /livez HTTP/1.1"))
    await asyncio.sleep(0.01)
    writer.write(request(b'["a",-1]'))
    await asyncio.sleep(0.01)
    held.sink.gate.set()  # type: ignore[attr-defined]
    writer.write_eof()
    said = await reader.read()
    writer.close()
    assert STATUS.findall(said) == [b"202", b"200", b"400"]
    assert held.by_lane >= 1


async def test_a_client_that_closes_its_side_gets_the_reply(held: Worker):
    task = asyncio.create_task(held.said([request()]))
    await held.sink.entered.wait()
    await asyncio.sleep(0.02)
    held.sink.gate.set()  # type: ignore[attr-defined]
    assert (await task).startswith(b"HTTP/1.1 202")


async def test_a_client_that_is_gone_is_counted_all_the_same(held: Worker):
    _, writer = await asyncio.open_connection("127.0.0.1", held.port)
    writer.write(request())
    await held.sink.entered.wait()
    writer.transport.abort()
    await asyncio.sleep(0.02)
    held.sink.gate.set()  # type: ignore[attr-defined]
    await until(lambda: held.counted()["metrics_app_accepted_values_total"] == 1)


async def test_a_stop_waits_for_the_request_in_progress_and_then_ends_it(held: Worker):
    talks = [asyncio.create_task(held.said([request()])) for _ in range(2)]
    await held.sink.entered.wait()
    await asyncio.sleep(0.02)
    stop = asyncio.create_task(held.runner.cleanup())
    await asyncio.sleep(0.1)
    assert not stop.done()
    held.sink.gate.set()  # type: ignore[attr-defined]
    await stop
    for talk in talks:
        assert (await talk).startswith(b"HTTP/1.1 202")


async def test_a_stop_that_waits_in_vain_cancels_the_request(held: Worker):
    reader, writer = await asyncio.open_connection("127.0.0.1", held.port)
    writer.write(request())
    await held.sink.entered.wait()
    await held.runner.cleanup()
    assert await reader.read() == b""
    writer.close()
    await until(lambda: held.counted().get('metrics_app_refused_values_total{reason="disconnect"}') == 1)


async def test_the_keep_alive_timer_leaves_a_request_in_progress_alone_and_runs_after_it(
    held: Worker, monkeypatch: pytest.MonkeyPatch
):
    held.runner.server._kwargs["keepalive_timeout"] = 0.05  # type: ignore[union-attr]
    reader, writer = await asyncio.open_connection("127.0.0.1", held.port)
    writer.write(request())
    await asyncio.sleep(0.15)
    held.sink.gate.set()  # type: ignore[attr-defined]
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 202")  # which ends with the connection
    writer.close()


async def test_a_client_that_does_not_read_is_not_served_by_the_lane():
    worker = Worker(load())
    await worker.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    writer.write(request())
    await reader.readuntil(b"]}\n")
    (handler,) = worker.runner.server.connections  # type: ignore[union-attr]
    handler.pause_writing()
    writer.write(request())
    await asyncio.sleep(0.05)
    assert worker.by_lane == 1
    handler.resume_writing()
    await reader.readuntil(b"]}\n")
    writer.close()
    await worker.runner.cleanup()


async def test_the_setting_turns_it_off_and_a_head_is_remembered():
    worker = Worker(load(small_request_lane=False))
    await worker.start()
    assert (await worker.said([request()])).startswith(b"HTTP/1.1 202")
    assert ROUTES not in worker.runner.app
    await worker.runner.cleanup()
    head = request(b"")
    assert plain_head(head) is plain_head(bytes(bytearray(head)))


async def test_behind_a_request_that_is_begun_nothing_is_the_lanes():
    worker = Worker(load())
    await worker.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    writer.write(request() + b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
    await asyncio.wait_for(reader.readuntil(b"]}\n"), 5)
    writer.write(request())  # a value of the header X, to aiohttp
    writer.write_eof()
    assert b" 202 " not in await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert worker.by_lane == 0
    await worker.runner.cleanup()


@pytest.mark.parametrize(
    "head",
    [
        request(b"", b"Accept: a", b"accept: b"),
        request(b"", line=b"POST /samples HTTP/1.0"),
        request(b"", b"Connection: close"),
        request(b"", b"Connection: keep-alive, close"),
        request(b"", b"Content-Encoding: gzip"),
        request(b"", b"Content-Encoding: identity"),
        request(b"", b"Authorization: a"),
        request(b"", b"Origin: http://a"),
        request(b"", b"Expect: 100-continue"),
        request(b"", b"X-Forwarded-For: a"),
        request(b"", b"User-Agent: \xe9"),
        request(b"", b"User-Agent: a\tb"),
    ],
)
async def test_a_head_with_anything_unusual_is_not_plain(head: bytes):
    found = plain_head(head)
    assert found is not None
    assert (found.route, found.length) == (NOT_PLAIN, 0)


@pytest.mark.parametrize(
    "head",
    [
        request(b"", b"Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b""),
        request(b"", b"Connection: upgrade", b"Upgrade: websocket"),
        request(b"", line=b"CONNECT a:1 HTTP/1.1"),
        request(b"").replace(b"\r\n", b"\n"),
        request(b"").replace(b"Host", b"Accept"),
        request(b"", b"Host: b"),
        request(b"", length=b"-1"),
        request(b"", length=b"12345678901"),
        request(b"", b": a"),
        request(b"")[:-2],
        b"\r\n\r\n",
    ],
)
async def test_where_a_request_ends_is_not_guessed(head: bytes):
    assert plain_head(head) is None


async def test_while_aiohttp_answers_a_request_the_next_one_is_its_too(held: Worker):
    reader, writer = await asyncio.open_connection("127.0.0.1", held.port)
    writer.write(request(BODY, b"X-Forwarded-For: a"))
    await held.sink.entered.wait()
    writer.write(request(b'["a",-1]'))
    await asyncio.sleep(0.05)
    held.sink.gate.set()  # type: ignore[attr-defined]
    writer.write_eof()
    assert STATUS.findall(await asyncio.wait_for(reader.read(), 5)) == [b"202", b"400"]
    writer.close()
    assert held.by_lane == 0
