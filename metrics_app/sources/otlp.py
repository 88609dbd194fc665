"""OTLP/HTTP: which encoding an export request has, and what is replied to it (opentelemetry-proto 1.x, OTLP 1.x).

Called by `collector.otlp`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from metrics_app.errors import UnsupportedTypeError
from metrics_app.sources import otlp_json, otlp_protobuf
from metrics_app.sources.otlp_messages import messages
from metrics_app.sources.spans import Spans

PROTOBUF, JSON = "application/x-protobuf", "application/json"


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
    return otlp_json.spans(body, names) if form == JSON else otlp_protobuf.spans(body, messages(), names)


def points(body: bytes, form: str) -> Iterator[int]:
    """How many points an export of metrics holds, in parts.

    Raises:
        InvalidBodyError: it is no such request.
    """
    return otlp_json.points(body) if form == JSON else otlp_protobuf.points(body)


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
