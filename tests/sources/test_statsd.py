"""What is taken of the lines of statsd and DogStatsD."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.sources.key_template import KeyTemplate
from metrics_app.sources.statsd import Timing, UnusableLine, lines

NAME = KeyTemplate.of("{name}")
TAGGED = KeyTemplate.of("{service}/{name}")


@pytest.mark.parametrize(
    ("packet", "found"),
    [
        (b"checkout:12.5|ms", [(b"checkout", [12.5])]),
        (b"checkout:12.5|ms\n", [(b"checkout", [12.5])]),
        (b"a:1|h\r\nb:2|d\n\nc:3|ms|@1|#x:y", [(b"a", [1.0]), (b"b", [2.0]), (b"c", [3.0])]),
        (b"a:1:2.5:3|d|#env:prod|c:0123|T1656581409", [(b"a", [1.0, 2.5, 3.0])]),
        (b"a:0|ms|@1.0", [(b"a", [0.0])]),
        (b"a:-0|ms", [(b"a", [0.0])]),
        ("größe:1|ms".encode(), [("größe".encode(), [1.0])]),
    ],
)
def test_timings_are_taken(packet: bytes, found: list[tuple[bytes, list[float]]]) -> None:
    assert list(lines(packet, NAME)) == [Timing(*each) for each in found]


@pytest.mark.parametrize(
    "line", [b"a:1|c", b"a:1|g", b"a:+1|g|#x", b"a:x|s", b"_e{1,1}:a|b", b"_sc|db|0", b"a:1|c|@0.1"]
)
def test_what_is_no_timing_is_left_out_without_a_word(line: bytes) -> None:
    assert list(lines(b"%b\na:1|ms" % line, NAME)) == [Timing(b"a", [1.0])]


@pytest.mark.parametrize(
    ("line", "reason", "values"),
    [
        (b"a:1|ms|@0.1", "sample-rate", 1),
        (b"a:1:2|ms|@0.5|#x:y", "sample-rate", 2),
        (b"a:1|ms|@x", "sample-rate", 1),
        (b"a:-1|ms", "value", 1),
        (b"a:1:nan|ms", "value", 2),
        (b"a:1e99|ms", "value", 1),
        (b"a:inf|ms", "value", 1),
        (b"a:|ms", "value", 1),
        (b"a_b:1_0|ms", "value", 1),
        (b"a:1", "form", 1),
        (b"a|ms", "form", 1),
        (b":1|ms", "form", 1),
        (b"junk", "form", 1),
        (b"a:1|xx", "form", 1),
        (b"\xff:1|ms", "key", 1),
        (b"a\x01:1|ms", "key", 1),
        (b"k" * 300 + b":1|ms", "key", 1),
    ],
)
def test_an_unusable_line_is_counted_by_its_fault_and_its_neighbours_are_taken(
    line: bytes, reason: str, values: int
) -> None:
    assert list(lines(b"a:1|ms\n%b\nb:2|ms" % line, NAME)) == [
        Timing(b"a", [1.0]),
        UnusableLine(reason, values),
        Timing(b"b", [2.0]),
    ]


def test_tags_may_be_parts_of_the_key() -> None:
    assert list(lines(b"pay:1|ms|#env:prod,service:shop", TAGGED)) == [Timing(b"shop/pay", [1.0])]
    assert list(lines(b"pay:1|ms|#service:", TAGGED)) == [Timing(b"service/pay", [1.0])]
    assert list(lines(b"pay:1|ms|#env:prod", TAGGED)) == [UnusableLine("key")]
    assert list(lines(b"pay:1|ms|#\xff", TAGGED)) == [UnusableLine("key")]


def test_a_tag_called_name_does_not_stand_in_for_the_name() -> None:
    assert list(lines(b"pay:1|ms|#name:login,service:shop", TAGGED)) == [Timing(b"shop/pay", [1.0])]
    assert list(lines(b"pay:1|ms|#name:login", NAME)) == [Timing(b"pay", [1.0])]


def test_long_tags_are_not_remembered() -> None:
    tracemalloc.start()
    try:
        for number in range(200):
            assert len([*lines(b"pay:1|ms|#a:%b%d" % (b"t" * 50_000, number), NAME)]) == 1
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()


@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([b":", b"|", b"ms", b"@", b"#", b"a", b"1", b"\n", b"."])).map(b"".join)
)
def test_any_bytes_are_read_and_what_is_taken_keeps_the_rules(packet: bytes) -> None:
    for found in lines(packet, TAGGED):
        if isinstance(found, Timing):
            assert found.values
            assert all(0.0 <= value <= 2.0**44 for value in found.values)
            assert 0 < len(found.key) <= 256
