"""Records with a valid checksum that no collector writes: every member of the format drawn by itself."""

from __future__ import annotations

import struct
import zlib
from typing import Any

from hypothesis import strategies as st

from metrics_app.stats import codec
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire import record
from metrics_app.wire.chunk import FIRST_MAX, HOUR_MAX

NOW = 498_740


def mostly(good: list[Any], bad: list[Any]) -> st.SearchStrategy[Any]:
    """A good member nearly always, or else few records would be good."""
    return st.integers(0, 19).flatmap(lambda chance: st.sampled_from(bad if chance == 0 else good))


hours = mostly([NOW, NOW, NOW - 1, NOW + 1, 0, HOUR_MAX], [-1, HOUR_MAX + 1, 2**31 - 1, -(2**31)])
counts = mostly([1, 1, 2, 3], [0, 2**16, 2**32 - 1])
firsts = mostly([0, 1, 2, FIRST_MAX - 1, FIRST_MAX], [FIRST_MAX + 1, 2**63, 2**64 - 1])
keys = mostly([b"a", b"b", "größe".encode(), b"k" * 256], [b"k" * 257, b"", b"\xff", b"a\n", b"\xed\xa0\x80"])
numbers = mostly([0.0, 1.0, 12.5, 2.0**44, 5e-324, -0.0], [-1.0, 2.0**45, float("nan"), float("inf")])
senders = st.sampled_from([b"s" * 16, b"\0" * 16, b"\xff" * 16])


@st.composite
def histograms(draw: st.DrawFn) -> tuple[int, bytes]:
    """(values, bytes) of a histogram of one value, of which some have a byte too many or a bit turned."""
    times = draw(mostly([1, 3, 2**32 - 1], [2**32, 2**63 - 1]))
    value = draw(st.sampled_from([0.0, 1e-9, 1.0, 1024.0, 2.0**44]))
    encoded = bytearray(codec.encode(HourlySummary.of_counts([value], [times], exact_distinct=0)))
    if draw(mostly([False], [True])):
        encoded[draw(st.integers(0, len(encoded) - 1))] ^= 1 << draw(st.integers(0, 7))
    return times, bytes(encoded + draw(mostly([b""], [b"x"])))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """The part behind the header, most often whole in itself."""
    rows, sizes, columns = [], [], [b"", b"", b"", b""]
    sender_table = b"".join(draw(st.lists(senders, max_size=2, unique=True)))
    for _ in range(draw(st.integers(0, 6))):
        key, sender = draw(keys), draw(st.integers(0, len(sender_table) // 16))
        count, histogram = draw(histograms()) if draw(st.booleans()) else (draw(counts), b"")
        ids = draw(st.sampled_from([0, 0, 1, min(count, 8)]))
        first = draw(firsts) if sender or draw(mostly([False], [True])) else 0
        rows.append(struct.pack("<iIIIQH", draw(hours), count & 0xFFFFFFFF, sender, ids, first, len(key)))
        sizes.append(struct.pack("<I", len(histogram)))
        values = b"" if histogram else struct.pack("<d", draw(numbers)) * min(count, 8)
        parts = (key, draw(st.sampled_from([b"i", b"j"])) * 16 * ids, values, histogram)
        columns = [column + part for column, part in zip(columns, parts, strict=True)]
    lengths = [len(rows), len(sender_table) // 16, *map(len, columns[:3])]
    return struct.pack("<5I", *lengths) + b"".join([*rows, *sizes, sender_table, *columns])


def sealed(body: bytes, version: int = record.WITH_HISTOGRAMS) -> bytes:
    """The record, with a checksum that fits."""
    return struct.pack("<2sBBI", record.MAGIC, version, 0, zlib.crc32(body)) + body


records = st.one_of(bodies(), bodies(), bodies(), st.binary(max_size=300)).map(sealed)
