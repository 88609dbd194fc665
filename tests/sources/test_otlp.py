"""How export requests are read: as the protocol's own library does it, however many parts they pretend to have."""

from __future__ import annotations

import json
import struct
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from metrics_app.errors import BodyTooLargeError, InvalidBodyError
from metrics_app.sources.key_template import KeyTemplate
from metrics_app.sources.otlp import JSON, PROTOBUF, points, spans
from metrics_app.sources.spans import MOST_BYTES, Span, SpanRules, UnusableSpanError, bounded, read
from metrics_app.wire.bodies import BodyLimits, BodyParts

NOW_S = 1_795_464_000.5
END_NS = 1_795_464_000 * 10**9
RULES = SpanRules(frozenset({"server"}), KeyTemplate.of("{service.name} {name}"), 10**6)
LIMITS = BodyLimits(max_items=1000, max_ahead_s=300, retention_s=31 * 86_400, chunk_values=500)
NAMES = frozenset({"service.name", "a"})
PARTS = 100_000  # that a body pretends to have, many more than 4 for each item

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = texts | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats(allow_nan=False)


@st.composite
def requests(draw: st.DrawFn) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for _ in range(draw(st.integers(0, 3))):
        group = request.resource_spans.add(schema_url=draw(texts))
        _attribute(group.resource, "service.name", draw(values))
        for _ in range(draw(st.integers(0, 2))):
            scope = group.scope_spans.add()
            scope.scope.name = draw(texts)
            for _ in range(draw(st.integers(0, 3))):
                span = scope.spans.add(name=draw(texts), kind=draw(st.integers(0, 5)), trace_id=draw(st.binary()))
                span.start_time_unix_nano, span.end_time_unix_nano = draw(st.integers(0, 2**64 - 1)), END_NS
                span.status.code = draw(st.integers(0, 2))
                span.events.add(name=draw(texts))
                _attribute(span, draw(st.sampled_from(["a", "b", "service.name"])), draw(values))
    return request


def _attribute(holder: Any, key: str, value: object) -> None:
    found = holder.attributes.add(key=key).value
    if isinstance(value, bool):
        found.bool_value = value
    elif isinstance(value, int):
        found.int_value = value
    elif isinstance(value, float):
        found.double_value = value
    else:
        found.string_value = value


def taken(body: bytes, form: str = PROTOBUF) -> list[Span | UnusableSpanError]:
    return [each for each in spans(body, form, NAMES) if each is not None]


@given(requests())
def test_spans_are_those_that_the_library_finds(request: ExportTraceServiceRequest) -> None:
    expected = [
        (span.name, span.trace_id, span.start_time_unix_nano, span.end_time_unix_nano, span.status.code == 2)
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]
    found = [each for each in taken(request.SerializeToString()) if isinstance(each, Span)]
    assert [(each.name, each.trace, each.start_ns, each.end_ns, each.failed) for each in found] == expected
    assert all("service.name" in each.attributes and "b" not in each.attributes for each in found)


@given(requests(), st.data())
def test_what_is_cut_off_is_no_request_unless_the_library_reads_it_too(
    request: ExportTraceServiceRequest, data: st.DataObject
) -> None:
    body = request.SerializeToString()
    cut = body[: data.draw(st.integers(0, len(body)))]
    try:
        expected = ExportTraceServiceRequest.FromString(cut)
    except DecodeError:
        with pytest.raises(InvalidBodyError):
            taken(cut)
    else:
        assert len(taken(cut)) == sum(len(scope.spans) for g in expected.resource_spans for scope in g.scope_spans)


def test_a_resource_may_come_behind_its_spans_and_in_parts() -> None:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.scope_spans.add().spans.add(name="x")
    encoded = group.SerializeToString()
    for key, value in (("service.name", "shop"), ("a", "7")):
        group.Clear()
        _attribute(group.resource, key, value)
        encoded += group.SerializeToString()
    (span,) = taken(field(1, encoded))
    assert isinstance(span, Span)
    assert span.attributes == {"service.name": "shop", "a": "7"}


def field(number: int, content: bytes) -> bytes:
    size, rest = b"", len(content)
    while rest > 127:
        size, rest = size + bytes([rest & 127 | 128]), rest >> 7
    return bytes([number << 3 | 2]) + size + bytes([rest]) + content


def listed(before: str, after: str) -> bytes:
    return before.encode() + b"{}," * PARTS + b"{}" + after.encode()


EMPTY = field(1, b""), field(2, b"")
MANY = {
    "resources": (PROTOBUF, EMPTY[0] * PARTS),
    "scopes": (PROTOBUF, field(1, EMPTY[1] * PARTS)),
    "spans": (PROTOBUF, field(1, field(2, EMPTY[1] * PARTS))),
    "unknown": (PROTOBUF, b"\x78\x00" * PARTS),
    "unknown of a resource": (PROTOBUF, field(1, b"\x78\x00" * PARTS)),
    "json resources": (JSON, listed('{"resourceSpans":[', "]}")),
    "json scopes": (JSON, listed('{"resourceSpans":[{"scopeSpans":[', "]}]}")),
    "json spans": (JSON, listed('{"resourceSpans":[{"scopeSpans":[{"spans":[', "]}]}]}")),
}


@pytest.mark.parametrize("name", MANY)
def test_a_body_of_very_many_empty_parts_is_refused_and_others_go_on_meanwhile(name: str) -> None:
    form, body = MANY[name]
    steps = count()
    reading = read(spans(body, form, NAMES), RULES, BodyParts(NOW_S, LIMITS))
    with pytest.raises(BodyTooLargeError, match="parts"):
        deque(zip(reading, steps, strict=False))
    assert next(steps) == 4 * LIMITS.max_items


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (PROTOBUF, field(1, field(2, EMPTY[1] * PARTS))),
        (JSON, listed('{"resourceMetrics":[{"scopeMetrics":[{"metrics":[', "]}]}]}")),
        (JSON, listed('{"resourceMetrics":[', "]}")),
    ],
)
def test_so_is_one_of_metrics(form: str, body: bytes) -> None:
    with pytest.raises(BodyTooLargeError, match="parts"):
        sum(bounded(points(body, form), BodyParts(NOW_S, LIMITS)))


def test_points_of_all_kinds_are_counted() -> None:
    request = ExportMetricsServiceRequest()
    for number, kind in enumerate(("gauge", "sum", "histogram", "exponential_histogram", "summary"), 1):
        metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m", unit="ms")
        for _ in range(number):
            getattr(metric, kind).data_points.add(time_unix_nano=END_NS)
    assert sum(points(request.SerializeToString(), PROTOBUF)) == 15


def large(form: str, size: int) -> bytes:
    """Three spans, of which the one in the middle has an attribute of so many bytes."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in range(3):
        _attribute(scope.spans.add(name=str(number)), "a", "x" * (size if number == 1 else 1))
    if form == PROTOBUF:
        return bytes(request.SerializeToString())
    each = [
        {
            "name": span.name,
            "attributes": [{"key": "a", "value": {"stringValue": span.attributes[0].value.string_value}}],
        }
        for span in scope.spans
    ]
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": each}]}]}).encode()


@pytest.mark.parametrize("form", [PROTOBUF, JSON])
def test_a_span_too_large_to_be_decoded_in_one_go_is_rejected_and_its_neighbours_are_read(form: str) -> None:
    first, middle, last = taken(large(form, MOST_BYTES), form)
    assert isinstance(middle, UnusableSpanError)
    assert (middle.reason, str(middle)) == ("size", "span: expected at most 262,144 bytes")
    assert isinstance(first, Span)
    assert isinstance(last, Span)
    assert isinstance(taken(large(form, MOST_BYTES - 200), form)[1], Span)


@pytest.mark.parametrize(
    "make",
    [
        lambda text: (PROTOBUF, field(1, field(1, field(1, text)))),
        lambda text: (JSON, b'{"resourceSpans":[{"resource":{"x":"%b"}}]}' % text),
    ],
)
def test_a_resource_too_large_is_refused_with_its_body(make: Callable[[bytes], tuple[str, bytes]]) -> None:
    form, body = make(b"x" * MOST_BYTES)
    with pytest.raises(BodyTooLargeError, match="a resource"):
        taken(body, form)


def test_a_span_in_protobuf_at_fault_leaves_the_others_intact() -> None:
    scope = field(2, field(5, b"one")) + field(2, field(5, b"\xff")) + field(2, field(5, b"three"))
    first, second, third = taken(field(1, field(2, scope)))
    assert isinstance(second, UnusableSpanError)
    assert [each.name for each in (first, third) if isinstance(each, Span)] == ["one", "three"]


NULLS = """{"resourceSpans": [
    {"resource": null, "scopeSpans": null},
    {"resource": {"attributes": null}, "scopeSpans": [{"spans": null}, {"spans": [
        {"name": "x", "attributes": null, "status": null},
        {"name": "x", "attributes": [{"key": "n", "value": null}, {"key": "n", "value": {"doubleValue": "NaN"}}]},
        {"name": "x", "attributes": [{"key": "a", "value": null}]}]}]}]}"""


def test_in_json_null_is_what_is_not_there_and_numbers_that_json_has_not_are_texts() -> None:
    found = [each for each in taken(NULLS.encode(), JSON) if isinstance(each, Span)]
    assert [(each.name, each.attributes.get("a", "")) for each in found] == [("x", "")] * 3


def test_what_is_kept_of_a_body_is_what_its_spans_say() -> None:
    body = json.loads(NULLS)
    span = {"name": "y", "kind": 2, "traceId": "07" * 16, "spanId": "07" * 8}
    span |= {"startTimeUnixNano": str(END_NS - 2_000_000), "endTimeUnixNano": str(END_NS)}
    body["resourceSpans"][1]["resource"] = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    body["resourceSpans"][1]["scopeSpans"][1]["spans"].append(span)
    parts = BodyParts(NOW_S, LIMITS)
    for _ in read(spans(json.dumps(body).encode(), JSON, NAMES), RULES, parts):
        pass
    (chunk,) = parts.done().chunks
    assert (chunk.key, struct.unpack("<d", chunk.values)) == (b"shop y", (2.0,))
