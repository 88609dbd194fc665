from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.errors import FormatError
from metrics_app.stats import codec
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire import record
from metrics_app.wire.chunk import FIRST_MAX, HOUR_MAX, ID_BYTES, SENDER_BYTES, VALUE_MAX, Chunk

GOLDEN = Path(__file__).with_name("record_v1.hex")
GOLDEN_2 = Path(__file__).with_name("record_v2.hex")
GOLDEN_3 = Path(__file__).with_name("record_v3.hex")

values = st.lists(st.floats(0, VALUE_MAX), min_size=1, max_size=12)
keys = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=64).map(str.encode)


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    numbers = draw(values)
    summed = draw(st.booleans())
    sender = draw(st.just(b"") | st.binary(min_size=SENDER_BYTES, max_size=SENDER_BYTES))
    ids = draw(st.sampled_from([0, 1] if summed else [0, 1, len(numbers)]))
    may_be_numbered = sender or ids == 1
    return Chunk(
        key=draw(keys),
        hour=draw(st.integers(0, HOUR_MAX)),
        values=b"" if summed else struct.pack(f"<{len(numbers)}d", *numbers),
        sender=sender,
        first=draw(st.integers(0, FIRST_MAX)) if may_be_numbered else 0,
        ids=draw(st.binary(min_size=ids * ID_BYTES, max_size=ids * ID_BYTES)),
        histogram=histogram_of(numbers) if summed else b"",
        weight=len(numbers) if summed else 0,
    )


def histogram_of(numbers: list[float]) -> bytes:
    summary = HourlySummary(exact_distinct=0)
    summary.add(np.array(numbers))
    return codec.encode(summary)


SAMPLE = [
    Chunk(b"checkout", 498740, struct.pack("<3d", 12.5, 0, 17.25), b"s" * 16, 5),
    Chunk("größe/ü".encode(), 498741, struct.pack("<1d", VALUE_MAX), ids=b"i" * 16),
    Chunk(b"checkout", 498740, struct.pack("<2d", 1, 2), ids=bytes(range(32))),
    Chunk(b"login", 498740, struct.pack("<1d", 3), b"s" * 16, 2**40),
    Chunk(b"x", 0, struct.pack("<2d", 0.001, 1e9)),
]


@given(st.lists(chunks(), max_size=8))
def test_a_record_holds_exactly_the_chunks_it_was_made_of(given_chunks: list[Chunk]) -> None:
    assert record.decode(record.encode(given_chunks)) == given_chunks


@given(st.lists(chunks(), max_size=8))
def test_a_record_is_never_larger_than_the_sizes_of_its_chunks(given_chunks: list[Chunk]) -> None:
    assert len(record.encode(given_chunks)) <= record.OVERHEAD_BYTES + sum(record.sizes_of(given_chunks))


def test_a_numbered_chunk_may_be_empty_because_it_says_how_far_the_numbers_reach() -> None:
    """What a client sends of values that it has dropped; refusing it would cost the other chunks of the record."""
    reached = Chunk(b"a", 498740, b"", b"s" * SENDER_BYTES, 7)
    assert record.decode(record.encode([reached])) == [reached]


def test_values_are_slices_of_the_record_not_copies() -> None:
    encoded = record.encode(SAMPLE)
    values = record.decode(encoded)[0].values
    assert isinstance(values, memoryview)
    assert values.obj is encoded


def test_every_single_flipped_bit_is_found() -> None:
    encoded = record.encode(SAMPLE[:2])
    for at in range(len(encoded) * 8):
        flipped = bytearray(encoded)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(FormatError):
            record.decode(bytes(flipped))


def test_every_cut_and_every_addition_is_found() -> None:
    encoded = record.encode(SAMPLE[:2])
    for end in range(len(encoded)):
        with pytest.raises(FormatError):
            record.decode(encoded[:end])
    with pytest.raises(FormatError):
        record.decode(encoded + b"\0")


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused_whatever_they_are(body: bytes) -> None:
    with pytest.raises(FormatError):
        record.decode(body)


@given(st.binary(min_size=20, max_size=200))
def test_nonsense_with_a_fitting_checksum_is_refused_or_decoded_but_nothing_else(body: bytes) -> None:
    with suppress(FormatError):
        record.decode(_head(body))


def _head(body: bytes, version: int = record.VERSION) -> bytes:
    return struct.pack("<2sBBI", record.MAGIC, version, 0, zlib.crc32(body)) + body


def _body(rows: bytes, row_count: int, senders: int, keys: bytes, ids: bytes, values: bytes) -> bytes:
    counts = struct.pack("<IIIII", row_count, senders, len(keys), len(ids), len(values))
    return counts + rows + b"s" * 16 * senders + keys + ids + values


def _row(hour: int = 1, values: int = 1, sender: int = 0, ids: int = 0, first: int = 0, key: int = 1) -> bytes:
    return struct.pack("<iIIIQH", hour, values, sender, ids, first, key)


ONE = struct.pack("<d", 1.0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (_body(_row(), 1, 0, b"k", b"", struct.pack("<d", float("nan"))), "outside"),
        (_body(_row(), 1, 0, b"k", b"", struct.pack("<d", float("inf"))), "outside"),
        (_body(_row(), 1, 0, b"k", b"", struct.pack("<d", -1.0)), "outside"),
        (_body(_row(), 1, 0, b"k", b"", struct.pack("<d", 2.0**44 * 1.001)), "outside"),
        (_body(_row(), 1, 0, b"k", b"", b"1234567"), "not whole"),
        (_body(_row(key=0), 1, 0, b"", b"", ONE), "chunk 0 is malformed"),
        (_body(_row(key=257), 1, 0, b"k" * 257, b"", ONE), "chunk 0 is malformed"),
        (_body(_row(sender=2), 1, 1, b"k", b"", ONE), "chunk 0 is malformed"),
        (_body(_row(values=3, ids=2), 1, 0, b"k", b"i" * 32, ONE * 3), "chunk 0 is malformed"),
        (_body(_row(values=0), 1, 0, b"k", b"", b""), "chunk 0 is malformed"),
        (_body(_row(key=2), 1, 0, b"\xc3(", b"", ONE), "byte 0 is not UTF-8"),
        (_body(_row(key=3), 1, 0, b"\xed\xa0\x80", b"", ONE), "byte 0 is not UTF-8"),
        (_body(_row(key=2), 1, 0, b"a\n", b"", ONE), "it has U\\+000A"),
        (_body(_row(key=3), 1, 0, b"a\xc2\x85", b"", ONE), "it has U\\+0085"),
        (_body(_row(hour=-1), 1, 0, b"k", b"", ONE), "hour -1, expected 0 to"),
        (_body(_row(hour=HOUR_MAX + 1), 1, 0, b"k", b"", ONE), "hour 67108864, expected 0 to"),
        (_body(_row(first=1), 1, 0, b"k", b"", ONE), "first 1, .*0 without a sender"),
        (_body(_row(sender=1, first=FIRST_MAX + 1), 1, 1, b"k", b"", ONE), "first 9007199254740993, expected at most"),
        (_body(_row(sender=1, first=2**64 - 1), 1, 1, b"k", b"", ONE), "first 18446744073709551615, expected"),
        (_body(_row(), 1, 2, b"k", b"", ONE), "of 2 senders, expected"),
        (_body(_row() * 60_000, 60_000, 0, b"k" * 60_000, b"", b""), "record: .* bytes, expected at most 1,048,576"),
        (_body(_row(values=0, sender=1) * 30_000, 30_000, 1, b"k" * 30_000, b"", b""), "30,000 chunks"),
        (_body(_row(values=2), 1, 0, b"k", b"", ONE), "do not add up"),
        (_body(_row(), 1, 0, b"k", b"", ONE * 2), "do not add up"),
        (_body(_row(), 1, 0, b"kk", b"", ONE), "do not add up"),
        (_body(_row(), 2, 0, b"k", b"", ONE), "where its header says"),
    ],
)
def test_what_no_chunk_may_hold_is_refused_even_with_a_fitting_checksum(body: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        record.decode(_head(body))


def test_another_version_is_refused_by_its_number() -> None:
    with pytest.raises(FormatError, match="version 4"):
        record.decode(_head(_body(_row(), 1, 0, b"k", b"", ONE), version=4))


def test_records_of_version_1_stay_readable_and_are_written_as_ever() -> None:
    golden = bytes.fromhex(GOLDEN.read_text())
    assert record.decode(golden) == SAMPLE
    assert record.encode(SAMPLE) == golden


SUMMED = [
    Chunk(b"checkout", 498740, b"", b"s" * 16, 500, b"", histogram_of([0, 1e-9, 12.5, 17.25, 800]), 5),
    *SAMPLE,
    Chunk(b"login", 498741, b"", b"", 0, b"i" * 16, histogram_of([3.5] * 1000), 1000),
]


def test_records_with_histograms_are_of_version_2_and_stay_readable() -> None:
    golden = bytes.fromhex(GOLDEN_2.read_text())
    assert golden[:3] == b"MR\x02"
    assert record.decode(golden) == SUMMED
    assert record.encode(SUMMED) == golden


PLACED = [
    Chunk(b"checkout", 498740, struct.pack("<2d", 12.5, 0), first=1, ids=b"r" * 16),
    Chunk(b"checkout", 498740, struct.pack("<1d", 17.25), first=4, ids=b"r" * 16),
    Chunk(b"login", 498741, b"", b"", 10_924, b"i" * 16, histogram_of([3.5] * 1000), 1000),
    *SAMPLE,
]


def test_records_with_places_are_of_version_3_and_stay_readable() -> None:
    golden = bytes.fromhex(GOLDEN_3.read_text())
    assert golden[:3] == b"MR\x03"
    assert record.decode(golden) == PLACED
    assert record.encode(PLACED) == golden


@pytest.mark.parametrize(("version", "ids"), [(1, 1), (2, 1), (3, 0), (3, 2)])
def test_a_place_that_is_of_no_id_or_of_a_version_without_places_is_refused(version: int, ids: int) -> None:
    sizes = b"" if version == 1 else _sized(0)
    body = _body(_row(values=2, ids=ids, first=7) + sizes, 1, 0, b"k", b"i" * 16 * ids, ONE * 2)
    with pytest.raises(FormatError, match="first 7"):
        record.decode(_head(body, version))


def _sized(*sizes: int) -> bytes:
    return struct.pack(f"<{len(sizes)}I", *sizes)


FIVE = SUMMED[0].histogram
SIZE = _sized(len(FIVE))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (_body(_row(values=4) + SIZE, 1, 0, b"k", b"", b"") + FIVE, "5 values stands for 4"),
        (_body(_row(values=5, ids=5) + SIZE, 1, 0, b"k", b"i" * 80, b"") + FIVE, "a histogram of 5 values"),
        (_body(_row(values=5) + SIZE, 1, 0, b"k", b"", ONE) + FIVE, "do not add up"),
        (_body(_row(values=5) + SIZE, 1, 0, b"k", b"", b"") + FIVE + b"x", "do not add up"),
        (_body(_row(values=5) + _sized(len(FIVE) - 1), 1, 0, b"k", b"", b"") + FIVE[:-1], "impossible length"),
        (_body(_row(values=5) + _sized(0), 1, 0, b"k", b"", b"") + FIVE, "do not add up"),
        (_body(_row(values=5), 1, 0, b"k", b"", b""), "where its header says"),
    ],
)
def test_a_histogram_that_does_not_fit_its_row_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        record.decode(_head(body, version=2))


def test_a_summary_that_is_no_histogram_does_not_pass_for_one() -> None:
    exact = HourlySummary()
    exact.add(np.array([1.0]))
    encoded = codec.encode(exact)
    body = _body(_row() + _sized(len(encoded)), 1, 0, b"k", b"", b"") + encoded
    with pytest.raises(FormatError, match="no histogram"):
        record.decode(_head(body, version=2))
