"""Decodes OTLP's export requests in protobuf, a span at a time.

Called by `otlp`.

What is around the spans is walked here: eight megabytes can hold four million empty messages, of which the library
would make objects all at once. Spans and resources, which are bounded, are the library's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from metrics_app.errors import BodyTooLargeError, InvalidBodyError
from metrics_app.sources.otlp_messages import Messages
from metrics_app.sources.spans import MOST_BYTES, TOO_LARGE, Span, Spans, UnusableSpanError, kind_of

FAILED = 2  # STATUS_CODE_ERROR
# numbers of fields
GROUPS = frozenset({1})  # of a request: its ResourceSpans or ResourceMetrics
RESOURCE, SCOPES = frozenset({1}), frozenset({2})  # of these
ITEMS = frozenset({2})  # of a scope: its spans or metrics
DATA = frozenset({5, 7, 9, 10, 11})  # of a metric: gauge, sum, histogram, exponential histogram, summary
POINTS = frozenset({1})  # of any of these
POINTS_PATH = (GROUPS, SCOPES, ITEMS, DATA, POINTS)

VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5
FIXED = {EIGHT_BYTES: 8, FOUR_BYTES: 4}


def spans(body: bytes, messages: Messages, names: frozenset[str]) -> Spans:
    """The spans of an export request; of their attributes those with these names.

    Raises:
        InvalidBodyError: it is no such request; with the first thing that shows it.
    """
    for group in fields(body, GROUPS):
        yield None
        if group:
            yield from _of_group(group, messages, names)


def _of_group(group: bytes, messages: Messages, names: frozenset[str]) -> Spans:
    encoded = b""
    for part in fields(group, RESOURCE):
        yield None
        encoded += part or b""  # given twice it is one, as protobuf has it
        if len(encoded) > MOST_BYTES:
            raise BodyTooLargeError("a resource", MOST_BYTES, "bytes")
    shared = _texts(_resource(encoded, messages).attributes, names)
    for scope in fields(group, SCOPES):
        yield None
        for span in fields(scope or b"", ITEMS):
            yield None if span is None else _span(span, messages, shared, names)


def _resource(encoded: bytes, messages: Messages) -> Any:
    try:
        return messages.Resource.FromString(encoded)
    except messages.DecodeError as error:
        raise InvalidBodyError(f"expected a Resource in protobuf: {error}") from None


def _span(
    encoded: bytes, messages: Messages, shared: Mapping[str, str], names: frozenset[str]
) -> Span | UnusableSpanError:
    if len(encoded) > MOST_BYTES:
        return UnusableSpanError("size", TOO_LARGE)
    try:
        span = messages.Span.FromString(encoded)
    except messages.DecodeError as error:
        return UnusableSpanError("protobuf", f"span: {error}")
    return Span(
        kind_of(span.kind),
        span.name,
        span.trace_id,
        span.span_id,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == FAILED,
        {**shared, **_texts(span.attributes, names)},
    )


def _texts(attributes: Any, names: frozenset[str]) -> dict[str, str]:
    return {each.key: _text(each.value) for each in attributes if each.key in names}


def _text(value: Any) -> str:
    kind = value.WhichOneof("value")
    if kind not in ("string_value", "int_value", "double_value", "bool_value"):
        return ""
    text = str(getattr(value, kind))
    return text.lower() if kind == "bool_value" else text


def points(body: bytes, path: tuple[frozenset[int], ...] = POINTS_PATH) -> Iterator[int]:
    """A 1 for each point that an export of metrics holds, and a 0 for whatever else is met.

    Raises:
        InvalidBodyError: it is no such request; with the first thing that shows it.
    """
    for field in fields(body, path[0]):
        yield int(field is not None and len(path) == 1)
        if field is not None and path[1:]:
            yield from points(field, path[1:])


def fields(message: bytes, wanted: frozenset[int]) -> Iterator[bytes | None]:
    """The fields of a message that have these numbers and a length, in order; None in the place of any other.

    Raises:
        InvalidBodyError: it is cut off, or no protobuf.
    """
    at = 0
    while at < len(message):
        tag, at = _number(message, at)
        number, kind = tag >> 3, tag & 7
        size, at = _number(message, at) if kind in (LENGTH, VARINT) else (FIXED.get(kind, -1), at)
        end = at if kind == VARINT else at + size
        if size < 0 or not number or end > len(message):
            raise _unreadable(f"field {number} of kind {kind} is cut off or unknown")
        yield message[at:end] if kind == LENGTH and number in wanted else None
        at = end


def _number(message: bytes, at: int) -> tuple[int, int]:
    """A number in the form of a varint, and where it ends."""
    found = 0
    for shift in range(0, 70, 7):
        if at == len(message):
            break
        byte = message[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, at
    raise _unreadable("a number is cut off or too long")


def _unreadable(why: str) -> InvalidBodyError:
    return InvalidBodyError(f"expected an Export...ServiceRequest in protobuf: {why}")
