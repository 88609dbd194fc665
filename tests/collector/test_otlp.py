"""OTLP as exporters speak it, on a collector that is real but for what its samples go into."""

from __future__ import annotations

import gzip
import json
import struct
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_service

from metrics_app.collector.publisher import not_kept
from metrics_app.sources import otlp
from metrics_app.sources.otlp import JSON, PROTOBUF
from metrics_app.sources.otlp_messages import MissingLibraryError
from tests.conftest import MakeSettings

from .fakes import Collector, FakeSink, collector

SERVER = 2
FORMS = (PROTOBUF, JSON)


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
async def running(make_settings: MakeSettings, sink: FakeSink) -> AsyncIterator[Collector]:
    async with collector(make_settings(max_items=1000), sink) as listening:
        yield listening


async def post(running: Collector, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any, bytes]:
    url = f"http://127.0.0.1:{running.settings.port}{path}"
    async with running.session.post(url, data=body, headers=headers) as reply:
        return reply.status, reply.headers, await reply.read()


def spans(*durations_ms: float, form: str = PROTOBUF, name: str = "GET /a", kind: int = SERVER) -> bytes:
    request = trace_service.ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "shop"
    end_ns = time.time_ns()
    for number, duration_ms in enumerate(durations_ms, 1):
        span = group.scope_spans.add().spans.add(name=name, kind=kind, trace_id=b"t" * 16)
        span.span_id = number.to_bytes(8, "big")
        span.start_time_unix_nano, span.end_time_unix_nano = end_ns - int(duration_ms * 1e6), end_ns
        span.attributes.add(key="http.response.status_code").value.int_value = 200
    return request.SerializeToString() if form == PROTOBUF else json.dumps(as_json(request)).encode()


def as_json(request: trace_service.ExportTraceServiceRequest) -> dict[str, Any]:
    """As OpenTelemetry's exporters write it: ids hexadecimal, numbers of 64 bits as texts."""
    return {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": [
                        {"key": each.key, "value": {"stringValue": each.value.string_value}}
                        for each in group.resource.attributes
                    ]
                },
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": span.trace_id.hex(),
                                "spanId": span.span_id.hex(),
                                "name": span.name,
                                "kind": span.kind,
                                "startTimeUnixNano": str(span.start_time_unix_nano),
                                "endTimeUnixNano": str(span.end_time_unix_nano),
                                "attributes": [
                                    {"key": each.key, "value": {"intValue": "200"}} for each in span.attributes
                                ],
                                "status": {},
                            }
                            for span in scope.spans
                        ]
                    }
                    for scope in group.scope_spans
                ],
            }
            for group in request.resource_spans
        ]
    }


def kept(sink: FakeSink) -> list[tuple[bytes, list[float], int]]:
    return [(c.key, list(struct.unpack(f"<{c.count}d", c.values)), len(c.ids)) for c in sink.chunks]


@pytest.mark.parametrize("encoding", ["", "gzip"])
@pytest.mark.parametrize("form", FORMS)
async def test_spans_are_samples_with_ids(running: Collector, sink: FakeSink, form: str, encoding: str) -> None:
    body = spans(12.5, 40, form=form)
    headers = {"Content-Type": form} | ({"Content-Encoding": encoding} if encoding else {})
    status, replied, text = await post(running, "/v1/traces", gzip.compress(body) if encoding else body, headers)
    assert (status, replied["Content-Type"]) == (200, form)
    assert text == (b"" if form == PROTOBUF else b"{}")
    assert kept(sink) == [(b"shop GET /a", [12.5, 40.0], 32)]
    assert running.counters_close()


async def test_both_encodings_give_the_same_ids(running: Collector, sink: FakeSink) -> None:
    for form in FORMS:
        await post(running, "/v1/traces", spans(1, form=form), {"Content-Type": form})
    assert len({chunk.ids for chunk in sink.chunks}) == 1


@pytest.mark.parametrize("form", FORMS)
async def test_what_is_not_taken_is_said_as_a_partial_success(running: Collector, sink: FakeSink, form: str) -> None:
    body = spans(1, form=form).replace(b"GET /a", b"GET\\na" if form == JSON else b"GET \na")
    status, _, text = await post(running, "/v1/traces", body, {"Content-Type": form})
    if form == JSON:
        partial = json.loads(text)["partialSuccess"]
        rejected, why = int(partial["rejectedSpans"]), partial["errorMessage"]
    else:
        reply = trace_service.ExportTraceServiceResponse.FromString(text)
        rejected, why = reply.partial_success.rejected_spans, reply.partial_success.error_message
    assert (status, rejected, sink.chunks) == (200, 1, [])
    assert "U+000A" in why
    assert running.counters_close()


async def test_a_json_span_at_fault_leaves_the_others_intact(running: Collector, sink: FakeSink) -> None:
    document = json.loads(spans(1, 2, 3, form=JSON))
    document["resourceSpans"][0]["scopeSpans"][1]["spans"][0]["name"] = 7
    status, _, text = await post(running, "/v1/traces", json.dumps(document).encode(), {"Content-Type": JSON})
    assert (status, json.loads(text)["partialSuccess"]["rejectedSpans"]) == (200, "1")
    assert kept(sink) == [(b"shop GET /a", [1.0, 3.0], 32)]


def status_of(form: str, text: bytes) -> tuple[int, str]:
    if form == JSON:
        document = json.loads(text)
        return document["code"], document["message"]
    status = Status.FromString(text)
    return status.code, status.message


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("body", [b"\xff\xff\xff", b'{"resourceSpans":7}', b"[", b'"text"'])
@pytest.mark.parametrize("path", ["/v1/traces", "/v1/metrics"])
async def test_a_body_that_is_no_request_is_400_with_a_status(
    running: Collector, path: str, body: bytes, form: str
) -> None:
    body = body.replace(b"resourceSpans", b"resourceMetrics" if path == "/v1/metrics" else b"resourceSpans")
    status, replied, text = await post(running, path, body, {"Content-Type": form})
    assert (status, replied["Content-Type"]) == (400, form)
    code, message = status_of(form, text)
    assert code == 400
    assert "ServiceRequest" in message


@pytest.mark.parametrize("form", FORMS)
async def test_while_kafka_is_away_it_is_503_with_retry_after(running: Collector, sink: FakeSink, form: str) -> None:
    sink.failure = not_kept("Kafka is away", "kafka")
    status, replied, text = await post(running, "/v1/traces", spans(1, form=form), {"Content-Type": form})
    assert (status, replied["Retry-After"], status_of(form, text)[0]) == (503, "1", 503)
    assert running.counters_close()


@pytest.mark.parametrize(("kind", "count"), [("histogram", 2), ("exponential_histogram", 1), ("sum", 3), ("gauge", 1)])
@pytest.mark.parametrize("form", FORMS)
async def test_every_point_of_metrics_is_refused_and_it_says_what_to_do(
    running: Collector, sink: FakeSink, kind: str, count: int, form: str
) -> None:
    request = metrics_service.ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="http.server.request.duration")
    for _ in range(count):
        getattr(metric, kind).data_points.add()
    name = "exponentialHistogram" if kind == "exponential_histogram" else kind
    as_text: dict[str, object] = {
        "resourceMetrics": [{"scopeMetrics": [{"metrics": [{name: {"dataPoints": [{}] * count}}]}]}]
    }
    body = request.SerializeToString() if form == PROTOBUF else json.dumps(as_text).encode()
    status, _, text = await post(running, "/v1/metrics", body, {"Content-Type": form})
    if form == JSON:
        partial = json.loads(text)["partialSuccess"]
        found = int(partial["rejectedDataPoints"]), partial["errorMessage"]
    else:
        reply = metrics_service.ExportMetricsServiceResponse.FromString(text).partial_success
        found = reply.rejected_data_points, reply.error_message
    assert (status, found[0], sink.chunks) == (200, count, [])
    assert "/v1/traces" in found[1]


async def test_another_content_type_is_415_and_a_unit_that_is_no_duration_501(
    make_settings: MakeSettings, sink: FakeSink
) -> None:
    async with collector(make_settings(unit="bytes"), sink) as running:
        assert (await post(running, "/v1/traces", b"{}", {"Content-Type": "text/plain"}))[0] == 415
        status, _, text = await post(running, "/v1/traces", spans(1, form=JSON), {"Content-Type": JSON})
        assert (status, sink.chunks) == (501, [])
        assert "METRICS_UNIT is 'bytes'" in text.decode()


async def test_without_the_library_json_works_and_protobuf_is_501(
    running: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Callable[[], None]:
        raise MissingLibraryError

    monkeypatch.setattr(otlp, "messages", missing)
    assert (await post(running, "/v1/traces", spans(1, form=JSON), {"Content-Type": JSON}))[0] == 200
    status, replied, text = await post(running, "/v1/traces", spans(1), {"Content-Type": PROTOBUF})
    assert (status, replied["Content-Type"]) == (501, "application/problem+json")
    assert "metrics-app[otlp]" in text.decode()
