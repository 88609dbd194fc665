"""Series with a histogram instead of values: what is taken, and what is no histogram."""

from __future__ import annotations

import struct
import uuid
from typing import Any

import msgspec
import numpy as np
import pytest

from metrics_app.client.gathering import SentHistogram
from metrics_app.errors import BodyTooLargeError
from metrics_app.stats import codec
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.bodies import BodyLimits, Parsed, parse
from metrics_app.wire.columnar_body import HISTOGRAM_ITEMS

NOW_S = 1_795_464_000.5
HOUR = 498_740
LIMITS = BodyLimits(max_items=10_000, max_ahead_s=300, retention_s=31 * 86_400, chunk_values=100)
SENDER = uuid.UUID("0192f0c1-2345-7abc-8def-0123456789ab")
VALUES = [0.0, 1e-7, 0.25, 3.0, 3.0, 400.5]
FORMS = [
    pytest.param(msgspec.json.encode, "application/json", id="json"),
    pytest.param(msgspec.msgpack.encode, "application/msgpack", id="msgpack"),
]
BOTH = pytest.mark.parametrize(("encode", "content_type"), FORMS)


def histogram(**changed: Any) -> dict[str, Any]:
    made = SentHistogram()
    made.add(VALUES)
    return made.body() | changed


def series(body: Any, **members: Any) -> dict[str, Any]:
    return {"key": "a", "hour": HOUR, "first": 0, "histogram": body} | members


def body(*runs: Any, sender: bool = True) -> dict[str, Any]:
    return {"series": list(runs)} | ({"sender": str(SENDER)} if sender else {})


def read(encoded: bytes, content_type: str, limits: BodyLimits = LIMITS, request_id: bytes = b"") -> Parsed:
    return parse(encoded, content_type, NOW_S, limits, request_id)


@BOTH
def test_it_becomes_one_indivisible_chunk_with_the_numbers_of_all_its_values(encode: Any, content_type: str) -> None:
    large = SentHistogram()
    large.add([1.5] * 5000)
    parsed = read(encode(body(series(histogram()), series(large.body(), key="b", first=7))), content_type)
    assert [(c.key, c.first, c.count, len(c.values)) for c in parsed.chunks] == [(b"a", 0, 6, 0), (b"b", 7, 5000, 0)]
    assert parsed.accepted == parsed.received == 5006
    summary = HourlySummary(exact_distinct=0)
    summary.add(np.array(VALUES))
    assert parsed.chunks[0].histogram == codec.encode(summary)


@BOTH
def test_histograms_and_values_may_share_a_body(encode: Any, content_type: str) -> None:
    values = {"key": "b", "hour": HOUR, "values": [-0.0, 2.0]}
    parsed = read(encode(body(series(histogram()), values)), content_type)
    assert [(c.weight, c.values) for c in parsed.chunks] == [(6, b""), (0, struct.pack("<2d", 0, 2))]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"counts": []}, "contradict"),
        ({"counts": [], "zeros": 0, "tiny": 0}, "expected 1 to 4,294,967,295 values, got 0"),
        ({"zeros": 4_294_967_295}, "expected 1 to"),
        ({"min": 0.5}, "contradict"),
        ({"min": float("-inf")}, "contradict"),
        ({"max": 401e9}, "contradict"),
        ({"max": 2.0**45}, "contradict"),
        ({"sum": "f" * 40}, "impossible sum"),
        ({"squares": "1"}, "impossible sum of squares"),
        ({"zeros": 0}, "contradict"),
        ({"offset": -1281}, "expected buckets -1280 to 2815"),
        ({"offset": 2815}, "expected buckets"),
        ({"offset": 0}, "contradict"),
    ],
)
def test_members_that_contradict_each_other_or_the_buckets_are_refused(changed: dict[str, Any], said: str) -> None:
    encoded = msgspec.msgpack.encode(body(series(histogram(**changed)), series(histogram(), key="good")))
    parsed = read(encoded, "application/msgpack")
    assert [chunk.key for chunk in parsed.chunks] == [b"good"]
    assert [(rejection.index, rejection.reason) for rejection in parsed.rejected] == [(0, "histogram")]
    assert said in parsed.rejected[0].detail


@BOTH
@pytest.mark.parametrize(
    ("run", "said"),
    [
        (series(histogram(), values=[1.0]), "expected either values or a histogram"),
        ({"key": "a", "hour": HOUR}, "expected either values or a histogram"),
        (series(histogram(sum="-1")), "$.sum"),
        (series(histogram(sum="f" * 49)), "$.sum"),
        (series(histogram(squares="0x1")), "$.squares"),
        (series(histogram(counts=[-1])), "$.counts"),
        (series(histogram(counts=[True])), "$.counts"),
        (series(histogram(more=1)), "unknown field `more`"),
        (series({"min": 1.0, "max": 1.0}), "missing required field `sum`"),
        (series(7), "Expected `object`"),
        (series(histogram(counts=[1] * 70_000)), "at most 65,536 bytes"),
    ],
)
def test_what_has_another_form_is_refused_by_the_part_at_fault(
    encode: Any, content_type: str, run: Any, said: str
) -> None:
    limits = LIMITS._replace(max_items=100_000)
    parsed = read(encode(body(run, series(histogram(), key="good"))), content_type, limits)
    assert [chunk.key for chunk in parsed.chunks] == [b"good"]
    assert [(rejection.index, rejection.reason) for rejection in parsed.rejected] == [(0, "shape")]
    assert said in parsed.rejected[0].detail


def test_the_key_and_the_hour_are_looked_at_as_ever_and_all_values_are_counted() -> None:
    runs = [series(histogram(), key=""), series(histogram(), hour=HOUR + 9)]
    parsed = read(msgspec.json.encode(body(*runs)), "application/json")
    assert parsed.reasons == {"key": 6, "hour": 6}


def test_what_it_costs_counts_against_the_limit_not_what_it_stands_for() -> None:
    wide = histogram()  # over 1,000 values' worth of buckets
    limits = LIMITS._replace(max_items=len(wide["counts"]) + HISTOGRAM_ITEMS)
    encoded = msgspec.msgpack.encode(body(series(wide)))
    assert read(encoded, "application/msgpack", limits).accepted == 6
    with pytest.raises(BodyTooLargeError):
        read(encoded, "application/msgpack", limits._replace(max_items=limits.max_items - 1))


def test_tiny_ones_count_for_more_than_their_buckets() -> None:
    tiny = histogram(min=0.0, max=0.0, sum="0", squares="0", zeros=1, tiny=0, counts=[])
    most = LIMITS.max_items // HISTOGRAM_ITEMS
    assert read(msgspec.msgpack.encode(body(*[series(tiny)] * most)), "application/msgpack").accepted == most
    with pytest.raises(BodyTooLargeError):
        read(msgspec.msgpack.encode(body(*[series(tiny)] * (most + 1))), "application/msgpack")


def test_without_a_sender_the_request_id_names_the_whole_of_it() -> None:
    encoded = msgspec.json.encode(body(series(histogram()), sender=False))
    chunks = [read(encoded, "application/json", request_id=b"r").chunks[0] for _ in range(2)]
    assert chunks[0] == chunks[1]
    assert len(chunks[0].ids) == 16
    assert read(encoded, "application/json").chunks[0].ids == b""
