"""What is taken of spans, whatever they were encoded as."""

from __future__ import annotations

import struct
from collections import Counter

import pytest

from metrics_app.errors import BodyTooLargeError
from metrics_app.sources.key_template import KeyTemplate
from metrics_app.sources.spans import UNITS, Span, SpanRules, UnusableSpanError, read
from metrics_app.wire.bodies import BodyLimits, BodyParts, Parsed
from metrics_app.wire.ownership import NO_OWNER, Owner

NOW_S = 1_795_464_000.5  # 2026-11-23T20:00:00.5Z
HOUR = 498_740
END_NS = HOUR * 3600 * 10**9 + 5 * 10**8
RULES = SpanRules(frozenset({"server"}), KeyTemplate.of("{service.name} {http.route|name}"), UNITS["ms"])
LIMITS = BodyLimits(max_items=100, max_ahead_s=300, retention_s=31 * 86_400, chunk_values=50, max_rows=10)
SPAN = Span(
    "server",
    "GET /a",
    b"t" * 16,
    b"s" * 8,
    END_NS - 1_500_000,
    END_NS,
    failed=False,
    attributes={"service.name": "shop"},
)


def taken(*spans: Span | UnusableSpanError, rules: SpanRules = RULES, owner: Owner = NO_OWNER) -> Parsed:
    parts = BodyParts(NOW_S, LIMITS, owner=owner)
    for _ in read(spans, rules, parts):
        pass
    return parts.done()


def numbered(number: int) -> Span:
    return SPAN._replace(id=number.to_bytes(8, "big"))


def test_a_span_is_a_sample_of_the_moment_when_it_ended() -> None:
    (chunk,) = taken(SPAN).chunks
    assert (chunk.key, chunk.hour, struct.unpack("<d", chunk.values)) == (b"shop GET /a", HOUR, (1.5,))


def test_one_that_began_in_the_hour_before_belongs_to_the_hour_of_its_end() -> None:
    (chunk,) = taken(SPAN._replace(start_ns=END_NS - 10**12)).chunks
    assert (chunk.hour, struct.unpack("<d", chunk.values)) == (HOUR, (1_000_000.0,))


def test_its_id_is_that_of_a_sample_named_by_trace_and_span() -> None:
    """So a span sent again counts once, also beside a sample that was posted under that id."""
    (chunk,) = taken(SPAN).chunks
    assert chunk.ids == NO_OWNER.sample_id(b"shop GET /a", f"{'74' * 16}-{'73' * 8}")
    assert len({each.ids for each in (chunk, taken(SPAN._replace(id=b"other id")).chunks[0])}) == 2


@pytest.mark.parametrize("kind", ["", "internal", "client", "producer", "consumer"])
def test_other_kinds_are_left_out_without_a_word(kind: str) -> None:
    assert taken(SPAN._replace(kind=kind)) == Parsed([], 0, [], Counter())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"start_ns": END_NS + 1}, "value"),
        ({"start_ns": -1}, "value"),
        ({"start_ns": 0}, "value"),
        ({"end_ns": 0}, "value"),
        ({"start_ns": 1, "end_ns": 1}, "timestamp"),
        ({"start_ns": END_NS + 10**13, "end_ns": END_NS + 10**13}, "timestamp"),
        ({"trace": b""}, "id"),
        ({"trace": bytes(16)}, "id"),
        ({"id": bytes(8)}, "id"),
        ({"id": b"long id of ten"}, "id"),
        ({"attributes": {}}, "key"),
        ({"name": ""}, "key"),
        ({"name": "a\nb"}, "key"),
        ({"name": "k" * 300}, "key"),
    ],
)
def test_an_unusable_span_is_rejected_by_its_fault_and_its_neighbours_are_kept(
    change: dict[str, object], reason: str
) -> None:
    parsed = taken(numbered(1), SPAN._replace(**change), numbered(2))  # type: ignore[arg-type]  # one of its members
    assert ([(each.index, each.reason) for each in parsed.rejected], parsed.accepted) == ([(1, reason)], 2)


def test_one_that_could_not_even_be_decoded_is_rejected_too() -> None:
    parsed = taken(numbered(1), UnusableSpanError("json", "span: what?"))
    assert (parsed.accepted, parsed.reasons, parsed.rejected[0].detail) == (1, Counter(json=1), "span: what?")


def test_keys_that_are_somebody_elses_are_rejected() -> None:
    assert taken(SPAN, owner=Owner("ann", ("ann.",))).reasons == Counter(forbidden=1)


def test_a_template_may_tell_kind_and_status() -> None:
    rules = RULES._replace(template=KeyTemplate.of("{kind} {status} {name}"))
    parsed = taken(SPAN, SPAN._replace(failed=True), rules=rules)
    assert [chunk.key for chunk in parsed.chunks] == [b"server ok GET /a", b"server error GET /a"]


def test_attributes_do_not_stand_in_for_what_a_span_is() -> None:
    rules = RULES._replace(template=KeyTemplate.of("{kind} {status} {name}"))
    (chunk,) = taken(SPAN._replace(attributes={"kind": "x", "status": "404", "name": "pool"}), rules=rules).chunks
    assert chunk.key == b"server ok GET /a"


@pytest.mark.parametrize(("unit", "value"), [("ns", 1_500_000.0), ("us", 1500.0), ("s", 0.0015)])
def test_values_are_in_the_unit_of_the_service(unit: str, value: float) -> None:
    (chunk,) = taken(SPAN, rules=RULES._replace(unit_ns=UNITS[unit])).chunks
    assert struct.unpack("<d", chunk.values) == (value,)


def test_too_many_spans_and_too_many_keys_are_refused() -> None:
    with pytest.raises(BodyTooLargeError, match="samples"):
        taken(*[numbered(each + 1) for each in range(101)])
    with pytest.raises(BodyTooLargeError, match="rows"):
        taken(*[numbered(each + 1)._replace(name=f"GET /{each}") for each in range(11)])
