"""Takes the durations of spans as samples. Pure: no protocol, no clock.

Called by `otlp`, `otlp_json`, `otlp_protobuf` and `collector.otlp`.

A span is a sample of the moment when it ended. Its id is made of trace and span id, so a span that comes again, from an
exporter that tries again or from two collectors, counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from struct import pack
from typing import NamedTuple, TypeVar

from metrics_app.errors import BodyTooLargeError
from metrics_app.sources.key_template import KeyTemplate, MissingNameError
from metrics_app.wire.chunk import VALUE_MAX, Chunk
from metrics_app.wire.gathering import HOUR_S, ITEMS_A_STEP, NO_MORE_ROWS, BodyParts, Steps, shown, why_not_then
from metrics_app.wire.metric_key import key_bytes
from metrics_app.wire.ownership import FORBIDDEN, forbidden

NANOS = 1_000_000_000
# nanoseconds in the units that METRICS_UNIT may have for durations
UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": NANOS, "min": 60 * NANOS}
TRACE_BYTES, SPAN_BYTES = 16, 8
KIND, NAME, STATUS = "kind", "name", "status"  # what a template may name besides attributes
OK, ERROR = "ok", "error"
KINDS = ("", "internal", "server", "client", "producer", "consumer")  # by their numbers in OTLP
MOST_BYTES = 256 << 10  # of a span or resource as it is encoded: what is decoded in one go
TOO_LARGE = f"span: expected at most {MOST_BYTES:,} bytes"
STEPS_AN_ITEM = 4  # of METRICS_MAX_ITEMS: resources, scopes and spans that a body may have, whether taken or not


class Span(NamedTuple):
    """One span, whatever it was encoded as.

    Attributes:
        kind: in lower case: internal, server, client, producer, consumer; empty when it does not say.
        start_ns, end_ns: epoch nanoseconds; not above 0 when it does not say.
        failed: whether its status is an error.
        attributes: of the span, else of its resource; those that the template names.
    """

    kind: str
    name: str
    trace: bytes
    id: bytes
    start_ns: int
    end_ns: int
    failed: bool
    attributes: Mapping[str, str]


class SpanRules(NamedTuple):
    """What is taken of spans, and as what.

    Attributes:
        kinds: of the spans that are taken; others are left out without a word.
        unit_ns: nanoseconds in the unit of the values.
    """

    kinds: frozenset[str]
    template: KeyTemplate
    unit_ns: int


class UnusableSpanError(ValueError):
    """A span that is no sample; `reason` is a word for machines."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


Spans = Iterator[Span | UnusableSpanError | None]  # None: something around the spans, after which others may go on
Groups = dict[tuple[str, int], tuple[list[float], list[bytes]]]  # values and ids by key and hour


def kind_of(number: int) -> str:
    """The name of a kind; empty when the number is none."""
    return KINDS[number] if 0 <= number < len(KINDS) else ""


T = TypeVar("T")


def bounded(steps: Iterable[T], parts: BodyParts) -> Iterator[T]:
    """The steps of reading a body, as many as one may take.

    Raises:
        BodyTooLargeError: it takes more, as one does that has next to nothing in very many parts.
    """
    most = STEPS_AN_ITEM * parts.limits.max_items
    for number, step in enumerate(steps):
        if number >= most:
            raise BodyTooLargeError("the number of parts", most, "resources, scopes, items and fields around them")
        yield step


def read(spans: Iterable[Span | UnusableSpanError | None], rules: SpanRules, parts: BodyParts) -> Steps:
    """Gathers the spans that are taken, step by step.

    Raises:
        BodyTooLargeError: more spans, or keys and hours, than the limits.
    """
    groups: Groups = {}
    index = -1
    for span in bounded(spans, parts):
        yield
        if span is None:
            continue
        index += 1
        if isinstance(span, Span) and span.kind not in rules.kinds:
            continue
        parts.count_in(1)
        try:
            if isinstance(span, UnusableSpanError):
                raise span
            _group(span, rules, parts, groups)
        except UnusableSpanError as error:
            parts.reject(index, error.reason, str(error))
    yield from _add_all(groups, parts)


def _group(span: Span, rules: SpanRules, parts: BodyParts, groups: Groups) -> None:
    key, value, hour = _key_of(span, rules.template), _value_of(span, rules.unit_ns), _hour_of(span, parts)
    id_text = _id_of(span)
    group = groups.get((key, hour))
    if group is None:
        _check_key(key, hour, parts)
        group = groups[key, hour] = [], []
        parts.check_rows(len(groups))
    group[0].append(value)
    group[1].append(parts.owner.sample_id(key_bytes(key), id_text))


def _key_of(span: Span, template: KeyTemplate) -> str:
    status = ERROR if span.failed else OK
    try:
        return template.filled({**span.attributes, NAME: span.name, KIND: span.kind, STATUS: status})
    except MissingNameError as error:
        raise UnusableSpanError("key", str(error)) from None


def _value_of(span: Span, unit_ns: int) -> float:
    if span.start_ns <= 0:  # an absent one is 0, and would count from 1970
        raise UnusableSpanError("value", "duration: expected the time of the start, which the span does not tell")
    if not 0 <= span.end_ns - span.start_ns <= VALUE_MAX * unit_ns:
        taken = f"{span.start_ns} to {span.end_ns}"
        raise UnusableSpanError("value", f"duration: expected an end at or after the start, in range, got {taken}")
    return (span.end_ns - span.start_ns) / unit_ns


def _hour_of(span: Span, parts: BodyParts) -> int:
    ended_s = span.end_ns / NANOS
    if not parts.oldest_s <= ended_s <= parts.newest_s:
        raise UnusableSpanError("timestamp", why_not_then(ended_s, parts))
    return span.end_ns // (HOUR_S * NANOS)


def _id_of(span: Span) -> str:
    if len(span.trace) != TRACE_BYTES or len(span.id) != SPAN_BYTES or not any(span.trace) or not any(span.id):
        raise UnusableSpanError(
            "id", f"expected a trace id of {TRACE_BYTES} bytes and a span id of {SPAN_BYTES}, not 0"
        )
    return f"{span.trace.hex()}-{span.id.hex()}"


def _check_key(key: str, hour: int, parts: BodyParts) -> None:
    try:
        may_keep = parts.may_keep(key_bytes(key), hour)
    except ValueError as error:
        raise UnusableSpanError("key", f"key {shown(key)!r}: {error}") from None
    if not may_keep:
        raise UnusableSpanError("keys", NO_MORE_ROWS)
    if not parts.owner.has(key):
        raise UnusableSpanError(FORBIDDEN, forbidden(parts.owner.prefixes))


def _add_all(groups: Groups, parts: BodyParts) -> Iterator[None]:
    for number, ((key, hour), (values, ids)) in enumerate(groups.items(), 1):
        if number % ITEMS_A_STEP == 0:
            yield
        if values:
            parts.add(Chunk(key_bytes(key), hour, pack(f"<{len(values)}d", *values), ids=b"".join(ids)))
