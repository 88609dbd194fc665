"""Decodes OTLP/HTTP export requests, and encodes its replies (opentelemetry-proto 1.x, OTLP 1.x).

Called by `collector.otlp`.

Protobuf is decoded by `opentelemetry-proto`, an optional library that is loaded with the first request. JSON is decoded
into the types below, which have the members that are read: OTLP's JSON is not protobuf's, for ids are hexadecimal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import msgspec
from msgspec import Raw, Struct

from metrics_app.errors import UNREADABLE, InvalidBodyError, MetricsError, UnsupportedTypeError
from metrics_app.sources.spans import Span, UnusableSpanError

PROTOBUF, JSON = "application/x-protobuf", "application/json"
KINDS = ("", "internal", "server", "client", "producer", "consumer")
FAILED = 2  # STATUS_CODE_ERROR
BY_NAME = {f"SPAN_KIND_{kind.upper()}": number for number, kind in enumerate(KINDS)}

Spans = Iterator[Span | UnusableSpanError]
Whole = int | str  # 64 bits are a text in JSON


class MissingLibraryError(MetricsError):
    """OTLP in protobuf, without the library for it."""

    status = 501
    title = "OTLP is not installed"

    def __init__(self) -> None:
        super().__init__('this service has no library for protobuf: pip install "metrics-app[otlp]", or send JSON')


class Value(Struct, rename="camel"):
    """AnyValue, as far as a key can be made of it."""

    string_value: str | None = None
    int_value: Whole | None = None
    double_value: float | None = None
    bool_value: bool | None = None


class Attribute(Struct):
    """KeyValue."""

    key: str = ""
    value: Value = msgspec.field(default_factory=Value)


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
    attributes: list[Attribute] = []
    status: Status = msgspec.field(default_factory=Status)


class ScopeSpans(Struct):
    """ScopeSpans; each span is decoded apart, so that one at fault leaves the others intact."""

    spans: list[Raw] = []


class Resource(Struct):
    """Resource."""

    attributes: list[Attribute] = []


class ResourceSpans(Struct, rename="camel"):
    """ResourceSpans."""

    resource: Resource = msgspec.field(default_factory=Resource)
    scope_spans: list[ScopeSpans] = []


class TracesRequest(Struct, rename="camel"):
    """ExportTraceServiceRequest."""

    resource_spans: list[ResourceSpans] = []


_JSON_TRACES, _JSON_SPAN = msgspec.json.Decoder(TracesRequest), msgspec.json.Decoder(JsonSpan)


def form_of(content_type: str) -> str:
    """Which of the two encodings a content type names.

    Raises:
        UnsupportedTypeError: another one.
    """
    name = content_type.partition(";")[0].strip().lower()
    if name not in (PROTOBUF, JSON):
        raise UnsupportedTypeError(f"content type {name[:60]!r} is not taken; expected {PROTOBUF} or {JSON}")
    return name


def spans(body: bytes, form: str, names: frozenset[str]) -> Spans:
    """The spans of an export request, one after the other; of their attributes those with these names.

    Raises:
        InvalidBodyError: it is no such request.
        MissingLibraryError: the library for protobuf is not installed.
    """
    if form == JSON:
        return _of_json(body, names)
    try:
        request = messages().TracesRequest.FromString(body)
    except messages().DecodeError as error:
        raise InvalidBodyError(f"expected an ExportTraceServiceRequest in protobuf: {error}") from None
    return _of_protobuf(request, names)


def _of_json(body: bytes, names: frozenset[str]) -> Spans:
    try:
        request = _JSON_TRACES.decode(body)
    except UNREADABLE as error:
        raise InvalidBodyError(f"expected an ExportTraceServiceRequest as JSON: {error}") from None
    return (
        _json_span(text, resource, names)
        for group in request.resource_spans
        for resource in [_texts(group.resource.attributes, names)]
        for scope in group.scope_spans
        for text in scope.spans
    )


def _texts(attributes: list[Attribute], names: frozenset[str]) -> dict[str, str]:
    return {each.key: _json_text(each.value) for each in attributes if each.key in names}


def _json_text(value: Value) -> str:
    if value.bool_value is not None:
        return str(value.bool_value).lower()
    found = (value.string_value, value.int_value, value.double_value)
    return next((str(each) for each in found if each is not None), "")


def _json_span(text: Raw, resource: Mapping[str, str], names: frozenset[str]) -> Span | UnusableSpanError:
    try:
        span = _JSON_SPAN.decode(text)
    except UNREADABLE as error:
        return UnusableSpanError("json", f"span: {error}")
    kind = BY_NAME.get(span.kind, 0) if isinstance(span.kind, str) else span.kind
    return Span(
        _kind(kind),
        span.name,
        _bytes(span.trace_id),
        _bytes(span.span_id),
        _whole(span.start_time_unix_nano),
        _whole(span.end_time_unix_nano),
        span.status.code in (FAILED, "STATUS_CODE_ERROR"),
        {**resource, **_texts(span.attributes, names)},
    )


def _kind(number: int) -> str:
    return KINDS[number] if 0 <= number < len(KINDS) else ""


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


def _of_protobuf(request: Any, names: frozenset[str]) -> Spans:
    for group in request.resource_spans:
        resource = _texts_of(group.resource.attributes, names)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Span(
                    _kind(span.kind),
                    span.name,
                    span.trace_id,
                    span.span_id,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == FAILED,
                    {**resource, **_texts_of(span.attributes, names)},
                )


def _texts_of(attributes: Any, names: frozenset[str]) -> dict[str, str]:
    return {each.key: _text_of(each.value) for each in attributes if each.key in names}


def _text_of(value: Any) -> str:
    kind = value.WhichOneof("value")
    if kind not in ("string_value", "int_value", "double_value", "bool_value"):
        return ""
    text = str(getattr(value, kind))
    return text.lower() if kind == "bool_value" else text


POINTS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")  # what a metric may be


def points(body: bytes, form: str) -> int:
    """How many points an export of metrics holds.

    Raises:
        InvalidBodyError: it is no such request.
        MissingLibraryError: the library for protobuf is not installed.
    """
    if form == JSON:
        return _points_in_json(body)
    try:
        request = messages().MetricsRequest.FromString(body)
    except messages().DecodeError as error:
        raise InvalidBodyError(f"expected an ExportMetricsServiceRequest in protobuf: {error}") from None
    metrics = [each for group in request.resource_metrics for scope in group.scope_metrics for each in scope.metrics]
    return sum(len(getattr(metric, kind).data_points) for metric in metrics for kind in POINTS)


class Data(Struct, rename="camel"):
    """Points of a metric."""

    data_points: list[Raw] = []


class Metric(Struct, rename="camel"):
    """Metric."""

    gauge: Data = msgspec.field(default_factory=Data)
    sum: Data = msgspec.field(default_factory=Data)
    histogram: Data = msgspec.field(default_factory=Data)
    exponential_histogram: Data = msgspec.field(default_factory=Data)
    summary: Data = msgspec.field(default_factory=Data)


class ScopeMetrics(Struct):
    """ScopeMetrics."""

    metrics: list[Metric] = []


class ResourceMetrics(Struct, rename="camel"):
    """ResourceMetrics."""

    scope_metrics: list[ScopeMetrics] = []


class MetricsRequest(Struct, rename="camel"):
    """ExportMetricsServiceRequest."""

    resource_metrics: list[ResourceMetrics] = []


_JSON_METRICS = msgspec.json.Decoder(MetricsRequest)


def _points_in_json(body: bytes) -> int:
    try:
        request = _JSON_METRICS.decode(body)
    except UNREADABLE as error:
        raise InvalidBodyError(f"expected an ExportMetricsServiceRequest as JSON: {error}") from None
    metrics = [each for group in request.resource_metrics for scope in group.scope_metrics for each in scope.metrics]
    return sum(len(getattr(metric, kind).data_points) for metric in metrics for kind in POINTS)


Reply = Callable[[str, int, str], bytes]  # of a form, to an export of which so many were not taken, and why


def rejected_spans(form: str, rejected: int, why: str) -> bytes:
    """The reply to an export of spans, of which so many were not taken."""
    return _accepted(form, "rejected_spans", rejected, why)


def rejected_points(form: str, rejected: int, why: str) -> bytes:
    """The reply to an export of metrics, of which so many points were not taken."""
    return _accepted(form, "rejected_data_points", rejected, why)


def _accepted(form: str, member: str, rejected: int, why: str) -> bytes:
    if form == JSON:
        name = "rejectedSpans" if member == "rejected_spans" else "rejectedDataPoints"
        return msgspec.json.encode({"partialSuccess": {name: str(rejected), "errorMessage": why}} if rejected else {})
    reply = messages().TracesReply() if member == "rejected_spans" else messages().MetricsReply()
    if rejected:
        setattr(reply.partial_success, member, rejected)
        reply.partial_success.error_message = why
    return bytes(reply.SerializeToString())


def refused(form: str, code: int, why: str) -> bytes:
    """The reply to what was not taken: a google.rpc.Status, whose code is that of HTTP, for OTLP leaves it open."""
    if form == JSON:
        return msgspec.json.encode({"code": code, "message": why})
    return bytes(messages().Status(code=code, message=why).SerializeToString())


class Messages:
    """The classes of the messages."""

    def __init__(self) -> None:
        from google.protobuf.message import DecodeError
        from google.rpc.status_pb2 import Status
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

        self.DecodeError = DecodeError
        self.Status: Callable[..., Any] = Status
        self.TracesRequest: Any = traces.ExportTraceServiceRequest
        self.TracesReply: Callable[[], Any] = traces.ExportTraceServiceResponse
        self.MetricsRequest: Any = metrics.ExportMetricsServiceRequest
        self.MetricsReply: Callable[[], Any] = metrics.ExportMetricsServiceResponse


@cache
def messages() -> Messages:
    """Loads the libraries the first time.

    Raises:
        MissingLibraryError: they are not installed.
    """
    try:
        return Messages()
    except ModuleNotFoundError:
        raise MissingLibraryError from None
