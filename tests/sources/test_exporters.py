"""The exporter of OpenTelemetry's own SDK, on a real worker and a real Kafka."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from tests.faults.installation import Installation

pytestmark = pytest.mark.kafka

KEY = quote("shop /orders/{id}", safe="")


def recorded(durations_ns: list[int]) -> tuple[ReadableSpan, ...]:
    """Spans of requests that took so long, ending now; and an internal one each, which is none."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer, now = provider.get_tracer("test"), time.time_ns()
    for duration in durations_ns:
        span = tracer.start_span(
            "GET /orders/{id}",
            kind=SpanKind.SERVER,
            start_time=now - duration,
            attributes={"http.route": "/orders/{id}"},
        )
        tracer.start_span("query", start_time=now - duration).end(now)
        span.end(now)
    return memory.get_finished_spans()


def answered(url: str, stat: str) -> Any:
    today = time.strftime("%Y-%m-%d", time.gmtime())
    with urllib.request.urlopen(f"{url}/{KEY}/{stat}/{today}?consistency=strong", timeout=20) as reply:
        return json.load(reply)


def test_an_app_that_only_has_opentelemetry_is_counted_exactly_and_once(tmp_path: Path) -> None:
    durations = [1_000_000 * each + 250 for each in range(1, 301)]
    with Installation(tmp_path, {"a": "all"}) as installation:
        url = installation.workers["a"].url
        exporter = OTLPSpanExporter(f"{url}/v1/traces", timeout=30)
        spans = recorded(durations)
        for _ in range(2):  # an exporter that got no reply sends again
            assert exporter.export(spans) == SpanExportResult.SUCCESS
        exporter.shutdown()
        give_up = time.monotonic() + 30
        while (found := answered(url, "count"))["duplicates"] < len(durations) and time.monotonic() < give_up:
            time.sleep(0.1)
        assert (found["value"], found["duplicates"]) == (len(durations), len(durations))
        for stat, expected in (("max", max(durations)), ("min", min(durations)), ("sum", sum(durations))):
            answer = answered(url, stat)
            assert answer["exact"]
            assert answer["value"] == pytest.approx(expected / 1e6, rel=1e-15)
