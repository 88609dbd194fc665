"""Records of the changelog that are no whole rows of their partition: never taken in, and never the last word."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.changelog import Bad, Good, check
from metrics_app.aggregator.deduplication import EVERYTHING
from metrics_app.aggregator.fold import FoldLimits, PartitionFold
from metrics_app.aggregator.row import NO_CHECKPOINT, Checkpoint, Row
from metrics_app.aggregator.table import HourlyTable
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.chunk import Chunk

PARTITION = 1
HOUR = 498_740
KEY = rows.hour_key(HOUR, b"cart")  # one of partition 1
IDS_KEY = rows.ids_key(HOUR, 7)


def row(stamp: int, *values: float, epoch: int = 0) -> bytes:
    summary = HourlySummary()
    summary.add(np.array(values))
    return rows.encode_row(Row(summary, epoch, stamp))


def turned(value: bytes, at: int = 20) -> bytes:
    """With one bit of it turned."""
    return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]


def resealed(value: bytes) -> bytes:
    """With the checksum it should have."""
    return value[:-4] + zlib.crc32(value[:-4]).to_bytes(4, "little")


def verdict(row_key: bytes | None, value: bytes | None) -> Good | Bad:
    return check(row_key, value, lambda key: key == b"cart")


@pytest.mark.parametrize(
    ("row_key", "value"),
    [
        (KEY, row(7, 1.0, 2.0)),
        (KEY, row(7)),
        (IDS_KEY, rows.encode_ids(0, 7, {b"a" * 16: EVERYTHING})),
        (rows.CHECKPOINT_KEY, rows.encode_checkpoint(Checkpoint(0, 7, 1.0))),
    ],
)
def test_whole_rows_under_keys_of_the_partition_are_good(row_key: bytes, value: bytes) -> None:
    assert verdict(row_key, value) == Good(row_key, value, rows.version_of(value))


@pytest.mark.parametrize(
    ("value", "claimed"),
    [
        (None, (-1, -1)),
        (b"", (-1, -1)),
        (b"junk", (-1, -1)),
        (turned(row(7, 1.0)), (0, 7)),
        (row(7, 1.0)[:-1], (0, 7)),
        (turned(row(7, 1.0), 1), None),  # in the byte of the version: no newer release
        (turned(row(7, 1.0), 0), None),
        (rows.encode_ids(0, 7, {b"a" * 16: EVERYTHING}), (0, 7)),  # whole, and of another kind
        (resealed(turned(row(7, 1.0), 43)), (0, 7)),  # the checksum is right, what it closes is not
    ],
)
def test_what_is_no_whole_row_is_bad_and_says_which_version_it_may_have_been(value: Any, claimed: Any) -> None:
    found = verdict(KEY, value)
    assert isinstance(found, Bad)
    assert (found.row_key, found.claimed) == (KEY, claimed)


@pytest.mark.parametrize(
    "row_key",
    [
        None,
        b"",
        b"other",
        KEY[:5],
        rows.hour_key(HOUR, b"pay"),
        rows.hour_key(HOUR, b"c\xff"),
        rows.hour_key(HOUR, b"c\n"),
        rows.hour_key(HOUR, b"c" * 257),
        IDS_KEY[:-1],
        rows.CHECKPOINT_KEY + b"\0",
    ],
)
def test_a_key_that_has_no_rows_in_the_partition_is_bad(row_key: Any) -> None:
    found = verdict(row_key, row(7, 1.0))
    assert isinstance(found, Bad)
    assert found.row_key == b""


def take(table: HourlyTable, *records: tuple[bytes | None, bytes | None]) -> None:
    changes: Any = [SimpleNamespace(key=key, value=value, timestamp=1) for key, value in records]
    table.store.merge(table.changelog_tp(PARTITION), changes, 1)


def stored(table: HourlyTable) -> tuple[int, bool] | None:
    """How many values the row holds, and whether it says that it may lack some."""
    value = table.store.read(PARTITION, KEY)
    if value is None:
        return None
    found = rows.decode_row(value, 1000)
    return found.summary.count, found.incomplete


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([row(7, 1.0), turned(row(7, 1.0))], (1, False)),  # no newer than the good one
        ([row(7, 1.0), turned(row(3, 1.0))], (1, False)),
        ([row(7, 1.0), b"junk"], (1, False)),
        ([row(7, 1.0), None], (1, False)),
        ([row(7, 1.0), turned(row(9, 1.0, 2.0))], (1, True)),  # it may have been the only one with the second value
        ([row(7, 1.0), turned(row(9, 1.0, 2.0), 0)], (1, True)),  # nobody can tell what it was
        ([turned(row(9, 1.0))], (0, True)),
        ([b"junk"], (0, True)),
        ([turned(row(9, 1.0)), row(9, 1.0)], (1, False)),  # an owner that had it has written it again
        ([row(7, 1.0), turned(row(9, 1.0)), row(7, 1.0)], (1, False)),
        ([turned(row(9, 1.0)), turned(row(9, 1.0))], (0, True)),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_a_damaged_state_leaves_the_good_one_or_a_row_that_says_what_it_is(
    table: HourlyTable, records: list[bytes | None], expected: tuple[int, bool], together: bool
) -> None:
    told: list[int] = []
    table.store.on_bad = told.append
    changes: list[tuple[bytes | None, bytes | None]] = [(KEY, value) for value in records]
    for batch in [changes] if together else [[change] for change in changes]:
        take(table, *batch)
    assert stored(table) == expected
    assert sum(told) == sum(isinstance(verdict(KEY, value), Bad) for value in records)


def test_what_was_last_in_the_changelog_and_is_damaged_is_written_over(table: HourlyTable) -> None:
    take(table, (KEY, row(7, 1.0)), (KEY, turned(row(7, 1.0))))
    assert table.store.overwritten[PARTITION] == {KEY}


def test_an_owner_that_reads_a_damaged_record_between_its_own_keeps_its_row_and_writes_it_again(
    table: HourlyTable,
) -> None:
    """Whatever version it claims: the rows of an owner are a function of the log."""
    take(table, (KEY, row(7, 1.0)))
    table.store.compare(PARTITION, KEY, turned(row(99, 1.0)))
    assert stored(table) == (1, False)
    assert table.store.overwritten[PARTITION] == {KEY}


def test_damaged_ids_and_checkpoints_change_nothing(table: HourlyTable) -> None:
    ids, checkpoint = rows.encode_ids(0, 7, {b"a" * 16: EVERYTHING}), rows.encode_checkpoint(Checkpoint(0, 7, 1.0))
    take(table, (IDS_KEY, ids), (rows.CHECKPOINT_KEY, checkpoint))
    take(table, (IDS_KEY, turned(ids)), (rows.CHECKPOINT_KEY, turned(rows.encode_checkpoint(Checkpoint(0, 9, 1.0)))))
    assert (table.store.read(PARTITION, IDS_KEY), table.store.read(PARTITION, rows.CHECKPOINT_KEY)) == (ids, checkpoint)
    assert table.store.overwritten[PARTITION] == {IDS_KEY}


def test_a_whole_state_beats_an_incomplete_one_of_the_same_version_in_either_order(table: HourlyTable) -> None:
    whole, lacking = row(7, 1.0), rows.encode_row(Row(HourlySummary(), 0, 7, incomplete=True))
    for records in ([whole, lacking], [lacking, whole]):
        take(table, *((KEY, value) for value in records))
        assert stored(table) == (1, False)


@pytest.mark.parametrize("damage", [turned, lambda _value: b"junk"])
def test_values_are_folded_into_a_row_that_was_damaged_and_it_stays_incomplete(
    table: HourlyTable, damage: Callable[[bytes], bytes]
) -> None:
    take(table, (KEY, damage(row(9, 1.0))))
    fold = PartitionFold(lambda row_key: table.store.read(PARTITION, row_key), FoldLimits(), NO_CHECKPOINT)
    fold.apply(0, HOUR * 3_600_000, [Chunk(b"cart", HOUR, np.array([5.0]).tobytes())])
    found = fold.find(b"cart", HOUR)
    assert found is not None
    assert found.incomplete
    ((_, written),) = fold.take(1.0).rows
    assert rows.is_incomplete(written)
    assert rows.decode_row(written, 1000).summary.count == 1


@pytest.mark.parametrize(
    ("stamps", "checkpoint", "expected"),
    [
        ([9], 7, (1, False)),  # beyond the place: its records are folded once more
        ([9], 9, (1, True)),
        ([9], 20, (1, True)),
        ([8, 9], 8, (1, True)),  # one of two was within it
        ([9, 8], 7, (1, False)),
        ([9], None, (1, True)),
    ],
)
def test_what_was_damaged_beyond_the_checkpoint_is_folded_once_more_and_lacks_nothing(
    table: HourlyTable, stamps: list[int], checkpoint: int | None, expected: tuple[int, bool]
) -> None:
    take(table, (KEY, row(5, 1.0)))
    for stamp in stamps:
        take(table, (KEY, turned(row(stamp, 1.0, 2.0))))
    if checkpoint is not None:
        take(table, (rows.CHECKPOINT_KEY, rows.encode_checkpoint(Checkpoint(0, checkpoint, 1.0))))
    table.store.settle_doubts(PARTITION)
    assert stored(table) == expected
    assert table.store.overwritten[PARTITION] >= {KEY}


def test_a_row_that_was_incomplete_before_stays_so(table: HourlyTable) -> None:
    take(table, (KEY, rows.encode_row(Row(HourlySummary(), 0, 5, incomplete=True))), (KEY, turned(row(9, 1.0))))
    take(table, (rows.CHECKPOINT_KEY, rows.encode_checkpoint(Checkpoint(0, 7, 1.0))))
    table.store.settle_doubts(PARTITION)
    assert stored(table) == (0, True)


def test_a_row_that_only_a_damaged_state_beyond_the_checkpoint_speaks_of_was_never_recorded(table: HourlyTable) -> None:
    take(table, (rows.CHECKPOINT_KEY, rows.encode_checkpoint(Checkpoint(0, 7, 1.0))), (KEY, turned(row(9, 1.0))))
    table.store.settle_doubts(PARTITION)
    assert stored(table) == (0, False)
