"""Where keys are many a batch goes as a table, and what is promised of batches holds of it too."""

from __future__ import annotations

import struct
import uuid
from collections import defaultdict

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_app.client.buffer import batch_of
from metrics_app.client.contents import body_of, ends_of, halves_of, moved
from metrics_app.client.outcome import LEAST_DIVIDED
from metrics_app.client.series import FEW_VALUES, MANY_KEYS, Series, packed, unpacked
from metrics_app.wire.bodies import MSGPACK, BodyLimits, parse

from .collector import Collector
from .conftest import AppClock, Connect

HOUR = 498_740
NOW_S = HOUR * 3600.0 + 1800
LIMITS = BodyLimits(max_items=100_000, max_ahead_s=300, retention_s=31 * 86_400, chunk_values=1000)
SENDER = uuid.UUID(int=7)
KEYS = 300
HISTOGRAM = {"min": 1.0, "max": 1.0, "sum": "1", "squares": "1", "zeros": 0, "tiny": 0, "offset": 0, "counts": [1]}


def series(key: str, *values: float, hour: int = HOUR, first: int = 0) -> Series:
    return Series(key, hour, first, struct.pack(f"<{len(values)}d", *values))


def is_table(body: bytes) -> bool:
    return "keys" in msgspec.msgpack.decode(body)


def numbered(body: bytes) -> dict[tuple[bytes, int, bytes, int], bytes]:
    """Each value under all that identifies it, as a collector reads the body."""
    parsed = parse(body, MSGPACK, NOW_S, LIMITS)
    assert not parsed.rejected
    found = {}
    for chunk in parsed.chunks:
        for place in range(chunk.count):
            values = bytes(chunk.values[place * 8 : place * 8 + 8])
            found[chunk.key, chunk.hour, chunk.sender, chunk.first + place] = values
    assert len(found) == parsed.accepted
    return found


lengths = st.lists(st.integers(1, FEW_VALUES), min_size=MANY_KEYS, max_size=MANY_KEYS + 20)


@settings(deadline=None)
@given(lengths, st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(0, 2**53 - 100))
def test_a_collector_reads_the_same_of_a_table_as_of_the_series_in_it(
    counts: list[int], names: list[int], first: int
) -> None:
    ends: defaultdict[tuple[str, int], int] = defaultdict(lambda: first)
    given_series = []
    for number, count in enumerate(counts):
        place = f"größe/{names[number % len(names)] + number // 50}", HOUR - number % 2
        given_series.append(series(place[0], *range(count), hour=place[1], first=ends[place]))
        ends[place] += count
    body = packed(SENDER, given_series)
    assert is_table(body)
    assert numbered(body) == numbered(msgspec.msgpack.encode({"sender": str(SENDER), "series": given_series}))
    assert ends_of(batch_of(SENDER, given_series, 0, 0)) == {(SENDER, *place): end for place, end in ends.items()}


@pytest.mark.parametrize(
    "others",
    [
        [series(f"k{number}", 1.0) for number in range(MANY_KEYS - 1)],
        [series(f"k{number}", *range(FEW_VALUES + 1)) for number in range(MANY_KEYS)],
        [*(series(f"k{number}", 1.0) for number in range(MANY_KEYS)), Series("h", HOUR, 0, histogram=HISTOGRAM)],
        [
            *(series(f"k{number}", 1.0) for number in range(MANY_KEYS)),
            {"key": "a", "hour": 1, "first": 1, "values": b""},
        ],
    ],
    ids=["few keys", "many values", "a histogram", "tidings"],
)
def test_anything_else_goes_as_series(others: list[Series]) -> None:
    assert not is_table(packed(SENDER, others))


def test_a_table_has_a_row_where_its_series_has_a_value_and_is_divided_by_them() -> None:
    sent = [series(f"k{number}", 1.0, 2.0, first=5) for number in range(MANY_KEYS)]
    batch = batch_of(SENDER, sent, 2 * MANY_KEYS, 2 * MANY_KEYS)
    rows = body_of(batch).series
    assert rows[:2] == [series("k0", 1.0, first=5), series("k0", 2.0, first=6)]
    halves = halves_of(batch)
    assert [half.count for half in halves] == [MANY_KEYS, MANY_KEYS]
    assert [row for half in halves for row in body_of(half).series] == rows
    (later,) = moved(batch, {HOUR: HOUR - 1})
    assert [(row.key, row.hour, row.first) for row in body_of(later).series[:3]] == [
        ("k0", HOUR - 1, 0),
        ("k0", HOUR - 1, 1),
        ("k1", HOUR - 1, 0),
    ]
    assert unpacked(packed(SENDER, sent)).sender == SENDER


def counts_of(collector: Collector) -> dict[str, int]:
    """Values counted of each key."""
    return {key: sum(row.count for row in rows) for key, rows in collector.rows().items()}


def test_values_of_many_keys_are_counted_once_each(connect: Connect, collector: Collector) -> None:
    client = connect(collector, interval_s=60)
    for round_ in range(2):
        for number in range(KEYS):
            client.record(f"k{number}", float(round_))
    assert client.flush(30)
    assert collector.tables > 0
    assert counts_of(collector) == {f"k{number}": 2 for number in range(KEYS)}
    assert {collector.missing(f"k{number}") for number in range(3)} == {0}
    assert client.stats().dropped == {}


def test_a_collector_of_before_tables_gets_series(connect: Connect, collector: Collector) -> None:
    collector.knows_tables = False
    client = connect(collector, interval_s=60)
    for round_ in range(2):
        for number in range(KEYS):
            client.record(f"k{number}", float(round_))
    assert client.flush(30)
    assert collector.tables == 0
    assert counts_of(collector) == {f"k{number}": 2 for number in range(KEYS)}
    assert {collector.missing(f"k{number}") for number in range(3)} == {0}
    assert client.stats().dropped == {}


def test_a_table_that_is_too_large_for_a_collector_is_divided(connect: Connect, collector: Collector) -> None:
    collector.max_body = 2 * LEAST_DIVIDED
    client = connect(collector, interval_s=60)
    names = [str(uuid.uuid4()) for _ in range(5 * KEYS)]
    for name in names:
        client.record(name, 1.0)
    assert client.flush(30)
    assert collector.requests > collector.tables > 1
    assert counts_of(collector) == dict.fromkeys(names, 1)


def test_rows_of_an_hour_that_has_not_begun_are_counted_in_that_in_which_they_were_recorded(
    connect: Connect, collector: Collector, clock: AppClock
) -> None:
    client = connect(collector, clock=clock, interval_s=60)
    clock.ahead_s = 7200
    for number in range(KEYS):
        client.record(f"k{number}", 1.0)
    assert client.flush(30)
    assert collector.tables > 0
    assert counts_of(collector) == {f"k{number}": 1 for number in range(KEYS)}
    assert client.stats().dropped == {}
