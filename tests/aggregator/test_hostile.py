"""Whatever is in a record with a valid checksum: it is refused, or the state it leads to can be written and read."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_app.aggregator import fold as folds
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fold import HOUR_MS, FoldLimits, PartitionFold
from metrics_app.aggregator.row import MOST, NO_CHECKPOINT
from metrics_app.aggregator.small_row import SmallRow
from metrics_app.errors import FormatError
from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk
from tests.wire import hostile

LIMITS = FoldLimits(exact_distinct=3, max_senders=2, max_ranges=3)
times = st.sampled_from([hostile.NOW * HOUR_MS, 0, -1, 2**63 - 1, (hostile.NOW + 5) * HOUR_MS])


def written(fold: PartitionFold) -> dict[bytes, bytes]:
    """The rows of a flush, as they are stored."""
    flush = fold.take(as_of=0.0)
    fold.flushed(flush)
    checkpoint = rows.decode_checkpoint(rows.encode_checkpoint(flush.checkpoint))
    assert checkpoint == flush.checkpoint
    return dict(flush.rows)


def assert_sound(stored: dict[bytes, bytes]) -> None:
    for row_key, value in stored.items():
        if row_key[0] == rows.HOUR:
            assert rows.encode_row(rows.decode_row(value, LIMITS.exact_distinct)) == value


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(times, hostile.records), max_size=4))
def test_any_record_is_refused_or_leads_to_rows_that_can_be_written_and_read(log):
    stored: dict[bytes, bytes] = {}
    fold = PartitionFold(stored.get, LIMITS, NO_CHECKPOINT)
    for offset, (timestamp_ms, value) in enumerate(log):
        chunks: list[Chunk] = []
        with suppress(FormatError):
            chunks = record.decode(value)
        tally = fold.apply(offset, timestamp_ms, chunks)
        assert sum(chunk.count for chunk in chunks) == (
            tally.folded + tally.replayed + tally.duplicate_numbers + tally.duplicate_ids + tally.expired
            + tally.overlapping + tally.overfull
        )  # fmt: skip
        stored |= written(fold)
        assert_sound(stored)


def test_the_records_drawn_are_both_good_and_bad():
    """Else the test above would show nothing."""
    seen: Counter[str] = Counter()

    @settings(deadline=None, max_examples=300, database=None, derandomize=True)
    @given(hostile.records)
    def look(value: bytes) -> None:
        try:
            chunks = record.decode(value)
            seen["histograms"] += any(chunk.histogram for chunk in chunks)
            seen["numbered"] += any(chunk.sender for chunk in chunks)
            seen["taken"] += bool(chunks)
        except FormatError as error:
            seen[error.reason.partition(":")[2][:9]] += 1

    look()
    assert min(seen["taken"], seen["histograms"], seen["numbered"]) >= 10, seen
    assert len(seen) > 8, seen


def test_a_row_that_has_as_many_values_as_can_be_counted_takes_no_more_and_says_so(monkeypatch):
    monkeypatch.setattr(folds, "VALUES_MAX", 3)
    fold = PartitionFold(dict[bytes, bytes]().get, LIMITS, NO_CHECKPOINT)
    two = [Chunk(b"a", hostile.NOW, b"\0" * 16)]
    tallies = [fold.apply(offset, hostile.NOW * HOUR_MS, two) for offset in range(2)]
    assert [(tally.folded, tally.overfull) for tally in tallies] == [(2, 0), (0, 2)]
    assert_sound(written(fold))


def test_a_row_that_has_left_out_as_many_duplicates_as_it_can_count_stays_writable():
    fold = PartitionFold(dict[bytes, bytes]().get, LIMITS, NO_CHECKPOINT)
    again = [Chunk(b"a", hostile.NOW, b"\0" * 16, ids=b"i" * 16)]
    fold.apply(0, hostile.NOW * HOUR_MS, again)
    row = fold.find(b"a", hostile.NOW)
    assert row is not None
    row.duplicates = MOST - 1
    fold.apply(1, hostile.NOW * HOUR_MS, again)
    assert row.duplicates == MOST
    assert_sound(written(fold))


def test_what_cannot_be_encoded_stays_to_be_flushed(monkeypatch):
    """The process ends on it (test_flusher.py); a flush that is given back has all of its rows."""
    fold = PartitionFold(dict[bytes, bytes]().get, LIMITS, NO_CHECKPOINT)
    fold.apply(0, hostile.NOW * HOUR_MS, [Chunk(b"a", hostile.NOW, b"\0" * 8), Chunk(b"b", hostile.NOW, b"\0" * 8)])
    dirty = dict(fold.dirty)
    monkeypatch.setattr(SmallRow, "encode", lambda row: 1 / 0)
    flush = fold.take(as_of=0.0)
    with pytest.raises(ZeroDivisionError):
        assert flush.rows
    fold.failed(flush)
    assert fold.dirty == dirty
