from __future__ import annotations

import gzip
import json
import re
import struct
import tracemalloc
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.errors import BodyTooLargeError, InvalidBodyError, UnsupportedTypeError
from metrics_app.wire.bodies import MAX_GZIP_MEMBERS, BodyLimits, Parsed, inflate, lone_sample, parse
from metrics_app.wire.chunk import VALUE_MAX, Chunk
from metrics_app.wire.gathering import LISTED

NOW_S = 1_795_464_000.5  # 2026-11-23T20:00:00.5Z
HOUR = 498_740
LIMITS = BodyLimits(max_items=1000, max_ahead_s=300, retention_s=31 * 86_400, chunk_values=100)
JSON, LINES, MSGPACK = "application/json", "application/x-ndjson", "application/msgpack"
SENDER = uuid.UUID("0192f0c1-2345-7abc-8def-0123456789ab")


def read(body: bytes | str, content_type: str = JSON, limits: BodyLimits = LIMITS, request_id: bytes = b"") -> Parsed:
    return parse(body.encode() if isinstance(body, str) else body, content_type, NOW_S, limits, request_id)


def content(parsed: Parsed) -> dict[tuple[str, int], list[float]]:
    """Values by key and hour; fails when a key and hour comes twice."""
    assert parsed.accepted == sum(chunk.count for chunk in parsed.chunks)
    found = {(chunk.key.decode(), chunk.hour): floats(chunk.values) for chunk in parsed.chunks}
    assert len(found) == len(parsed.chunks)
    return found


def floats(values: bytes | memoryview) -> list[float]:
    return list(struct.unpack(f"<{len(values) // 8}d", values))


def reasons(parsed: Parsed) -> list[tuple[int, str]]:
    return [(rejection.index, rejection.reason) for rejection in parsed.rejected]


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        ('{"key":"a","value":12.5}', JSON, {("a", HOUR): [12.5]}),
        ('["a",12.5]', JSON, {("a", HOUR): [12.5]}),
        (' [ "a" , 12 ] ', JSON, {("a", HOUR): [12]}),
        ('["a",1,1795463999.9]', JSON, {("a", HOUR - 1): [1]}),
        ('[["a",1],["b",2],["a",3]]', JSON, {("a", HOUR): [1, 3], ("b", HOUR): [2]}),
        ('[{"key":"a","value":1},{"value":2,"key":"a"}]', JSON, {("a", HOUR): [1, 2]}),
        ('[{"key":"a","value":1},["a",2]]', JSON, {("a", HOUR): [1, 2]}),
        ('[["a",2],{"key":"a","value":1}]', JSON, {("a", HOUR): [2, 1]}),
        ("[]", JSON, {}),
        ('{"key":"a","value":1}\n["a",2]\n\n  \r\n["b",3]', LINES, {("a", HOUR): [1, 2], ("b", HOUR): [3]}),
        ('["a",1]\n["a",2]\n', LINES, {("a", HOUR): [1, 2]}),
        ('{"key":"series","value":1}', JSON, {("series", HOUR): [1]}),
        ('{"key":"a","value":1,"timestamp":null,"id":null}', JSON, {("a", HOUR): [1]}),
        ('{"key":"\\u00fc\\ud83d\\ude00","value":1}', JSON, {("ü😀", HOUR): [1]}),
    ],
)
def test_every_form_gives_its_values_by_key_and_hour(
    body: str, content_type: str, expected: dict[tuple[str, int], list[float]]
) -> None:
    parsed = read(body, content_type)
    assert content(parsed) == expected
    assert not parsed.rejected


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "Application/JSON; charset=UTF-8",
        'application/json;charset="utf-8"',
        "text/plain",
        "application/x-www-form-urlencoded",
    ],
)
def test_json_is_taken_under_every_content_type_that_curl_sends(content_type: str) -> None:
    assert content(read('["a",1]', content_type)) == {("a", HOUR): [1]}


@pytest.mark.parametrize(
    "content_type", ["text/csv", "application/xml", "multipart/form-data; boundary=x", "text/plain; charset=latin-1"]
)
def test_a_foreign_content_type_is_415(content_type: str) -> None:
    with pytest.raises(UnsupportedTypeError, match="is not taken; expected"):
        read('["a",1]', content_type)


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("0", 0.0),
        ("-0.0", 0.0),
        ("1e-400", 0.0),
        ("12", 12.0),
        ("1e3", 1000.0),
        (repr(VALUE_MAX), VALUE_MAX),
    ],
)
def test_a_finite_number_from_0_to_the_limit_is_accepted(value: str, accepted: float) -> None:
    (values,) = content(read(f'["a",{value}]')).values()
    assert struct.pack("<d", values[0]) == struct.pack("<d", accepted)


@pytest.mark.parametrize(
    "value",
    [
        "-1",
        "-1e-300",
        "1e400",
        "-1e400",
        "9" * 30,
        "17592186044417",
        "true",
        "false",
        "null",
        '"1.5"',
        "[]",
        "{}",
        '""',
    ],
)
def test_any_other_value_is_rejected_and_its_neighbours_are_kept(value: str) -> None:
    parsed = read(f'[["a",1],["a",{value}],{{"key":"a","value":{value}}},["a",2]]')
    assert content(parsed) == {("a", HOUR): [1, 2]}
    assert reasons(parsed) == [(1, "value"), (2, "value")]
    assert parsed.rejected[0].detail == f"value: expected a number from 0 to 2^44, got {value}"
    assert parsed.received == 4


@pytest.mark.parametrize(
    ("item", "reason", "detail"),
    [
        ('{"key":"a"}', "value", "value is missing"),
        (b'["a\xff",1]', "key", 'got "a\ufffd"'),
        (b'{"key":"a\xff","value":1}', "key", 'got "a\ufffd"'),
        (b'{"a\xff":1}', "json", "utf-8"),
        ('{"value":1}', "key", "key is missing"),
        ("{}", "key", "key is missing"),
        ('{"key":1,"value":1}', "key", "got 1"),
        ('{"key":null,"value":1}', "key", "got null"),
        ('{"key":"","value":1}', "key", "0 bytes"),
        ('{"key":"%s","value":1}' % ("k" * 257), "key", "257 bytes"),
        ('{"key":"a\\u0000","value":1}', "key", r"U\+0000"),
        ('{"key":"a","value":1,"tag":2}', "shape", "'tag' is unknown; known are key, value, timestamp, id"),
        ('{"key":"a","value":1,"%s":2}' % ("x" * 9000), "shape", r"x\.\.\.' is unknown"),
        ('{"key":"a","value":"x","value":1}', "shape", "given twice"),
        ('{"key":"a","value":1,"id":""}', "id", "1 to 255 characters"),
        ('{"key":"a","value":1,"id":7}', "id", "got 7"),
        ('{"key":"a","value":1,"id":"%s"}' % ("i" * 256), "id", "1 to 255 characters"),
        ('["a"]', "shape", "got 1 members"),
        ("[]", "shape", "got 0 members"),
        ('["a",1,null,4]', "shape", "got 4 members"),
        ('["a",1,"x"]', "timestamp", "RFC 3339"),
        ("7", "shape", "expected an object or a pair, got 7"),
        ('"a"', "shape", 'got "a"'),
        ("null", "shape", "got null"),
        ('{"key":"a","value":1,"timestamp":true}', "timestamp", "got true"),
        ('{"key":"a","value":1,"timestamp":"2026-11-23T20:00:00"}', "timestamp", "with an offset"),
        ('{"key":"a","value":1,"timestamp":"yesterday"}', "timestamp", "with an offset"),
        ('{"key":"a","value":1,"timestamp":1795464301}', "timestamp", "at most 300 s ahead"),
        ('{"key":"a","value":1,"timestamp":1795464000500}', "timestamp", "epoch seconds; .* looks like milliseconds"),
        ('{"key":"a","value":1,"timestamp":1795464000500000}', "timestamp", "or finer"),
        ('{"key":"a","value":1,"timestamp":1795464000500000000}', "timestamp", "or finer"),
        ('{"key":"a","value":1,"timestamp":0}', "timestamp", "within the 744 h kept"),
        ('{"key":"a","value":1,"timestamp":-1e300}', "timestamp", "within the 744 h kept"),
        ('{"key":"a","value":1,"timestamp":"9999-12-31T23:59:59Z"}', "timestamp", "epoch seconds"),
    ],
)
def test_an_unusable_item_is_rejected_by_the_part_at_fault_and_its_neighbours_are_kept(
    item: str | bytes, reason: str, detail: str
) -> None:
    encoded = item.encode() if isinstance(item, str) else item
    parsed = read(b'[{"key":"a","value":1},' + encoded + b',["a",2]]')
    assert content(parsed) == {("a", HOUR): [1, 2]}
    assert reasons(parsed) == [(1, reason)]
    assert len(parsed.rejected[0].detail) < 300
    assert re.search(detail, parsed.rejected[0].detail)


@pytest.mark.parametrize(
    ("timestamp", "hour"),
    [
        ("1795463999.999", HOUR - 1),
        ("1795464000", HOUR),
        ('"2026-11-23T19:59:59.999999Z"', HOUR - 1),
        ('"2026-11-23T20:00:00Z"', HOUR),
        ('"2026-11-23T21:00:00+01:00"', HOUR),
        ('"2026-11-24T01:29:59+05:30"', HOUR - 1),
        ('"2026-11-23T15:00:00.000-05:00"', HOUR),
        ("1795464300", HOUR),
        (str(1795464000.5 - 31 * 86_400), HOUR - 31 * 24),
    ],
)
def test_a_timestamp_puts_the_value_into_its_utc_hour(timestamp: str, hour: int) -> None:
    assert content(read(f'["a",1,{timestamp}]')) == {("a", hour): [1]}


@pytest.mark.parametrize("body", ["[" * 50_000, "[" * 50_000 + "]" * 50_000, '["a",' * 50_000, '{"key":' * 50_000])
def test_a_body_that_is_nested_too_deeply_is_refused_as_a_whole(body: str) -> None:
    with pytest.raises(InvalidBodyError, match="nested too deeply"):
        read(body, limits=LIMITS._replace(max_items=100_000))


@pytest.mark.parametrize(
    ("body", "content_type", "detail"),
    [
        ("", JSON, "empty"),
        (" \n ", JSON, "empty"),
        ("", LINES, "empty"),
        ("{", JSON, "truncated"),
        ('["a",1]x', JSON, "malformed"),
        ('["a",NaN]', JSON, "no NaN and no Infinity"),
        ('["a",-Infinity]', JSON, "no NaN and no Infinity"),
        ('[["a",1],["a",NaN]]', JSON, "no NaN and no Infinity"),
        ('[["a",1],]', JSON, "trailing comma"),
        ('["a",01]', JSON, "malformed"),
        ('["a",.5]', JSON, "malformed"),
        ('["a",1]\u2028', JSON, "malformed"),
        ('["\\ud800",1]', JSON, "one half of a character"),
        ("12", JSON, "expected an object with key and value"),
        ("true", JSON, "expected an object with key and value"),
        ("hello", JSON, "malformed"),
        ("key=a&value=1", "application/x-www-form-urlencoded", "malformed"),
        (b"\xc1", MSGPACK, "expected {"),
        (b"\x91" * 100_000, MSGPACK, "expected {"),
        (b"\x93\x01\x02\x03", MSGPACK, "expected {"),
    ],
)
def test_a_body_that_is_no_samples_at_all_is_refused_as_a_whole(
    body: str | bytes, content_type: str, detail: str
) -> None:
    with pytest.raises(InvalidBodyError, match=detail):
        read(body, content_type)


@pytest.mark.parametrize(
    "body", ["[" * 100_000, '{"key":' * 100_000, '[["a",' * 100_000, "[" * 100_000 + "]" * 100_000]
)
def test_very_deep_nesting_is_refused_and_does_not_end_the_process(body: str) -> None:
    with pytest.raises(InvalidBodyError):
        read(body, limits=LIMITS._replace(max_items=10**9))


def test_a_malformed_line_is_rejected_alone() -> None:
    parsed = read(b'["a",1]\n{"key":\n["a\xff",2]\n\n["a",3]', LINES)
    assert content(parsed) == {("a", HOUR): [1, 3]}
    assert reasons(parsed) == [(1, "json"), (2, "key")]


@pytest.mark.parametrize(
    "body",
    [
        '["a",1]["a",2]',
        '["b",2]\n["a",1] ["a",2]',
        '["a",1],\n["b",2]',
        '["b",2]\n\n["a",1]["a",2]',  # a blank line does not make up for it
        '["a",1]["a",2]\n\n["b",2]',
        '["b",2]\n["a",1]\r["a",2]',
        '["b",2]\n["a",1]\u2028["a",2]',
        '["b",2]\n["a",1]\x0c',
        '["b",2]\n\ufeff["a",1]',
    ],
)
def test_a_line_holds_one_item(body: str) -> None:
    parsed = read(body, LINES)
    assert parsed.reasons == {"json": 1}
    assert parsed.accepted == body.count("b")


def test_an_item_stands_on_one_line() -> None:
    """Though as many items are there as lines."""
    parsed = read('["a",\n1]["a",2]\n["b",3]', LINES)
    assert content(parsed) == {("b", HOUR): [3]}
    assert parsed.reasons.total() == 2


@pytest.mark.parametrize("content_type", [JSON, LINES])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("text", ['["a",1]', '[["a",1]]', '{"key":"a","value":1}', '{"series":[]}'])
def test_another_encoding_refuses_the_body_and_is_named(text: str, encoding: str, content_type: str) -> None:
    with pytest.raises(InvalidBodyError, match=r"byte order mark|UTF-16 or UTF-32"):
        read(text.encode(encoding), content_type)


def test_of_a_member_given_twice_the_last_counts() -> None:
    assert content(read('{"key":"a","value":1,"value":2}')) == {("a", HOUR): [2]}


def test_a_reply_lists_the_first_rejections_and_counts_them_all() -> None:
    parsed = read(json.dumps([["a", -1]] * 150 + [["", 1]] * 50))
    assert [rejection.index for rejection in parsed.rejected] == list(range(LISTED))
    assert parsed.reasons == {"value": 150, "key": 50}
    assert (parsed.accepted, parsed.received) == (0, 200)


def test_rejections_are_in_the_order_of_the_items_whatever_their_reason() -> None:
    parsed = read('[["",1],["a",-1],["a",1,0],{"key":1}]')
    assert reasons(parsed) == [(0, "key"), (1, "value"), (2, "timestamp"), (3, "key")]


def of_items(count: int) -> list[tuple[bytes, str]]:
    pair, thing = b'["a",1]', rb'{"key":"a,[{,,,[\\\"[","value":1}'
    columns = {"sender": str(SENDER), "series": [{"key": "a", "hour": HOUR, "values": [1.0] * count}]}
    packed = {"series": [{"key": "a", "hour": HOUR, "values": bytes(8 * count)}]}
    return [
        (b"[" + b",".join([pair] * count) + b"]", JSON),
        (b"[" + b",".join([thing] * count) + b"]", JSON),
        (b"\n".join([pair] * count), LINES),
        (msgspec.json.encode(columns), JSON),
        (msgspec.msgpack.encode(columns), MSGPACK),
        (msgspec.msgpack.encode(packed), MSGPACK),
    ]


@pytest.mark.parametrize("form", range(6))
def test_exactly_the_limit_of_samples_is_taken_and_one_more_is_413(form: int) -> None:
    limit = LIMITS.max_items
    body, content_type = of_items(limit)[form]
    assert read(body, content_type).accepted == limit
    body, content_type = of_items(limit + 1)[form]
    with pytest.raises(BodyTooLargeError, match="over the limit of 1,000 samples"):
        read(body, content_type)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"[" + b",".join([b"[]"] * 2_000_000) + b"]", JSON),
        (b"[" + b",".join([b"1"] * 2_000_000) + b"]", JSON),
        (b"[" + b",".join([b'["",0]'] * 1_000_000) + b"]", JSON),
        (b'{"series":[{"key":"a","hour":1,"values":[' + b"0," * 3_000_000 + b"0]}]}", JSON),
        (b"\n" * 6_000_000 + b"1", LINES),
        (b'["",0]' * 1_000_000, LINES),
        (
            msgspec.msgpack.encode({"series": [{"key": "a", "hour": 1}]})[:-1].replace(b"\x82\xa3key", b"\x83\xa3key")
            + b"\x01\xa6values\xdd"
            + struct.pack(">I", 6_000_000)
            + bytes(6_000_000),
            MSGPACK,
        ),
        (b"\x81\xa6series\xdd" + struct.pack(">I", 6_000_000) + b"\xc0" * 6_000_000, MSGPACK),
        (b'{"series":[' + b"0," * 300_000 + b"0]}", JSON),
    ],
)
def test_a_body_of_millions_of_tiny_items_is_refused_before_they_take_memory(body: bytes, content_type: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLargeError):
            read(body, content_type, LIMITS._replace(max_items=100_000))
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_punctuation_within_a_text_is_no_sample_however_long_the_text_is() -> None:
    parsed = read('["' + '[{,\\"' * 100_000 + '",1]')
    assert reasons(parsed) == [(0, "key")]


def test_values_of_a_chunk_are_bounded_and_keep_their_order() -> None:
    parsed = read(json.dumps([["a", n] for n in range(250)]))
    assert [chunk.count for chunk in parsed.chunks] == [100, 100, 50]
    assert [value for chunk in parsed.chunks for value in floats(chunk.values)] == list(range(250))


# what names samples, so that they count once


def test_sample_ids_are_16_bytes_a_value_beside_the_values_without() -> None:
    parsed = read(
        '[{"key":"a","value":1,"id":"x"},["a",2],{"key":"a","value":3,"id":"y"},{"key":"b","value":4,"id":"x"}]'
    )
    ided, plain, other = parsed.chunks
    assert (floats(ided.values), len(ided.ids)) == ([1, 3], 32)
    assert (floats(plain.values), plain.ids) == ([2], b"")
    assert len({ided.ids[:16], ided.ids[16:], other.ids}) == 3


def test_the_same_sample_id_gives_the_same_bytes_in_every_form_and_split() -> None:
    whole = read(json.dumps([{"key": "a", "value": n, "id": f"i{n}"} for n in range(250)]))
    lines = read("\n".join(json.dumps({"id": f"i{n}", "key": "a", "value": n}) for n in range(250)), LINES)
    assert [len(chunk.ids) for chunk in whole.chunks] == [1600, 1600, 800]
    assert b"".join(chunk.ids for chunk in whole.chunks) == b"".join(chunk.ids for chunk in lines.chunks)


def test_a_request_id_names_the_values_of_a_key_and_hour_and_each_piece_says_which_of_them_it_holds() -> None:
    body = json.dumps([["a", n] for n in range(250)] + [["b", 1], ["a", 1, NOW_S - 3600]])
    first, again, other = (read(body, request_id=name) for name in (b"r1", b"r1", b"r2"))
    assert first.chunks == again.chunks
    assert [chunk.first for chunk in first.chunks] == [1, 101, 201, 1, 1]
    ids = [chunk.ids for chunk in first.chunks[2:] + other.chunks[2:]]
    assert {len(one) for one in ids} == {16}
    assert len(set(ids)) == len(ids) == 6
    assert {chunk.ids for chunk in first.chunks[:2]} == {ids[0]}


def test_a_request_repeated_after_the_turn_of_the_hour_has_the_same_ids() -> None:
    first = parse(b'["a",1]', JSON, NOW_S, LIMITS, b"r1")
    later = parse(b'["a",1]', JSON, NOW_S + 3600, LIMITS, b"r1")
    assert first.chunks[0].hour != later.chunks[0].hour
    assert first.chunks[0].ids == later.chunks[0].ids


# columnar

Encode = Callable[[Any], bytes]
FORMS = [
    pytest.param(msgspec.json.encode, JSON, list, id="json"),
    pytest.param(msgspec.msgpack.encode, MSGPACK, list, id="msgpack array"),
    pytest.param(
        msgspec.msgpack.encode, "application/x-msgpack", lambda v: struct.pack(f"<{len(v)}d", *v), id="msgpack bytes"
    ),
]


def series(key: Any = "a", values: Any = (), **members: Any) -> dict[str, Any]:
    return {"key": key, "hour": HOUR, "first": 0, "values": values} | members


@pytest.mark.parametrize(("encode", "content_type", "pack"), FORMS)
def test_columns_keep_sender_numbering_and_order(encode: Encode, content_type: str, pack: Callable[[Any], Any]) -> None:
    numbers = [float(n) for n in range(250)]
    body = {
        "sender": str(SENDER),
        "series": [series(values=pack(numbers), first=7), series("b", pack([0.5, -0.0]), hour=HOUR - 5)],
    }
    parsed = read(encode(body), content_type)
    assert [(c.key, c.hour, c.first, c.count) for c in parsed.chunks] == [
        (b"a", HOUR, 7, 100),
        (b"a", HOUR, 107, 100),
        (b"a", HOUR, 207, 50),
        (b"b", HOUR - 5, 0, 2),
    ]
    assert {chunk.sender for chunk in parsed.chunks} == {SENDER.bytes}
    assert [value for chunk in parsed.chunks[:3] for value in floats(chunk.values)] == numbers
    assert parsed.chunks[3].values == struct.pack("<2d", 0.5, 0.0)
    assert (parsed.accepted, parsed.rejected) == (252, [])


@pytest.mark.parametrize(("encode", "content_type", "pack"), FORMS)
def test_an_empty_series_says_how_far_the_numbers_of_its_sender_reach(
    encode: Encode, content_type: str, pack: Callable[[Any], Any]
) -> None:
    body = {"sender": str(SENDER), "series": [series(values=pack([]), first=7), series("b", pack([]))]}
    parsed = read(encode(body), content_type)
    assert parsed.chunks == [Chunk(b"a", HOUR, b"", SENDER.bytes, 7)]
    assert (parsed.accepted, parsed.rejected) == (0, [])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), VALUE_MAX * 2])
def test_a_series_with_a_bad_value_is_rejected_whole_with_its_place(value: float, packed: bool) -> None:
    values = struct.pack("<3d", 1, value, 2) if packed else [1.0, value, 2.0]
    body = msgspec.msgpack.encode({"sender": str(SENDER), "series": [series(values=[5.0]), series("b", values)]})
    parsed = read(body, MSGPACK)
    assert content(parsed) == {("a", HOUR): [5]}
    assert reasons(parsed) == [(1, "value")]
    assert parsed.rejected[0].detail.startswith("values[1]: expected a number from 0 to 2^44, got ")
    assert parsed.reasons == {"value": 3}


@pytest.mark.parametrize(
    ("bad", "reason", "detail"),
    [
        (series(key=""), "key", "0 bytes"),
        (series(key=7), "shape", "got `int` - at `$.key`"),
        (series(hour=HOUR + 1), "hour", f"from {HOUR - 744} to {HOUR}, got {HOUR + 1}"),
        (series(hour=HOUR - 745), "hour", "expected hours since 1970"),
        (series(hour=1_795_464_000), "hour", "expected hours since 1970"),
        (series(hour=1.5), "shape", "$.hour"),
        (series(first=-1), "shape", "$.first"),
        (series(first=2**60), "shape", "$.first"),
        (series(values="1"), "shape", "Expected `array`, got `str`"),
        (series(values=[1, "2"]), "shape", "Expected `float`, got `str`"),
        (series(values=[True]), "shape", "Expected `float`, got `bool`"),
        (series(tag=1), "shape", "unknown field `tag`"),
        ({"key": "a"}, "shape", "missing required field `hour`"),
        (7, "shape", "Expected `object`, got `int`"),
    ],
)
@pytest.mark.parametrize(("encode", "content_type"), [(msgspec.json.encode, JSON), (msgspec.msgpack.encode, MSGPACK)])
def test_an_unusable_series_is_rejected_by_the_part_at_fault(
    encode: Encode, content_type: str, bad: Any, reason: str, detail: str
) -> None:
    parsed = read(encode({"sender": str(SENDER), "series": [bad, series("good", [1.0])]}), content_type)
    assert content(parsed) == {("good", HOUR): [1]}
    assert reasons(parsed) == [(0, reason)]
    assert detail in parsed.rejected[0].detail


def test_float_bytes_that_are_not_whole_are_rejected() -> None:
    parsed = read(msgspec.msgpack.encode({"series": [series(values=b"1234567")]}), MSGPACK)
    assert reasons(parsed) == [(0, "shape")]
    assert "7 bytes" in parsed.rejected[0].detail


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"sender": "me", "series": []}, "sender"),
        ({"sender": str(SENDER), "series": 7}, "series"),
        ({"sender": str(SENDER), "series": [], "more": 1}, "unknown field `more`"),
    ],
)
def test_an_unusable_frame_refuses_the_whole_columnar_body(body: Any, detail: str) -> None:
    for encoded, content_type in ((msgspec.json.encode(body), JSON), (msgspec.msgpack.encode(body), MSGPACK)):
        with pytest.raises(InvalidBodyError, match=detail):
            read(encoded, content_type)


def test_columns_without_a_sender_are_taken_unnumbered() -> None:
    body = {"series": [series(values=[1.0]), series(values=[2.0], first=3)]}
    parsed = read(msgspec.json.encode(body))
    assert content(parsed) == {("a", HOUR): [1]}
    assert reasons(parsed) == [(1, "first")]


def test_a_request_id_names_columns_only_when_no_sender_numbers_them() -> None:
    runs = [series(values=[1.0]), series(values=[2.0])]
    anonymous = read(msgspec.json.encode({"series": runs}), request_id=b"r")
    assert [(chunk.ids, chunk.first) for chunk in anonymous.chunks] == [(anonymous.chunks[0].ids, n) for n in (1, 2)]
    numbered = read(msgspec.json.encode({"sender": str(SENDER), "series": runs}), request_id=b"r")
    assert [chunk.ids for chunk in numbered.chunks] == [b"", b""]


# laws

keys = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
samples = st.lists(st.tuples(keys, st.floats(0, VALUE_MAX)), max_size=30)


@given(samples, st.booleans(), st.booleans())
def test_every_value_arrives_exactly_and_in_the_order_of_its_key(
    given_samples: list[tuple[str, float]], objects: bool, lines: bool
) -> None:
    items = [{"key": key, "value": value} if objects else [key, value] for key, value in given_samples]
    body = b"\n".join(map(msgspec.json.encode, items)) if lines else msgspec.json.encode(items)
    if not body:
        return
    expected: dict[tuple[str, int], list[float]] = {}
    for key, value in given_samples:
        expected.setdefault((key, HOUR), []).append(value + 0.0)
    assert content(read(body, LINES if lines else JSON)) == expected


@given(st.binary(max_size=200), st.sampled_from([JSON, LINES, MSGPACK]))
def test_arbitrary_bytes_are_taken_or_refused_but_never_break(body: bytes, content_type: str) -> None:
    try:
        parsed = read(body, content_type)
    except InvalidBodyError:
        return
    assert parsed.received == parsed.accepted + sum(parsed.reasons.values())


JsonValue = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["key", "value", "series"]), inner),
)


@given(JsonValue, st.sampled_from([JSON, LINES, MSGPACK]))
def test_arbitrary_json_is_taken_or_refused_but_never_breaks(value: Any, content_type: str) -> None:
    try:
        encoded = msgspec.msgpack.encode(value) if content_type == MSGPACK else json.dumps(value).encode()
    except OverflowError:
        return
    with suppress(InvalidBodyError):
        read(encoded, content_type)


# gzip


def test_gzip_is_inflated_also_in_several_members() -> None:
    assert inflate(gzip.compress(b"ab") + gzip.compress(b"") + gzip.compress(b"c"), 3) == b"abc"


def test_inflated_size_is_bounded_to_the_byte() -> None:
    assert len(inflate(gzip.compress(bytes(1000)), 1000)) == 1000
    for body in (gzip.compress(bytes(1001)), gzip.compress(bytes(1000)) + gzip.compress(b"x")):
        with pytest.raises(BodyTooLargeError, match="limit of 1,000 bytes"):
            inflate(body, 1000)


def test_a_bomb_is_not_inflated_beyond_the_limit() -> None:
    bomb = gzip.compress(bytes(200 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLargeError):
            inflate(bomb, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_very_many_members_are_refused() -> None:
    assert inflate(gzip.compress(b"") * MAX_GZIP_MEMBERS, 10) == b""
    with pytest.raises(InvalidBodyError, match="members"):
        inflate(gzip.compress(b"") * (MAX_GZIP_MEMBERS + 1), 10)


WHOLE = gzip.compress(b'["checkout",12.5]' * 3)


@pytest.mark.parametrize(
    "body",
    [b"", b'["a",1]', WHOLE[:5], WHOLE[:-1], WHOLE[:-9], WHOLE + b"x", WHOLE + bytes(8), WHOLE[:-8] + bytes(8)],
)
def test_what_is_not_whole_gzip_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidBodyError, match="gzip"):
        inflate(body, 1000)


LONE = st.one_of(
    st.tuples(st.text(max_size=3), st.floats(0, 2 * VALUE_MAX) | st.integers(-1, 3), st.none() | st.just(1e9)),
    st.tuples(st.text(max_size=300), st.sampled_from([0.5, -0.0, 1e300, "1", True, None])),
    st.fixed_dictionaries(
        {"key": st.text(max_size=3), "value": st.sampled_from([1, -0.0, -1])},
        optional={"id": st.sampled_from([None, "x"]), "timestamp": st.sampled_from([None, 1e9]), "more": st.just(1)},
    ),
)


@given(st.one_of(LONE.map(json.dumps), st.text(max_size=20)), st.sampled_from(["", " ", "[", "]", ",", "\0", "\ufeff"]))
def test_a_sample_read_the_quick_way_is_what_the_long_way_reads(text: str, junk: str) -> None:
    for body in (text.encode(errors="surrogatepass"), (text + junk).encode(errors="surrogatepass")):
        found = lone_sample(body, "application/json")
        if found is not None:
            key, value = found
            assert parse(body, "application/json", NOW_S, LIMITS) == Parsed([Chunk(key, HOUR, value)], 1, [], Counter())


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/msgpack", "text/csv", "text/plain; a=b"])
def test_only_a_plain_json_type_is_read_the_quick_way(content_type: str) -> None:
    assert lone_sample(b'["a",1]', content_type) is None
    assert lone_sample(b'["a",1]', "") == (b"a", struct.pack("<d", 1))
