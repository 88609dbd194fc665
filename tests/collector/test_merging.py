from __future__ import annotations

import struct
from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.aggregator.fold import HOUR_MS, FoldLimits, PartitionFold
from metrics_app.aggregator.row import NO_CHECKPOINT
from metrics_app.collector.lane import merged
from metrics_app.stats import codec
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.chunk import Chunk

HOUR = 498740
SENDER, OTHER = b"s" * 16, b"o" * 16


def chunk(key: str, *values: float, sender: bytes = b"", first: int = 0, ids: bytes = b"", hour: int = HOUR) -> Chunk:
    return Chunk(key.encode(), hour, struct.pack(f"<{len(values)}d", *values), sender, first, ids)


def numbered(chunks: list[Chunk]) -> Counter[tuple[bytes, int, bytes, int, float]]:
    """Each value, with everything that says where it belongs; without a sender numbers say nothing."""
    return Counter(
        (one.key, one.hour, one.sender, one.first + at if one.sender else 0, value)
        for one in chunks
        for at, (value,) in enumerate(struct.iter_unpack("<d", one.values))
    )


def histogram(key: str, *values: float, sender: bytes = b"", first: int = 0, hour: int = HOUR) -> Chunk:
    summary = HourlySummary(exact_distinct=0)
    summary.add(np.array(values))
    return Chunk(key.encode(), hour, b"", sender, first, histogram=codec.encode(summary), weight=len(values))


several = st.lists(
    st.builds(
        lambda make, key, values, sender, first, hour: make(
            key, *values, sender=sender, first=first if sender else 0, hour=hour
        ),
        st.sampled_from([chunk, chunk, histogram, partial(chunk, ids=b"i" * 16)]),
        st.sampled_from("ab"),
        st.lists(st.integers(0, 9), min_size=1, max_size=3),
        st.sampled_from([b"", SENDER, OTHER]),
        st.integers(0, 12),
        st.sampled_from([HOUR, HOUR + 1]),
    ),
    max_size=12,
)


@given(several)
def test_every_value_keeps_its_key_its_hour_and_its_number(chunks: list[Chunk]) -> None:
    assert numbered(chunks) == numbered(merged(chunks))


@given(several)
def test_chunks_with_ids_are_not_touched(chunks: list[Chunk]) -> None:
    assert [one for one in merged(chunks) if one.ids] == [one for one in chunks if one.ids]


@given(several, st.sampled_from([FoldLimits(), FoldLimits(max_senders=1), FoldLimits(max_ranges=2)]))
def test_what_is_counted_is_the_same(chunks: list[Chunk], limits: FoldLimits) -> None:
    """Also of what came twice, overlaps, lies on both sides of a histogram, or is beyond what a row can note."""
    assert counted(chunks, limits) == counted(merged(chunks), limits)


def counted(chunks: list[Chunk], limits: FoldLimits) -> list[object]:
    fold = PartitionFold(lambda _: None, limits, NO_CHECKPOINT)
    tally = fold.apply(0, HOUR * HOUR_MS, chunks)
    rows = [fold.find(key, hour) for key in (b"a", b"b") for hour in (HOUR, HOUR + 1)]
    return [tally, *[(codec.encode(row.summary), row.duplicates, row.missing, row.unfenced) for row in rows if row]]


@given(st.lists(st.lists(st.floats(0, 9), min_size=1, max_size=4), min_size=1, max_size=6), st.integers(0, 5))
def test_what_a_sender_has_cut_becomes_whole_again(pieces: list[list[float]], first: int) -> None:
    chunks: list[Chunk] = []
    for piece in pieces:
        chunks.append(chunk("a", *piece, sender=SENDER, first=first + sum(one.count for one in chunks)))

    assert merged(chunks) == [chunk("a", *[value for piece in pieces for value in piece], sender=SENDER, first=first)]


def test_what_nothing_identifies_becomes_one_chunk_a_key_in_the_order_it_came() -> None:
    assert merged([chunk("a", 3.0), chunk("b", 9.0), chunk("a", 1.0, 2.0)]) == [
        chunk("a", 3.0, 1.0, 2.0),
        chunk("b", 9.0),
    ]


@pytest.mark.parametrize(
    "apart",
    [
        [chunk("a", 1.0, sender=SENDER), chunk("a", 2.0, sender=SENDER, first=2)],  # number 1 is missing
        [chunk("a", 1.0, sender=SENDER), chunk("a", 1.0, sender=SENDER)],  # the same once more
        [chunk("a", 1.0, 2.0, sender=SENDER), chunk("a", 2.0, sender=SENDER, first=1)],  # a part of it once more
        [chunk("a", 1.0, sender=SENDER), chunk("a", 2.0, sender=OTHER, first=1)],
        [chunk("a", 1.0, sender=SENDER), chunk("a", 2.0)],
        [chunk("a", 1.0, sender=SENDER), chunk("a", 2.0, sender=SENDER, first=1, hour=HOUR + 1)],
        [chunk("a", 1.0), chunk("a", 2.0, hour=HOUR + 1)],
        [chunk("a", 2.0, sender=SENDER, first=1), chunk("a", 1.0, sender=SENDER)],  # the other way round
        [
            chunk("a", 1.0, sender=SENDER),
            histogram("a", 2.0, sender=SENDER, first=1),
            chunk("a", 3.0, sender=SENDER, first=2),
        ],
    ],
)
def test_what_does_not_follow_stays_apart(apart: list[Chunk]) -> None:
    assert merged(apart) == apart
