"""Decodes OTLP's export requests in JSON, a span at a time.

Called by `otlp`.

Into the types below, which have the members that are read: OTLP's JSON is not protobuf's, for ids are hexadecimal.
What is around the spans is decoded level by level, so that a body of millions of empty objects becomes none of ours.
A member that is null is one that is not there, as in protobuf's JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from metrics_app.errors import UNREADABLE, BodyTooLargeError, InvalidBodyError
from metrics_app.sources.spans import KINDS, MOST_BYTES, TOO_LARGE, Span, Spans, UnusableSpanError, kind_of

BY_NAME = {f"SPAN_KIND_{kind.upper()}": number for number, kind in enumerate(KINDS)}
FAILED = (2, "STATUS_CODE_ERROR")

Whole = int | str  # 64 bits are a text in JSON
Items = list[Raw] | None


class Value(Struct, rename="camel"):
    """AnyValue, as far as a key can be made of it."""

    string_value: str | None = None
    int_value: Whole | None = None
    double_value: float | str | None = None  # a text for NaN and Infinity
    bool_value: bool | None = None


class Attribute(Struct):
    """KeyValue."""

    key: str = ""
    value: Value | None = None


class Status(Struct):
    """Of a span."""

    code: int | str = 0


class JsonSpan(Struct, rename="camel"):
    """Span."""

    trace_id: str = ""
    span_id: str = ""
    name: str = ""
    kind: int | str = 0
    start_time_unix_nano: Whole = 0
    end_time_unix_nano: Whole = 0
    attributes: list[Attribute] | None = None
    status: Status | None = None


class ScopeSpans(Struct):
    """ScopeSpans; each span is decoded apart, so that one at fault leaves the others intact."""

    spans: Items = None


class Resource(Struct):
    """Resource."""

    attributes: list[Attribute] | None = None


class ResourceSpans(Struct, rename="camel"):
    """ResourceSpans."""

    resource: Raw = Raw(b"null")
    scope_spans: Items = None


class TracesRequest(Struct, rename="camel"):
    """ExportTraceServiceRequest."""

    resource_spans: Items = None


class Data(Struct, rename="camel"):
    """Points of a metric."""

    data_points: Items = None


class Metric(Struct, rename="camel"):
    """Metric."""

    gauge: Data | None = None
    sum: Data | None = None
    histogram: Data | None = None
    exponential_histogram: Data | None = None
    summary: Data | None = None


class ScopeMetrics(Struct):
    """ScopeMetrics."""

    metrics: Items = None


class ResourceMetrics(Struct, rename="camel"):
    """ResourceMetrics."""

    scope_metrics: Items = None


class MetricsRequest(Struct, rename="camel"):
    """ExportMetricsServiceRequest."""

    resource_metrics: Items = None


_REQUEST, _GROUP, _SCOPE, _SPAN, _RESOURCE = map(
    msgspec.json.Decoder, (TracesRequest, ResourceSpans, ScopeSpans, JsonSpan, Resource | None)
)


def spans(body: bytes, names: frozenset[str]) -> Spans:
    """The spans of an export request; of their attributes those with these names.

    Raises:
        InvalidBodyError: it is no such request; with the first thing that shows it.
    """
    for group_text in _decoded(_REQUEST, body).resource_spans or ():
        yield None
        group = _decoded(_GROUP, group_text)
        shared = _shared(group.resource, names)
        for scope_text in group.scope_spans or ():
            yield None
            for span in _decoded(_SCOPE, scope_text).spans or ():
                yield _span(span, shared, names)


def _decoded(decoder: Any, text: bytes | Raw) -> Any:
    try:
        return decoder.decode(text)
    except UNREADABLE as error:
        raise InvalidBodyError(f"expected an Export...ServiceRequest as JSON: {error}") from None


def _shared(resource: Raw, names: frozenset[str]) -> dict[str, str]:
    if len(memoryview(resource)) > MOST_BYTES:
        raise BodyTooLargeError("a resource", MOST_BYTES, "bytes")
    decoded = _decoded(_RESOURCE, resource)
    return {} if decoded is None else _texts(decoded.attributes, names)


def _texts(attributes: list[Attribute] | None, names: frozenset[str]) -> dict[str, str]:
    return {each.key: _text(each.value) for each in attributes or () if each.key in names}


def _text(value: Value | None) -> str:
    if value is None:
        return ""
    if value.bool_value is not None:
        return str(value.bool_value).lower()
    found = (value.string_value, value.int_value, value.double_value)
    return next((str(each) for each in found if each is not None), "")


def _span(text: Raw, shared: Mapping[str, str], names: frozenset[str]) -> Span | UnusableSpanError:
    if len(memoryview(text)) > MOST_BYTES:
        return UnusableSpanError("size", TOO_LARGE)
    try:
        span = _SPAN.decode(text)
    except UNREADABLE as error:
        return UnusableSpanError("json", f"span: {error}")
    return Span(
        kind_of(BY_NAME.get(span.kind, 0) if isinstance(span.kind, str) else span.kind),
        span.name,
        _bytes(span.trace_id),
        _bytes(span.span_id),
        _whole(span.start_time_unix_nano),
        _whole(span.end_time_unix_nano),
        span.status is not None and span.status.code in FAILED,
        {**shared, **_texts(span.attributes, names)},
    )


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _whole(given: Whole) -> int:
    """A number of 64 bits; -1, which is no time, for what is none."""
    if isinstance(given, str) and not (given.isascii() and given.isdigit() and len(given) <= len(str(2**64))):
        return -1
    return min(int(given), 2**64)


_METRICS, _METRIC_GROUP, _METRIC_SCOPE, _METRIC = map(
    msgspec.json.Decoder, (MetricsRequest, ResourceMetrics, ScopeMetrics, Metric)
)


def points(body: bytes) -> Iterator[int]:
    """How many points each metric of an export holds, and a 0 for whatever else is met.

    Raises:
        InvalidBodyError: it is no such request; with the first thing that shows it.
    """
    for group in _decoded(_METRICS, body).resource_metrics or ():
        yield 0
        for scope in _decoded(_METRIC_GROUP, group).scope_metrics or ():
            yield 0
            for text in _decoded(_METRIC_SCOPE, scope).metrics or ():
                metric = _decoded(_METRIC, text)
                kinds = (metric.gauge, metric.sum, metric.histogram, metric.exponential_histogram, metric.summary)
                yield sum(len(data.data_points or ()) for data in kinds if data is not None)
