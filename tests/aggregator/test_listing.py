"""Which keys have rows, on a real RocksDB."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.aggregator import glancing, reader
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.deduplication import EVERYTHING
from metrics_app.aggregator.fold import FoldLimits, PartitionFold
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.ranges import Ranges
from metrics_app.aggregator.reader import TableReader, recent_keys, stored_keys
from metrics_app.aggregator.row import NO_CHECKPOINT, Row
from metrics_app.aggregator.small_row import SmallRow
from metrics_app.errors import FormatError, OwnerUnavailableError
from metrics_app.holdings import Look
from metrics_app.query.orders import SLACK
from metrics_app.stats.statistic import parse_stat
from metrics_app.stats.summary import HourlySummary, value_of

HOUR = 490_000
KEYS = [b"a", b"a b", b"aa", b"ab", b"b", b"\xc3\xa9"]
NO_KEYS = [b"a\x00b", b"b\xffb", b"\xff"]  # of an older release


def row_of(*values: float, duplicates: int = 0) -> Row:
    row = Row(HourlySummary(), duplicates=duplicates)
    row.summary.add(np.array(values))
    return row


@pytest.fixture
def table(table: Any) -> Any:
    """Partition 1 has KEYS in HOUR, one key in each hour beside it, and rows of the other kinds."""
    stored = [(rows.hour_key(HOUR, key), rows.encode_row(row_of(1.0))) for key in reversed(KEYS + NO_KEYS)]
    stored += [(rows.hour_key(HOUR + by, b"beside"), rows.encode_row(row_of(1.0, 2.0))) for by in (-1, 1)]
    stored += [
        (rows.ids_key(HOUR, 1), rows.encode_ids(0, 1, {bytes(16): EVERYTHING})),
        (rows.CHECKPOINT_KEY, rows.encode_checkpoint(NO_CHECKPOINT)),
    ]
    table.store.write(table.changelog_tp(1), stored, 1)
    return table


def listed(
    table: Any, prefix: bytes = b"", after: bytes = b"", upto: bytes | None = None, most: int = 100
) -> list[bytes]:
    keys, end = stored_keys(table.store, 1, HOUR, prefix, after, upto, most)
    assert end is None
    return keys


def test_keys_of_an_hour_are_listed_in_the_order_of_their_bytes(table):
    assert listed(table) == KEYS
    assert stored_keys(table.store, 1, HOUR + 1, b"", b"", None, 9).keys == [b"beside"]
    assert stored_keys(table.store, 1, HOUR + 2, b"", b"", None, 9) == ([], None)


def test_prefix_start_and_bound_choose(table):
    assert listed(table, prefix=b"a") == [b"a", b"a b", b"aa", b"ab"]
    assert listed(table, prefix=b"a", after=b"a") == [b"a b", b"aa", b"ab"]
    assert listed(table, prefix=b"b", after=b"a") == [b"b"]
    assert listed(table, prefix=b"a", after=b"b") == []
    assert listed(table, upto=b"aa") == [b"a", b"a b", b"aa"]
    assert listed(table, after=b"aa", most=2) == [b"ab", b"b"]
    assert listed(table, after=b"\xff") == []


def test_row_without_a_value_is_no_key(table):
    """It has only seen duplicates; asked for it is a 404."""
    only_seen = rows.encode_row(row_of(duplicates=4))
    table.store.write(table.changelog_tp(1), [(rows.hour_key(HOUR, b"aaa"), only_seen)], 2)

    assert listed(table) == KEYS


@pytest.mark.parametrize("numbered", [False, True])
def test_keys_behind_rows_without_a_value_are_not_missed(table, monkeypatch, numbered):
    """It ends after so many keys, and after so many rows says where to go on. Numbers alone are no value either."""
    monkeypatch.setattr(reader, "STRETCH_ROWS", 10)
    empty = row_of(duplicates=1)
    if numbered:
        empty.senders = {bytes(16): Ranges([0, 5]), bytes(15) + b"1": Ranges([0, 2, 4, 9])}
    unused = [(rows.hour_key(HOUR, b"aa%03d" % number), rows.encode_row(empty)) for number in range(95)]
    table.store.write(table.changelog_tp(1), unused, 2)
    found: list[bytes] = []
    at: bytes | None = b""
    stretches = 0
    while at is not None:
        keys, at = stored_keys(table.store, 1, HOUR, b"", at, None, len(KEYS))
        found, stretches = [*found, *keys], stretches + 1

    assert found == KEYS
    assert stretches == 11


def test_rows_that_count_are_told_from_those_that_do_not():
    for senders in ({}, {bytes(16): Ranges([0, 5])}, {bytes(16): Ranges([0, 2, 4, 9]), bytes(15) + b"1": Ranges([])}):
        for values in ([], [0.0], [5e-324 * 256], [1.0] * 300, np.arange(1200.0)):
            row = row_of(*values)
            row.senders = dict(senders)
            assert rows.counts_values(rows.encode_row(row)) is bool(len(values))
    with pytest.raises(FormatError):
        rows.counts_values(rows.encode_row(row)[:30])


def test_rows_in_memory_are_listed_by_hour_and_prefix():
    fold = PartitionFold(lambda _: None, FoldLimits(), NO_CHECKPOINT)
    for hour in (HOUR - 1, HOUR, HOUR + 24):
        for key in (b"a", b"ab", b"b"):
            fold.cache[rows.hour_key(hour, key + b"%d" % (hour % 7))] = row_of(1.0)
    fold.cache[rows.hour_key(HOUR, b"empty")] = row_of(duplicates=1)
    fold.cache |= {rows.hour_key(HOUR, key): row_of(1.0) for key in NO_KEYS}
    day, name = (HOUR, HOUR + 24), b"%d" % (HOUR % 7)

    assert recent_keys(fold, *day, b"") == {b"a" + name, b"ab" + name, b"b" + name}
    assert recent_keys(fold, *day, b"a") == {b"a" + name, b"ab" + name}
    assert recent_keys(fold, *day, b"c") == set()


def test_partition_that_is_not_held_is_not_taken_for_an_empty_one(table):
    app: Any = SimpleNamespace(rebalancing=False, tables=SimpleNamespace(actives_ready=True))
    reader = TableReader(app, table, Partitions(table, FoldLimits()), SimpleNamespace(current=set(), progress={}))

    with pytest.raises(OwnerUnavailableError):
        reader.stored_keys(3, HOUR, b"", b"", None, 9)
    assert reader.recent_keys(3, range(HOUR, HOUR + 24), b"") == set()


# glances


def glances(table: Any, look: Look, after: bytes = b"") -> list[tuple[bytes, int, float]]:
    found, end = glancing.stored(table.store, 1, HOUR, look, after)
    assert end is None
    return [(each.key, each.number, each.most) for each in found]


def test_rows_of_an_hour_are_glanced_at_in_the_order_of_their_keys(table):
    more = [(rows.hour_key(HOUR, b"aaa"), rows.encode_row(row_of(duplicates=4)))]
    more += [(rows.hour_key(HOUR, b"ab"), rows.encode_row(row_of(*range(100))))]
    table.store.write(table.changelog_tp(1), more, 2)

    assert [each[0] for each in glances(table, Look(b"", b"", 1.0))] == sorted(KEYS + NO_KEYS)
    assert glances(table, Look(b"a", b"b", 1.0)) == [(b"a\x00b", 1, 1.0), (b"a b", 1, 1.0), (b"ab", 100, 99.0)]
    assert glances(table, Look(b"a", b"b", 1.0), b"a b") == [(b"ab", 100, 99.0)]
    assert 50.0 <= glances(table, Look(b"ab", b"", 0.5))[0][2] <= 51.0


def test_glances_end_after_so_many_rows_and_go_on_there(table, monkeypatch):
    monkeypatch.setattr(glancing, "STRETCH_GLANCES", 2)
    found: list[bytes] = []
    at: bytes | None = b""
    while at is not None:
        stretch = glancing.stored(table.store, 1, HOUR, Look(b"", b"", 1.0), at)
        assert len(stretch.found) <= 2
        found, at = [*found, *(each.key for each in stretch.found)], stretch.end

    assert found == sorted(KEYS + NO_KEYS)


def test_a_damaged_row_is_not_passed_over(table):
    value = bytearray(rows.encode_row(row_of(5.0)))
    value[-8] ^= 1
    with pytest.raises(FormatError):
        rows.glance(bytes(value), 1.0)


def test_rows_in_memory_are_glanced_at_by_hour():
    fold = PartitionFold(lambda _: None, FoldLimits(), NO_CHECKPOINT)
    small = SmallRow(0)
    small.values = [1.0, 7.0]
    fold.cache[rows.hour_key(HOUR, b"small")] = small
    fold.cache[rows.hour_key(HOUR, b"large")] = row_of(*range(100))
    fold.cache[rows.hour_key(HOUR, b"empty")] = row_of(duplicates=1)
    fold.cache[rows.hour_key(HOUR + 1, b"small")] = row_of(1.0)

    found = sorted(glancing.recent(fold, range(HOUR, HOUR + 1), Look(b"", b"", 0.5)))
    assert found == [(b"large", HOUR, 100, 99.0), (b"small", HOUR, 2, 7.0)]


@given(
    parts=st.lists(
        st.lists(st.one_of(st.integers(0, 40).map(float), st.floats(0.0, 2.0**44)), min_size=1, max_size=60),
        min_size=1,
        max_size=4,
    ),
    stat=st.sampled_from(["p0", "p7", "median", "p90", "p99.9", "p100", "average", "stddev", "min", "max"]),
    exact_distinct=st.sampled_from([0, 5, 1000]),
)
def test_no_value_of_rows_taken_together_is_above_the_greatest_bound(parts, stat, exact_distinct):
    whole = HourlySummary(exact_distinct)
    glanced = []
    for values in parts:
        row = Row(HourlySummary(exact_distinct))
        row.summary.add(np.array(values))
        whole.merge(row.summary)
        q = parse_stat(stat).q
        glanced.append(rows.glance(rows.encode_row(row), 1.0 if q is None else float(q)))

    assert sum(number for number, _ in glanced) == whole.count
    assert value_of(whole, stat).value <= max(most for _, most in glanced) * SLACK
