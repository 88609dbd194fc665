from __future__ import annotations

import asyncio
import gzip
import json
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import ClientError, StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from metrics_app.collector.views import SampleIntake
from metrics_app.errors import InvalidBodyError, OverloadedError
from metrics_app.http.problems import PROBLEM
from metrics_app.telemetry import Telemetry
from tests.conftest import MakeSettings

from .fakes import Collector, FakeSink, collector

LIMIT = 64 << 10
INFLATED = 256 << 10


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
async def running(make_settings: MakeSettings, sink: FakeSink) -> AsyncIterator[Collector]:
    settings = make_settings(max_body_bytes=LIMIT, max_inflated_bytes=INFLATED, body_timeout_s=0.3, max_items=1000)
    async with collector(settings, sink) as listening:
        yield listening


def kept(sink: FakeSink) -> list[tuple[str, list[float]]]:
    return [(c.key.decode(), list(struct.unpack(f"<{c.count}d", c.values))) for c in sink.chunks]


async def test_what_curl_sends_without_a_header_is_accepted(running: Collector, sink: FakeSink) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = await running.post(b'["checkout", 12.5]', form)
    assert (reply.status, reply.json) == (202, {"accepted": 1, "rejected": []})
    assert kept(sink) == [("checkout", [12.5])]
    assert (await running.post(b'["checkout", 1]')).status == 202


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"key":"a","value":1}', "application/json"),
        (b'["a",1]\n', "application/x-ndjson"),
        (
            msgspec.msgpack.encode({"series": [{"key": "a", "hour": int(time.time() // 3600), "values": [1.0]}]}),
            "application/msgpack",
        ),
        (msgspec.msgpack.encode({"keys": ["a"], "values": [1.0]}), "application/msgpack"),
    ],
)
@pytest.mark.parametrize("zipped", ["", "gzip", "X-GZip"])
async def test_every_form_is_accepted_plain_and_gzipped(
    running: Collector, sink: FakeSink, body: bytes, content_type: str, zipped: str
) -> None:
    headers = {"Content-Type": content_type} | ({"Content-Encoding": zipped} if zipped else {})
    reply = await running.post(gzip.compress(body) if zipped else body, headers)
    assert (reply.status, reply.json["accepted"]) == (202, 1)
    assert kept(sink) == [("a", [1])]


async def test_usable_items_of_a_mixed_array_are_kept_and_the_others_listed(running: Collector, sink: FakeSink) -> None:
    reply = await running.post(b'[["a",1],["a",-1],{"key":"a","value":2}]')
    assert reply.status == 202
    assert reply.json["accepted"] == 2
    assert [(item["index"], item["reason"]) for item in reply.json["rejected"]] == [(1, "value")]
    assert "expected a number from 0 to 2^44" in reply.json["rejected"][0]["detail"]
    assert "rejected_count" not in reply.json
    assert kept(sink) == [("a", [1, 2])]
    assert running.counts() == {"received": 3, "accepted": 2, "rejected": 1, "refused": 0}


async def test_a_request_without_a_usable_item_is_a_400_that_lists_them(running: Collector, sink: FakeSink) -> None:
    reply = await running.post(json.dumps([["a", -1]] * 150))
    assert (reply.status, reply.headers["Content-Type"]) == (400, PROBLEM)
    assert reply.json["detail"].startswith("none of 150 samples can be kept; the first: value: expected a number")
    assert (reply.json["accepted"], len(reply.json["rejected"])) == (0, 100)
    assert sink.chunks == []
    assert running.counts() == {"received": 150, "accepted": 0, "rejected": 150, "refused": 0}


async def test_more_rejections_than_are_listed_are_counted_in_the_reply(running: Collector) -> None:
    reply = await running.post(json.dumps([["a", 1]] + [["a", -1]] * 150))
    assert (reply.status, len(reply.json["rejected"]), reply.json["rejected_count"]) == (202, 100, 150)


async def test_an_empty_array_is_taken_and_adds_nothing(running: Collector) -> None:
    reply = await running.post(b"[]")
    assert (reply.status, reply.json) == (202, {"accepted": 0, "rejected": []})


GZIP = {"Content-Encoding": "gzip"}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b'["a",NaN]', {}, 400),
        (b"[" * 1500, {}, 400),
        (b"not gzip", GZIP, 400),
        (gzip.compress(b'["a",1]')[:-3], GZIP, 400),
        (b'["a",1]', {"Content-Type": "text/csv"}, 415),
        (b'["a",1]', {"Content-Encoding": "br"}, 415),
        (b'["a",1]', {"Content-Encoding": "gzip, gzip"}, 415),
        (b" " * (LIMIT + 1), {}, 413),
        (gzip.compress(b'["a",1]' + b" " * INFLATED), GZIP, 413),
        (gzip.compress(bytes(30 << 20)), GZIP, 413),
        (json.dumps([["a", 1]] * 1001).encode(), {}, 413),
        (b'["a",1]', {"Idempotency-Key": ""}, 400),
        (b'["a",1]', {"Idempotency-Key": '""'}, 400),
        (b'["a",1]', {"Idempotency-Key": "x" * 256}, 400),
        (b'["a",1]', {"Idempotency-Key": "caf\u00e9"}, 400),
        (b'["a",1]', {"Idempotency-Key": '"open'}, 400),
        (b'["a",1]', {"Metrics-Dropped": "overflow"}, 400),
        (b'["a",1]', {"Metrics-Dropped": "overflow=-1"}, 400),
    ],
)
async def test_an_unusable_request_gets_a_problem_document_and_counts_no_value(
    running: Collector, sink: FakeSink, body: bytes, headers: dict[str, str], status: int
) -> None:
    reply = await running.post(body, headers)
    assert (reply.status, reply.headers["Content-Type"]) == (status, PROBLEM)
    assert (reply.json["status"], bool(reply.json["detail"])) == (status, True)
    assert sink.chunks == []
    assert set(running.counts().values()) == {0}


async def test_what_clients_say_they_dropped_is_counted_once_the_request_is_accepted(
    running: Collector, sink: FakeSink
) -> None:
    told = {"Metrics-Dropped": "overflow=120, value=3, of-tomorrow=7"}
    sink.failure = OverloadedError("away")
    assert (await running.post(b'["a",1]', told)).status == 503
    sink.failure = None
    assert (await running.post(b'["a",1]', told)).status == 202
    counted = {
        reason: running.telemetry.registry.get_sample_value(
            "metrics_app_client_dropped_values_total", {"reason": reason}
        )
        for reason in ("overflow", "value", "other")
    }
    assert counted == {"overflow": 120, "value": 3, "other": 7}


async def test_a_body_at_the_limit_is_taken(running: Collector) -> None:
    body = b'["a",1]'
    assert (await running.post(body + b" " * (LIMIT - len(body)))).status == 202
    assert (await running.post(gzip.compress(body + b" " * (INFLATED - len(body))), GZIP)).status == 202


async def test_a_body_without_a_length_is_cut_off_at_the_limit(running: Collector) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 16 << 10
            yield b" " * (16 << 10)
            await asyncio.sleep(0.001)

    try:
        reply = await running.post(endless())
        assert reply.status == 413
    except ClientError:
        pass  # the server may close before the client has read the reply
    assert sent < 100 * LIMIT


async def raw(running: Collector, request: bytes) -> bytes:
    """What the server answers until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.settings.port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def test_a_body_that_says_it_is_too_large_is_not_waited_for(running: Collector) -> None:
    head = b"POST /samples HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (LIMIT + 1)
    assert (await raw(running, head)).startswith(b"HTTP/1.1 413 ")


HEAD = b"POST /samples HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\n"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Content-Length: %d" % (LIMIT + 1), b"413"),
        (b"Content-Length: 9\r\nContent-Encoding: br", b"415"),
        (b"Content-Length: 9\r\nIdempotency-Key: \xff", b"400"),
    ],
)
async def test_a_body_that_would_be_refused_anyway_is_not_asked_for(
    running: Collector, header: bytes, status: bytes
) -> None:
    assert (await raw(running, HEAD + header + b"\r\n\r\n")).startswith(b"HTTP/1.1 %s " % status)


async def test_a_body_that_waits_to_be_asked_for_is_asked_for_and_taken(running: Collector, sink: FakeSink) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.settings.port)
    writer.write(HEAD + b"Content-Length: 7\r\n\r\n")
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b'["a",1]')
    assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 202 ")
    assert len(sink.chunks) == 1
    writer.close()


async def test_another_expectation_is_a_problem_document(running: Collector) -> None:
    reply = await raw(running, HEAD.replace(b"100-continue", b"a-miracle") + b"Content-Length: 7\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 417 ")


async def test_a_body_that_does_not_arrive_in_time_is_408_and_the_connection_is_closed(running: Collector) -> None:
    reply = await raw(running, b"POST /samples HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n[")
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within 0.3 s" in reply


async def test_a_body_that_breaks_off_is_no_server_error(running: Collector, caplog: pytest.LogCaptureFixture) -> None:
    request = (
        b"POST /samples HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nZZ\r\n"
    )
    assert b" 400 " in (await raw(running, request)).split(b"\r\n")[0]
    _, writer = await asyncio.open_connection("127.0.0.1", running.settings.port)
    writer.write(b"POST /samples HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n[")
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    await asyncio.sleep(0.1)
    assert not [record for record in caplog.records if record.name.startswith("metrics_app")]


async def test_a_get_is_405_with_what_is_allowed(running: Collector) -> None:
    async with running.session.get(f"http://127.0.0.1:{running.settings.port}/samples") as reply:
        assert (reply.status, reply.headers["Content-Type"]) == (405, PROBLEM)
        assert "POST" in reply.headers["Allow"]


@pytest.mark.parametrize("reason", ["kafka", "memory", "deadline", "busy", "stopping"])
async def test_a_refusal_is_503_with_retry_after_and_counted_by_reason(
    running: Collector, sink: FakeSink, reason: str
) -> None:
    sink.failure = OverloadedError("no Kafka", 3, reason)
    reply = await running.post(b'[["a",1],["b",1],["a",-1]]')
    assert (reply.status, reply.headers["Retry-After"], reply.json["detail"]) == (503, "3", "no Kafka")
    assert running.counts() == {"received": 3, "accepted": 0, "rejected": 1, "refused": 2}
    assert running.telemetry.registry.get_sample_value("metrics_app_refused_values_total", {"reason": reason}) == 2


async def test_counters_close_after_a_bug_too(running: Collector, sink: FakeSink) -> None:
    sink.failure = ValueError("unforeseen")
    assert (await running.post(b'["a",1]')).status == 500
    assert running.counts() == {"received": 1, "accepted": 0, "rejected": 0, "refused": 1}


async def test_counters_close_when_a_request_is_cancelled(make_settings: MakeSettings) -> None:
    sink, telemetry = FakeSink(hangs=True), Telemetry()
    payload = StreamReader(BaseProtocol(asyncio.get_running_loop()), 1 << 16)
    payload.feed_data(b'["a",1]')
    payload.feed_eof()
    request = make_mocked_request("POST", "/samples", payload=payload)
    task = asyncio.create_task(SampleIntake(make_settings(), telemetry, sink).take(request))
    await sink.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert telemetry.registry.get_sample_value("metrics_app_received_values_total") == 1
    assert telemetry.registry.get_sample_value("metrics_app_refused_values_total", {"reason": "disconnect"}) == 1


@pytest.mark.parametrize("body", [b'["a",1,1]', b'{"series":[{"key":"a","hour":1,"values":[1]}]}'])
@pytest.mark.parametrize(("doubt", "kind"), [("Kafka's clock is another", OverloadedError), (None, InvalidBodyError)])
async def test_what_is_out_of_bounds_by_a_doubtful_clock_is_refused_for_now(
    make_settings: MakeSettings, body: bytes, doubt: str | None, kind: type[Exception]
) -> None:
    telemetry, payload = Telemetry(), StreamReader(BaseProtocol(asyncio.get_running_loop()), 1 << 16)
    payload.feed_data(body)
    payload.feed_eof()
    request = make_mocked_request("POST", "/samples", payload=payload)
    with pytest.raises(kind):
        await SampleIntake(make_settings(), telemetry, FakeSink(), lambda: doubt).take(request)
    refused = telemetry.registry.get_sample_value("metrics_app_refused_values_total", {"reason": "clock"})
    assert (refused or 0) == (0 if doubt is None else 1)


@pytest.mark.parametrize(
    ("one", "same"),
    [("abc", '"abc"'), ("x" * 255, f'"{"x" * 255}"'), ("a b!~", '"a b!~"')],
)
async def test_an_idempotency_key_names_the_chunks_quoted_or_bare(
    running: Collector, sink: FakeSink, one: str, same: str
) -> None:
    for key in (one, same, "other"):
        assert (await running.post(b'["a",1]', {"Idempotency-Key": key})).status == 202
    first, second, third = [chunk.ids for chunk in sink.chunks]
    assert first == second != third
    assert len(first) == 16


async def test_two_idempotency_keys_are_refused(running: Collector) -> None:
    body = b'["a",1]'
    head = b"POST /samples HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += b"Idempotency-Key: a\r\nIdempotency-Key: b\r\n"
    reply = await raw(running, head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert reply.startswith(b"HTTP/1.1 400 ")


async def test_concurrent_requests_keep_the_counters_closed(running: Collector) -> None:
    bodies: list[Any] = [b'["a",1]', b'[["a",1],["",1]]', b"{", b'["a",-1]', b"[]"] * 20
    await asyncio.gather(*(running.post(body) for body in bodies))
    assert running.counts() == {"received": 80, "accepted": 40, "rejected": 40, "refused": 0}
    assert running.counters_close()
