"""Laws of the fold: whatever is replayed, in whatever order rows became durable, every value counts once."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Collection
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.deduplication import Occurrence, Occurrences, SeenIds
from metrics_app.aggregator.fold import HOUR_MS, FoldLimits, PartitionFold
from metrics_app.aggregator.ranges import Ranges
from metrics_app.aggregator.row import NO_CHECKPOINT, Checkpoint, Row
from metrics_app.aggregator.tally import Tally
from metrics_app.kafka.connections import MAX_REQUEST_BYTES
from metrics_app.stats import codec
from metrics_app.stats.summary import HourlySummary, value_of
from metrics_app.wire.chunk import Chunk

HOUR = 498_740
NOW_MS = HOUR * HOUR_MS + 1000
SENDER = bytes(range(16))
LIMITS = FoldLimits()


def chunk(key: str, *values: float, hour: int = HOUR, **fences: Any) -> Chunk:
    return Chunk(key.encode(), hour, struct.pack(f"<{len(values)}d", *values), **fences)


def histogram(key: str, *values: float, **fences: Any) -> Chunk:
    summary = HourlySummary(exact_distinct=0)
    summary.add(np.array(values))
    return Chunk(key.encode(), HOUR, b"", histogram=codec.encode(summary), weight=len(values), **fences)


class Disk:
    """What survives a crash: rows and the place, as the changelog would give them back."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.checkpoint = NO_CHECKPOINT

    def open(self, limits: FoldLimits = LIMITS) -> PartitionFold:
        return PartitionFold(self.rows.get, limits, self.checkpoint, SeenIds(self.occurrences))

    def occurrences(self, ids: Collection[bytes], _from_hour: int) -> Occurrences:
        found: Occurrences = defaultdict(list)
        for row_key, value in self.rows.items():
            if row_key[0] == rows.IDS:
                arrival_hour, offset = rows.split_ids_key(row_key)
                for id_, claimed in rows.decode_ids(value).items():
                    found[id_].append(Occurrence(arrival_hour, rows.version_of(value).epoch, offset, claimed))
        return {id_: occurrences for id_, occurrences in found.items() if id_ in ids}

    def save(self, fold: PartitionFold, *, only: int | None = None) -> None:
        """A whole flush; or, with `only`, what a crash lets through of it: some rows and no place."""
        flush = fold.take(as_of=0.0)
        self.rows.update(flush.rows[:only])
        if only is None:
            self.checkpoint = flush.checkpoint
            fold.flushed(flush)


def counts(fold: PartitionFold, keys: str = "abc") -> dict[str, tuple[int, float]]:
    found = {key: fold.find(key.encode(), HOUR) for key in keys}
    return {key: (row.summary.count, row.summary.sum) for key, row in found.items() if row is not None}


def test_values_of_a_key_and_hour_are_gathered_in_one_row():
    fold = Disk().open()
    fold.apply(0, NOW_MS, [chunk("a", 1, 2), chunk("b", 5)])
    fold.apply(1, NOW_MS, [chunk("a", 3), chunk("a", 7, hour=HOUR - 1)])
    assert counts(fold) == {"a": (3, 6.0), "b": (1, 5.0)}
    row = fold.find(b"a", HOUR - 1)
    assert row is not None
    assert (row.summary.count, row.late) == (1, 1)


def test_a_key_without_values_is_not_found():
    assert Disk().open().find(b"a", HOUR) is None


log_of_chunks = st.lists(
    st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 50), min_size=1, max_size=4)), max_size=3),
    min_size=1,
    max_size=12,
)


@given(log_of_chunks, st.lists(st.tuples(st.integers(0, 11), st.integers(0, 3)), max_size=8))
def test_a_replay_after_a_crash_in_the_middle_of_a_flush_counts_every_value_once(log, crashes):
    """A crash lets any prefix of a flush's rows survive; the next owner replays from the place."""
    disk = Disk()
    fold = disk.open()
    saves = defaultdict(list)
    for offset, survivors in crashes:
        saves[offset].append(survivors)
    offset = 0
    while offset < len(log):
        fold.apply(offset, NOW_MS, [chunk(key, *values) for key, values in log[offset]])
        offset += 1
        for survivors in saves.pop(offset - 1, []):
            disk.save(fold, only=survivors if survivors < 3 else None)
            fold = disk.open()
            offset = fold.offset + 1
            break
    expected: dict[str, list[int]] = defaultdict(list)
    for record in log:
        for key, values in record:
            expected[key] += values
    assert {key: (len(values), float(sum(values))) for key, values in expected.items()} == counts(fold)


def test_a_row_that_is_ahead_of_the_checkpoint_is_not_merged_twice():
    disk = Disk()
    fold = disk.open()
    fold.apply(0, NOW_MS, [chunk("a", 1), chunk("b", 1)])
    disk.save(fold, only=1)
    again = disk.open()
    tally = again.apply(0, NOW_MS, [chunk("a", 1), chunk("b", 1)])
    assert (tally.replayed, tally.folded) == (1, 1)
    assert counts(again) == {"a": (1, 1.0), "b": (1, 1.0)}


def test_a_stamp_never_goes_down():
    disk = Disk()
    fold = disk.open()
    for offset in range(3):
        fold.apply(offset, NOW_MS, [chunk("a", 1)])
    disk.save(fold, only=1)
    again = disk.open()
    again.apply(0, NOW_MS, [chunk("a", 1)])
    again.dirty[rows.hour_key(HOUR, b"a")] = again.cache[rows.hour_key(HOUR, b"a")]
    disk.save(again)
    assert rows.version_of(disk.rows[rows.hour_key(HOUR, b"a")]).stamp == 2


def test_a_flush_that_failed_goes_out_again_with_what_came_meanwhile():
    disk = Disk()
    fold = disk.open()
    fold.apply(0, NOW_MS, [chunk("a", 1)])
    lost = fold.take(as_of=0.0)
    fold.apply(1, NOW_MS, [chunk("b", 2, ids=b"i" * 16)])
    fold.failed(lost)
    disk.save(fold)
    assert counts(disk.open()) == {"a": (1, 1.0), "b": (1, 2.0)}
    assert disk.open().apply(2, NOW_MS, [chunk("b", 2, ids=b"i" * 16)]).duplicate_ids == 1


def test_unchanged_rows_beyond_the_bound_leave_memory_and_are_read_back():
    disk = Disk()
    limits = FoldLimits(max_clean_rows=1)
    fold = disk.open(limits)
    fold.load = disk.rows.get
    fold.apply(0, NOW_MS, [chunk("a", 1), chunk("b", 2), chunk("c", 3)])
    disk.save(fold)
    assert len(fold.cache) == 1
    fold.apply(1, NOW_MS, [chunk("a", 1)])
    assert counts(fold) == {"a": (2, 2.0), "b": (1, 2.0), "c": (1, 3.0)}


def test_a_numbered_chunk_sent_twice_counts_once():
    fold = Disk().open()
    fold.apply(0, NOW_MS, [chunk("a", 1, 2, sender=SENDER, first=0)])
    tally = fold.apply(1, NOW_MS, [chunk("a", 1, 2, sender=SENDER, first=0)])
    assert tally.duplicate_numbers == 2
    assert counts(fold) == {"a": (2, 3.0)}
    row = fold.find(b"a", HOUR)
    assert row is not None
    assert (row.duplicates, row.missing) == (2, 0)


def test_of_a_chunk_that_is_partly_known_only_the_new_values_count():
    fold = Disk().open()
    fold.apply(0, NOW_MS, [chunk("a", 1, 2, sender=SENDER, first=0), chunk("a", 64, sender=SENDER, first=4)])
    fold.apply(1, NOW_MS, [chunk("a", 2, 4, 8, 64, 128, sender=SENDER, first=1)])
    assert counts(fold) == {"a": (6, 207.0)}


def test_a_gap_in_the_numbers_is_missing_until_it_is_filled():
    fold = Disk().open()
    fold.apply(0, NOW_MS, [chunk("a", 8, sender=SENDER, first=3)])
    row = fold.find(b"a", HOUR)
    assert row is not None
    assert row.missing == 3
    fold.apply(1, NOW_MS, [chunk("a", 1, 2, 4, sender=SENDER, first=0)])
    row = fold.find(b"a", HOUR)
    assert row is not None
    assert row.missing == 0


def test_an_empty_chunk_says_that_the_numbers_before_it_are_missing_until_they_come():
    fold = Disk().open()
    fold.apply(0, NOW_MS, [chunk("a", 1, sender=SENDER, first=0), chunk("a", sender=SENDER, first=4)])
    row = fold.find(b"a", HOUR)
    assert row is not None
    assert (row.summary.count, row.missing, row.duplicates) == (1, 3, 0)
    fold.apply(1, NOW_MS, [chunk("a", 2, 4, 8, sender=SENDER, first=1), chunk("a", sender=SENDER, first=2)])
    assert (row.summary.count, row.missing, row.duplicates) == (4, 0, 0)
    assert rows.decode_row(rows.encode_row(row), row.summary.exact_distinct).missing == 0


def test_senders_beyond_the_bound_are_counted_without_a_fence():
    fold = Disk().open(FoldLimits(max_senders=1))
    for offset, sender in enumerate([SENDER, b"x" * 16, b"x" * 16]):
        fold.apply(offset, NOW_MS, [chunk("a", 1, sender=sender, first=0)])
    row = fold.find(b"a", HOUR)
    assert row is not None
    assert (row.summary.count, row.unfenced) == (3, 2)


@pytest.mark.parametrize("kind", [chunk, histogram])
def test_a_sender_with_more_gaps_than_a_row_can_note_is_counted_without_a_fence_beyond_them(kind):
    """Else a row outgrows what Kafka takes, and no worker could flush it any more."""
    disk, limit = Disk(), 16
    fold = disk.open(FoldLimits(max_ranges=limit))
    tally = Tally()
    for offset in range(2 * limit):
        sender = bytes([offset % 2]) * 16
        tally.add(fold.apply(offset, NOW_MS, [kind("a", 1, sender=sender, first=4 * offset)]))
    assert (row_of(fold).summary.count, row_of(fold).unfenced, tally.unfenced) == (2 * limit, limit, limit)
    assert sum(len(ranges.edges) for ranges in row_of(fold).senders.values()) == 2 * limit
    disk.save(fold)
    fold = disk.open(FoldLimits(max_ranges=limit))
    fold.apply(2 * limit, NOW_MS, [kind("a", 1, sender=b"\0" * 16, first=0)])
    fold.apply(2 * limit + 1, NOW_MS, [kind("a", 1, 2, 3, sender=b"\0" * 16, first=1)])
    assert row_of(fold).summary.count == 2 * limit + 3, "what it has noted it knows, and what touches that it notes"
    assert row_of(fold).unfenced == limit


def test_histograms_that_overlap_again_and_again_do_not_make_a_row_grow_without_end():
    fold = Disk().open(FoldLimits(max_ranges=8))
    for offset in range(100):
        fold.apply(offset, NOW_MS, [histogram("a", 1, 2, sender=SENDER, first=3 * offset // 2)])
    assert sum(len(ranges.edges) for ranges in row_of(fold).senders.values()) <= 2 * 9


def test_a_row_with_all_the_senders_and_ranges_it_may_have_fits_into_a_request_to_kafka():
    row = Row(HourlySummary(1000))
    row.summary.add(np.geomspace(1e-6, 2.0**44, 5000))
    for number in range(LIMITS.max_senders):
        row.senders[number.to_bytes(16, "big")] = Ranges([1, 2])
    row.senders[b"x" * 16] = Ranges(list(range(2 * (LIMITS.max_ranges - LIMITS.max_senders))))
    assert len(rows.encode_row(row)) < 0.9 * MAX_REQUEST_BYTES


@pytest.mark.parametrize("restart", [False, True])
def test_a_chunk_with_an_id_seen_at_a_lower_offset_is_left_out(restart):
    disk = Disk()
    fold = disk.open()
    fold.apply(0, NOW_MS, [chunk("a", 1, 2, ids=b"i" * 16)])
    if restart:
        disk.save(fold)
        fold = disk.open()
    tally = fold.apply(1, NOW_MS, [chunk("a", 1, 2, ids=b"i" * 16)])
    assert tally.duplicate_ids == 2
    assert counts(fold) == {"a": (2, 3.0)}


def test_an_id_twice_in_one_record_counts_once():
    fold = Disk().open()
    fold.apply(0, NOW_MS, [chunk("a", 1, ids=b"i" * 16), chunk("a", 1, ids=b"i" * 16)])
    assert counts(fold) == {"a": (1, 1.0)}


def test_values_with_an_id_each_are_fenced_one_by_one():
    fold = Disk().open()
    fold.apply(0, NOW_MS, [chunk("a", 1, 2, ids=b"i" * 16 + b"j" * 16)])
    fold.apply(1, NOW_MS, [chunk("a", 2, 4, ids=b"j" * 16 + b"k" * 16)])
    assert counts(fold) == {"a": (3, 7.0)}


@pytest.mark.parametrize("survivors", [0, 1, 2])
def test_an_id_row_lost_in_a_crash_does_not_make_its_values_duplicates(survivors):
    disk = Disk()
    fold = disk.open()
    fold.apply(0, NOW_MS, [chunk("a", 1, ids=b"i" * 16), chunk("b", 1, ids=b"j" * 16)])
    disk.save(fold, only=survivors)
    again = disk.open()
    again.apply(0, NOW_MS, [chunk("a", 1, ids=b"i" * 16), chunk("b", 1, ids=b"j" * 16)])
    again.apply(1, NOW_MS, [chunk("a", 1, ids=b"i" * 16)])
    assert counts(again) == {"a": (1, 1.0), "b": (1, 1.0)}


def test_an_id_is_forgotten_after_its_horizon_by_the_clock_of_the_log():
    fold = Disk().open(FoldLimits(id_horizon_hours=2))
    fold.apply(0, NOW_MS, [chunk("a", 1, ids=b"i" * 16)])
    fold.apply(1, NOW_MS + 2 * HOUR_MS, [chunk("a", 1, ids=b"i" * 16)])
    assert counts(fold) == {"a": (1, 1.0)}
    fold.apply(2, NOW_MS + 5 * HOUR_MS, [chunk("a", 1, ids=b"i" * 16)])
    assert counts(fold) == {"a": (2, 2.0)}


def test_an_id_that_came_again_after_its_horizon_is_still_known_to_a_worker_that_reads_both_sights_from_the_changelog():
    disk = Disk()
    fold = disk.open(limits := FoldLimits(id_horizon_hours=2))
    fold.apply(0, NOW_MS, [chunk("a", 1, ids=b"i" * 16)])
    fold.apply(1, NOW_MS + 3 * HOUR_MS, [chunk("a", 2, ids=b"i" * 16)])
    disk.save(fold)
    again = disk.open(limits)
    again.apply(2, NOW_MS + 3 * HOUR_MS, [chunk("a", 4, ids=b"i" * 16)])
    assert counts(again) == {"a": (2, 3.0)}


def test_hours_beyond_retention_are_left_out_and_counted():
    fold = Disk().open(FoldLimits(retention_hours=24))
    tally = fold.apply(0, NOW_MS, [chunk("a", 1, 2, hour=HOUR - 25), chunk("a", 4, hour=HOUR - 24)])
    assert (tally.expired, tally.folded) == (2, 1)


def test_when_the_clock_of_the_log_goes_back_what_has_expired_stays_expired():
    """A broker's clock may be set back, or another broker lead: the row of that hour is gone from the disk."""
    disk = Disk()
    fold = disk.open()
    old = HOUR - LIMITS.retention_hours
    fold.apply(0, NOW_MS, [chunk("a", 1, hour=old)])
    fold.apply(1, NOW_MS + HOUR_MS, [chunk("b", 1)])
    disk.save(fold)
    disk.rows.pop(rows.hour_key(old, b"a"))  # as expiry does, by the place's clock
    for successor in (fold, disk.open()):
        assert successor.apply(2, NOW_MS, [chunk("a", 1, hour=old)]).expired == 1


def test_ids_seen_while_the_clock_of_the_log_goes_back_are_remembered_for_the_whole_horizon():
    disk = Disk()
    fold = disk.open()
    fold.apply(0, NOW_MS + HOUR_MS, [chunk("b", 1)])
    fold.apply(1, NOW_MS, [chunk("a", 1, ids=b"i" * 16)])
    disk.save(fold)
    fold = disk.open()
    fold.apply(2, NOW_MS + HOUR_MS * (1 + LIMITS.id_horizon_hours), [chunk("a", 1, ids=b"i" * 16)])
    assert counts(fold) == {"a": (1, 1.0), "b": (1, 1.0)}


def test_a_row_of_an_earlier_incarnation_of_the_topic_takes_new_records_whatever_its_stamp():
    disk = Disk()
    fold = disk.open()
    for offset in range(5):
        fold.apply(offset, NOW_MS, [chunk("a", 1)])
    disk.save(fold)
    disk.checkpoint = Checkpoint(epoch=1, offset=-1, as_of=0.0)
    again = disk.open()
    again.apply(0, NOW_MS, [chunk("a", 1)])
    disk.save(again)
    assert counts(disk.open()) == {"a": (6, 6.0)}
    assert rows.version_of(disk.rows[rows.hour_key(HOUR, b"a")]) == (1, 0)


def row_of(fold: PartitionFold) -> rows.Row:
    row = fold.find(b"a", HOUR)
    assert row is not None
    return row


def test_a_histogram_counts_as_its_values_would_and_makes_the_quantiles_inexact():
    disk = Disk()
    fold, plain = disk.open(), Disk().open()
    numbers = [0.0, 1e-7, 0.1, 3.3, 700.7, 12.25]
    tally = fold.apply(0, NOW_MS, [chunk("a", *numbers[:2]), histogram("a", *numbers[2:])])
    plain.apply(0, NOW_MS, [chunk("a", *numbers)])
    assert (tally.folded, tally.late) == (6, 0)
    disk.save(fold)
    summed, exact = row_of(disk.open()).summary, row_of(plain).summary
    for stat in ("count", "sum", "min", "max", "average", "stddev"):
        assert value_of(summed, stat).value == value_of(exact, stat).value
    median = summed.quantile(0.5)
    assert (median.exact, exact.exact) == (False, True)
    assert median.lo <= exact.quantile(0.5).value <= median.hi


@pytest.mark.parametrize("fence", [{"sender": SENDER, "first": 5}, {"ids": b"i" * 16}])
def test_a_histogram_sent_twice_counts_once(fence):
    fold = Disk().open()
    fold.apply(0, NOW_MS, [histogram("a", 1, 2, 4, **fence)])
    tally = fold.apply(1, NOW_MS, [histogram("a", 1, 2, 4, **fence)])
    assert (tally.folded, tally.duplicate_numbers + tally.duplicate_ids) == (0, 3)
    assert counts(fold) == {"a": (3, 7.0)}
    assert row_of(fold).duplicates == 3


def test_a_replayed_histogram_is_not_merged_again():
    disk = Disk()
    fold = disk.open()
    fold.apply(0, NOW_MS, [histogram("a", 1, 2, sender=SENDER)])
    disk.save(fold, only=1)
    again = disk.open()
    tally = again.apply(0, NOW_MS, [histogram("a", 1, 2, sender=SENDER)])
    assert (tally.replayed, tally.folded) == (2, 0)
    assert counts(again) == {"a": (2, 3.0)}


def test_values_within_a_histogram_that_was_folded_are_duplicates():
    fold = Disk().open()
    fold.apply(0, NOW_MS, [histogram("a", 1, 2, 4, sender=SENDER)])
    tally = fold.apply(1, NOW_MS, [chunk("a", 4, 8, sender=SENDER, first=2)])
    assert (tally.folded, tally.duplicate_numbers) == (1, 1)
    assert counts(fold) == {"a": (4, 15.0)}


def test_a_histogram_that_overlaps_in_part_is_left_out_and_what_was_new_in_it_is_missing():
    disk = Disk()
    fold = disk.open()
    fold.apply(0, NOW_MS, [chunk("a", 1, 2, sender=SENDER)])
    tally = fold.apply(1, NOW_MS, [histogram("a", 2, 4, 8, sender=SENDER, first=1)])
    assert (tally.folded, tally.duplicate_numbers, tally.overlapping) == (0, 1, 2)
    disk.save(fold)
    row = row_of(disk.open())
    assert (row.summary.count, row.duplicates, row.missing) == (2, 1, 2)
    again = disk.open()
    again.apply(2, NOW_MS, [chunk("a", 4, 8, sender=SENDER, first=2)])
    assert (row_of(again).summary.count, row_of(again).missing) == (4, 0)


def test_histograms_of_senders_beyond_the_bound_are_counted_without_a_fence():
    fold = Disk().open(FoldLimits(max_senders=1))
    for offset, sender in enumerate([SENDER, b"x" * 16, b"x" * 16]):
        fold.apply(offset, NOW_MS, [histogram("a", 1, 2, sender=sender)])
    assert (row_of(fold).summary.count, row_of(fold).unfenced) == (6, 4)


def test_a_late_histogram_is_late_with_all_its_values():
    fold = Disk().open()
    tally = fold.apply(0, NOW_MS + HOUR_MS, [histogram("a", 1, 2)])
    assert (tally.late, row_of(fold).late) == (2, 2)
