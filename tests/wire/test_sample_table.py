"""Bodies that are tables: each row means what the same sample means in JSON, and what is malformed is told."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_app.errors import BodyTooLargeError, InvalidBodyError
from metrics_app.wire.bodies import BodyLimits, BodyParts, Parsed, parse, parsing
from metrics_app.wire.chunk import FIRST_MAX, VALUE_MAX, Chunk
from metrics_app.wire.ownership import Owner
from tests.wire.hostile import mostly

NOW_S = 1_795_464_000.5  # 2026-11-23T20:00:00.5Z
HOUR = 498_740
HOUR_START = HOUR * 3600.0
LIMITS = BodyLimits(max_items=1000, max_ahead_s=300, retention_s=31 * 86_400, chunk_values=7)
SENDER = uuid.UUID("0192f0c1-2345-7abc-8def-0123456789ab")
WIDTHS = {"values": "d", "timestamps": "d", "index": "I", "numbers": "Q"}


def read(body: dict[str, Any], limits: BodyLimits = LIMITS, request_id: bytes = b"", **options: Any) -> Parsed:
    parts = BodyParts(NOW_S, limits, request_id, **options)
    for _ in parsing(msgspec.msgpack.encode(body), "application/msgpack", parts):
        pass
    return parts.done()


def packed(body: dict[str, Any]) -> dict[str, Any]:
    """The body with its numbers as bytes, where none is missing."""
    return body | {
        name: struct.pack(f"<{len(column)}{WIDTHS[name]}", *column)
        for name, column in body.items()
        if name in WIDTHS and column is not None and None not in column
    }


def told(parsed: Parsed) -> list[tuple[int, str, str]]:
    return [(each.index, each.reason, each.detail) for each in parsed.rejected]


def chunk(key: str, *values: float, hour: int = HOUR, **more: Any) -> Chunk:
    return Chunk(key.encode(), hour, struct.pack(f"<{len(values)}d", *values), **more)


@pytest.mark.parametrize("form", [dict, packed], ids=["arrays", "bytes"])
def test_a_value_a_key_needs_no_index(form: Any) -> None:
    parsed = read(form({"keys": ["a", "größe"], "values": [1.5, 2.0]}))
    assert parsed.chunks == [chunk("a", 1.5), chunk("größe", 2.0)]
    assert (parsed.accepted, parsed.rejected) == (2, [])


@pytest.mark.parametrize("form", [dict, packed], ids=["arrays", "bytes"])
def test_rows_come_together_by_key_and_hour_in_their_order(form: Any) -> None:
    body = {
        "keys": ["a", "b", "unused"],
        "index": [1, 0, 1, 1],
        "values": [1.0, 2.0, 3.0, 4.0],
        "timestamps": [HOUR_START, HOUR_START - 0.25, HOUR_START + 300, HOUR_START - 3600],
    }
    assert read(form(body)).chunks == [
        chunk("b", 1.0, 3.0),
        chunk("a", 2.0, hour=HOUR - 1),
        chunk("b", 4.0, hour=HOUR - 1),
    ]


@pytest.mark.parametrize("form", [dict, packed], ids=["arrays", "bytes"])
def test_numbers_that_follow_each_other_travel_together(form: Any) -> None:
    body = {
        "keys": ["a", "b"],
        "index": [0, 1, 0, 0],
        "values": [1.0, 2.0, 3.0, 4.0],
        "timestamps": [HOUR_START] * 4,
        "sender": SENDER,
        "numbers": [5, 0, 6, FIRST_MAX],
    }
    assert read(form(body)).chunks == [
        chunk("a", 1.0, 3.0, sender=SENDER.bytes, first=5),
        chunk("a", 4.0, sender=SENDER.bytes, first=FIRST_MAX),
        chunk("b", 2.0, sender=SENDER.bytes, first=0),
    ]


def test_a_number_is_not_given_to_the_value_behind_one_that_is_rejected() -> None:
    body = {
        "keys": ["a"],
        "index": [0, 0, 0],
        "values": [1.0, -1.0, 3.0],
        "timestamps": [HOUR_START] * 3,
        "sender": SENDER,
        "numbers": [0, 1, 2],
    }
    assert [(each.values, each.first) for each in read(body).chunks] == [
        (struct.pack("<d", 1.0), 0),
        (struct.pack("<d", 3.0), 2),
    ]


TABLE = {"keys": ["a", "b"], "index": [0, 1, 0], "values": [1.0, 2.0, 3.0]}


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"keys": "ab"}, "keys: Expected `array`, got `str`"),
        ({"keys": ["a", 7]}, r"keys: Expected `str`, got `int` - at `\$\[1\]`"),
        ({"keys": ["a", "a"]}, "keys: expected each once, got 'a' again"),
        ({"values": [1.0, "2", 3.0]}, r"values: Expected `float`, got `str` - at `\$\[1\]`"),
        ({"values": bytes(23)}, "values: expected float64 bytes, got 23 bytes, no multiple of 8"),
        ({"values": None}, "values: Expected `array`, got `None`"),
        ({"index": None}, "index: expected one, for there are 2 keys and 3 values"),
        ({"index": [0, 1]}, "index: expected 3, one for each value, got 2"),
        ({"index": [0, 1, 2]}, r"index\[2\]: expected 0 to 1, got 2"),
        ({"index": [0, 1, -1]}, r"index\[2\]: expected 0 to 1, got -1"),
        ({"index": [0, 1, 2**64 - 1]}, r"index: expected whole numbers below 2\^63"),
        ({"index": [0, 1, 0.5]}, r"index: Expected `int`, got `float` - at `\$\[2\]`"),
        ({"index": bytes(11)}, "index: expected uint32 bytes, got 11 bytes, no multiple of 4"),
        ({"timestamps": [HOUR_START]}, "timestamps: expected 3, one for each value, got 1"),
        ({"timestamps": "now"}, "timestamps: Expected `array`, got `str`"),
        ({"ids": ["x"]}, "ids: expected 3, one for each value, got 1"),
        ({"ids": ["x", "y", 3]}, r"ids: Expected `str \| null`, got `int` - at `\$\[2\]`"),
        ({"sender": SENDER}, "expected a sender and numbers, or neither"),
        ({"sender": "me", "numbers": [0, 0, 1]}, r"Invalid UUID - at `\$.sender`"),
        ({"numbers": [0, 0, 1]}, "expected a sender and numbers, or neither"),
        ({"sender": SENDER, "numbers": [0, 0, 1]}, "timestamps: expected one for each value, as numbers are counted"),
        (
            {"sender": SENDER, "numbers": [0, 0, 1], "timestamps": [HOUR_START, None, HOUR_START]},
            "timestamps: expected one for each value, as numbers are counted",
        ),
        (
            {"sender": SENDER, "numbers": [0, 0, FIRST_MAX + 1], "timestamps": [HOUR_START] * 3},
            rf"numbers\[2\]: expected 0 to {FIRST_MAX}, got {FIRST_MAX + 1}",
        ),
        (
            {"sender": SENDER, "numbers": [0, 0, 1], "timestamps": [HOUR_START] * 3, "ids": ["x", "y", "z"]},
            "expected ids, or numbers of a sender, not both",
        ),
        ({"value": [1.0]}, "Object contains unknown field `value`"),
    ],
)
def test_a_malformed_table_is_refused_as_a_whole_and_named(change: dict[str, Any], detail: str) -> None:
    with pytest.raises(InvalidBodyError, match=detail):
        read(TABLE | change)


def test_a_table_without_values_is_told_what_is_missing() -> None:
    with pytest.raises(InvalidBodyError, match="missing required field `values`"):
        read({"keys": ["a"]})


def test_a_row_is_rejected_by_the_part_at_fault_and_its_neighbours_are_kept() -> None:
    far = HOUR_START + 301
    body = {
        "keys": ["a", "bad\n", "his/b", "a/c"],
        "index": [0, 3, 3, 3, 1, 2, 3],
        "values": [1.0, float("nan"), 2.0**44 * 2, 3.0, 4.0, 5.0, 6.0],
        "timestamps": [None, None, None, far, None, None, float("nan")],
        "ids": ["x", "y", "z", "ok", "ok", "ok", "ok"],
    }
    parsed = read(body, owner=Owner("me", ("a", "bad")))
    assert parsed.accepted == 1
    assert told(parsed) == [
        (1, "value", "value: expected a number from 0 to 2^44, got nan"),
        (2, "value", f"value: expected a number from 0 to 2^44, got {2.0**45}"),
        (3, "timestamp", "timestamp: expected at most 300 s ahead of the clock; it is 300.5 s ahead"),
        (4, "key", told(parsed)[3][2]),
        (5, "forbidden", "key: the token is for keys that begin with 'a' or 'bad'"),
        (6, "timestamp", "timestamp: expected epoch seconds, got nan"),
    ]
    assert "U+000A at character 3" in told(parsed)[3][2]


@pytest.mark.parametrize("bad", ["", "x" * 256])
def test_an_id_that_is_too_short_or_too_long_rejects_its_row(bad: str) -> None:
    parsed = read(TABLE | {"ids": ["x", bad, None]})
    assert [(index, reason) for index, reason, _ in told(parsed)] == [(1, "id")]
    assert parsed.accepted == 2


def only_a(rows: Sequence[tuple[bytes, int]]) -> list[int]:
    return [at for at, (key, _hour) in enumerate(rows) if key != b"a"]


def test_rows_that_would_begin_too_many_are_rejected_and_the_others_kept() -> None:
    parsed = read(TABLE | {"values": [1.0, -1.0, 3.0]} | {"index": [0, 1, 1]}, admits=only_a)
    assert [(index, reason) for index, reason, _ in told(parsed)] == [(1, "value"), (2, "keys")]
    assert parsed.chunks == [chunk("a", 1.0)]


def test_limits_of_values_keys_and_rows_hold_before_anything_is_kept() -> None:
    most: dict[str, Any] = {"keys": [f"{i}" for i in range(1000)], "values": [1.0] * 1000}
    assert read(most).accepted == 1000
    with pytest.raises(BodyTooLargeError, match="rows"):
        read(most, LIMITS._replace(max_rows=999))
    more = most["keys"] + ["more"]
    for body in ({"keys": more, "values": [1.0] * 1001}, {"keys": more, "values": [1.0], "index": [0]}):
        with pytest.raises(BodyTooLargeError, match="samples"):
            read(body)
    with pytest.raises(BodyTooLargeError, match="samples"):
        read({"keys": ["a"], "values": struct.pack("<1001d", *[1.0] * 1001), "index": [0] * 1001})


def test_a_row_that_is_refused_for_now_keeps_its_place_among_those_of_the_request() -> None:
    times = [HOUR_START, HOUR_START + 900, HOUR_START + 1, HOUR_START + 2]
    body = {"keys": ["a"], "index": [0] * 4, "values": [1.0, 2.0, 3.0, 4.0], "timestamps": times}
    parsed = read(body, request_id=b"r")
    assert [(each.first, each.values) for each in parsed.chunks] == [
        (1, struct.pack("<d", 1.0)),
        (3, struct.pack("<2d", 3.0, 4.0)),
    ]
    assert [(index, reason) for index, reason, _ in told(parsed)] == [(1, "timestamp")]


# the law: a table is its rows as JSON

keys = mostly(["a", "b", "größe"], ["bad\n", "", "k" * 257])
values = mostly([0.0, -0.0, 1.5, 12.0, VALUE_MAX], [VALUE_MAX * 2, -1.0])
timestamps = st.sampled_from([None, None, HOUR_START, HOUR_START + 250.5, HOUR_START + 900, HOUR_START - 1, 7.0])
ids = mostly([None, None, None, "x", "y", "i" * 255], ["i" * 256, ""])
samples = st.lists(st.tuples(keys, values, timestamps, ids), min_size=1, max_size=30)


def table_of(given_samples: list[tuple[Any, ...]]) -> dict[str, Any]:
    names, measured, times, texts = map(list, zip(*given_samples, strict=True))
    known = list(dict.fromkeys(names))
    body = {"keys": known, "index": [known.index(name) for name in names], "values": measured}
    if any(time is not None for time in times):
        body["timestamps"] = times
    if any(text is not None for text in texts):
        body["ids"] = texts
    return body


def as_json(given_samples: list[tuple[Any, ...]], request_id: bytes) -> Parsed:
    names = ("key", "value", "timestamp", "id")
    items = [
        {name: each for name, each in zip(names, sample, strict=True) if each is not None} for sample in given_samples
    ]
    return parse(msgspec.json.encode(items), "application/json", NOW_S, LIMITS, request_id)


@pytest.mark.parametrize("form", [dict, packed], ids=["arrays", "bytes"])
@settings(deadline=None)
@given(samples, st.sampled_from([b"", b"request"]))
def test_a_table_is_kept_as_its_rows_are_in_json(
    form: Any, given_samples: list[tuple[Any, ...]], request_id: bytes
) -> None:
    ours = read(form(table_of(given_samples)), request_id=request_id)
    theirs = as_json(given_samples, request_id)
    assert ours.accepted == theirs.accepted
    assert [each.index for each in ours.rejected] == [each.index for each in theirs.rejected]
    if request_id:  # a group may begin with a row that is refused for now: its place in the record says nothing
        assert sorted(ours.chunks) == sorted(theirs.chunks)
    else:
        assert ours.chunks == theirs.chunks


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from(["keys", "values", "index", "timestamps", "ids", "numbers", "sender"]))
def test_a_column_of_any_bytes_is_taken_or_refused_but_never_breaks(raw: bytes, name: str) -> None:
    body = TABLE | {name: msgspec.Raw(raw or b"\xc0")}
    try:
        parsed = read(body)
    except InvalidBodyError:
        return
    assert parsed.received == 3
