"""Whatever happens to a partition, the fold with small rows writes the same bytes as the fold without them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_app.aggregator import row as rows
from metrics_app.aggregator import small_row
from metrics_app.aggregator.flush import Flush
from metrics_app.aggregator.fold import HOUR_MS, FoldLimits, PartitionFold
from metrics_app.aggregator.ranges import Ranges
from metrics_app.aggregator.row import NO_CHECKPOINT, Checkpoint, Row
from metrics_app.aggregator.small_row import MOST_VALUES, SmallRow
from metrics_app.errors import FormatError
from metrics_app.stats import codec
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.chunk import VALUE_MAX, Chunk

HOUR = 498_740
SENDERS = [b"s" * 16, b"\0" * 16]
LIMITS = FoldLimits(retention_hours=4, exact_distinct=6, max_senders=2, max_ranges=3, max_clean_rows=1)


class WithoutSmallRows(PartitionFold):
    """Every row is a `Row`, as in releases before small rows."""

    __slots__ = ()

    def _decoded(self, value: bytes) -> Row:
        return rows.decode_row(value, self.limits.exact_distinct)

    def _fetch(self, row_keys: list[bytes]) -> None:
        super()._fetch(row_keys)
        for row_key in row_keys:
            self._whole(row_key, self.cache[row_key])


class Partition:
    """One way of folding, and its store."""

    def __init__(self, kind: type[PartitionFold], limits: FoldLimits) -> None:
        self.kind, self.limits = kind, limits
        self.stored: dict[bytes, bytes] = {}
        self.flush: Flush | None = None
        self.begin(NO_CHECKPOINT)

    def begin(self, checkpoint: Checkpoint) -> None:
        """A worker takes the partition over."""
        self.flush = None
        self.fold = self.kind(self.stored.get, self.limits, checkpoint)

    def take(self, encoded: int) -> None:
        """Begins a flush of which some rows are encoded."""
        if self.flush is None:
            self.flush = self.fold.take(0.0)
            for _, _step in zip(range(encoded), self.flush.encoding(), strict=False):
                pass

    def end(self, fails: bool, rows_stored: int) -> list[tuple[bytes, bytes]]:
        """Ends it: all of it is stored; or it fails, and only some rows are."""
        if (flush := self.flush) is None:
            return []
        self.flush, written = None, sorted(flush.rows)
        self.stored.update(written[:rows_stored] if fails else written)
        if fails:
            self.fold.failed(flush)
        else:
            self.fold.flushed(flush)
        return written


def histogram() -> bytes:
    summary = HourlySummary(0)
    summary.add(np.array([1.5, 2.5]))
    return codec.encode(summary)


VALUES = st.sampled_from([0.0, -0.0, 0.25, 1.5, 2.5, 5e-324, VALUE_MAX]) | st.integers(0, 1000).map(float)


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    key = draw(st.sampled_from([b"a", b"a", b"b"]))
    hour = HOUR + draw(st.sampled_from([0, 0, 0, 0, 0, -1, 1, -9]))
    values = draw(st.lists(VALUES, max_size=3))
    packed = struct.pack(f"<{len(values)}d", *values)
    kind = draw(st.sampled_from(["plain", "numbered", "numbered", "numbered", "id", "histogram"]))
    if kind == "histogram":
        sender = draw(st.sampled_from([b"", SENDERS[0]]))
        first = draw(st.integers(0, 5)) if sender else 0
        return Chunk(key, hour, b"", sender, first, histogram=histogram(), weight=2)
    if kind == "numbered":
        first = draw(st.integers(0, 3))
        return Chunk(key, hour, packed, draw(st.sampled_from(SENDERS)), first if values else first + 1)
    if kind == "id" and values:
        return Chunk(key, hour, packed, ids=draw(st.sampled_from([b"i" * 16, b"j" * 16])))
    return Chunk(key, hour, packed or struct.pack("<d", 3.5))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.lists(chunks(), min_size=1, max_size=2)),
        st.tuples(st.just("record"), st.lists(chunks(), min_size=1, max_size=2)),
        st.tuples(st.just("flush"), st.just(0)),
        st.tuples(st.just("again"), st.integers(1, 3)),
        st.tuples(st.just("take"), st.integers(0, 3)),
        st.tuples(st.just("end"), st.tuples(st.booleans(), st.integers(0, 3))),
        st.tuples(st.just("restart"), st.booleans()),
        st.tuples(st.just("damage"), st.sampled_from([b"a", b"b"])),
    ),
    max_size=25,
)


@settings(max_examples=500, deadline=None)
@given(STEPS, st.sampled_from([LIMITS, replace(LIMITS, max_senders=0), replace(LIMITS, exact_distinct=1000)]))
def test_the_fold_with_small_rows_and_without_does_the_same(steps, limits):
    """Rows to the byte, tallies and answers; over replays, epochs, late values, ids, histograms and failed flushes."""
    both = Partition(PartitionFold, limits), Partition(WithoutSmallRows, limits)
    log: list[list[Chunk]] = []
    for step, what in steps:
        got = [_done(partition, log, step, what) for partition in both]
        if step == "record":
            log.append(what)
        assert got[0] == got[1], step
        assert _answers(both[0]) == _answers(both[1])
        assert both[0].fold.dirty.keys() == both[1].fold.dirty.keys()
    for partition in both:
        partition.end(fails=False, rows_stored=0)
        partition.take(0)
        partition.end(fails=False, rows_stored=0)
    assert both[0].stored == both[1].stored


def _done(partition: Partition, log: list[list[Chunk]], step: str, what: object) -> object:
    fold = partition.fold
    match step, what:
        case "record", list():
            return astuple(fold.apply(len(log), HOUR * HOUR_MS, what))
        case "again", int() if log:
            at = max(0, len(log) - what)
            return astuple(fold.apply(at, HOUR * HOUR_MS, log[at]))
        case "take", int():
            partition.take(what)
        case "flush", int():
            partition.take(what)
            return partition.end(fails=False, rows_stored=0)
        case "end", (bool() as fails, int() as stored):
            return partition.end(fails, stored)
        case "restart", bool():
            partition.begin(fold.checkpoint._replace(epoch=fold.checkpoint.epoch + what))
        case "damage", bytes() if value := partition.stored.get(row_key := rows.hour_key(HOUR, what)):
            row = rows.decode_row(value, 6)
            row.incomplete = True
            partition.stored[row_key] = rows.encode_row(row)
    return None


def _answers(partition: Partition) -> list[bytes | None]:
    found = [partition.fold.find(key, HOUR + hour) for key in (b"a", b"b") for hour in (0, -1, 1)]
    return [None if row is None else rows.encode_row(row) for row in found]


def test_a_row_of_an_older_epoch_takes_on_the_new_one_and_one_in_a_flush_is_written_as_it_was():
    both = Partition(PartitionFold, LIMITS), Partition(WithoutSmallRows, LIMITS)
    log = [[Chunk(b"a", HOUR, struct.pack("<d", value))] for value in (1.0, 2.0, 2.0)]
    written: list[list[tuple[bytes, bytes]]] = []
    for partition in both:
        _done(partition, [], "record", log[0])
        _done(partition, [], "flush", 0)
        _done(partition, [], "restart", True)
        _done(partition, log[:1], "record", log[1])
        partition.take(0)
        _done(partition, log[:2], "record", log[2])  # its value was there: the row becomes a whole one
        written += [partition.end(fails=True, rows_stored=0)]
        partition.take(0)
        written += [partition.end(fails=False, rows_stored=0)]
    assert written[:2] == written[2:]
    states = [rows.decode_row(value, 6) for ((_, value),) in written[:2]]
    assert [(row.epoch, row.stamp, row.count) for row in states] == [(1, 1, 2), (1, 2, 3)]


@st.composite
def small_rows(draw: st.DrawFn) -> SmallRow:
    row = SmallRow(draw(st.integers(0, 2**32 - 1)))
    row.stamp, row.late = draw(st.integers(-1, 2**63 - 1)), draw(st.integers(0, MOST_VALUES))
    row.values = sorted(draw(st.sets(st.floats(0.0, VALUE_MAX), min_size=1, max_size=MOST_VALUES).map(_without_sign)))
    if draw(st.booleans()):
        row.sender = draw(st.binary(min_size=16, max_size=16))
        row.first = draw(st.integers(0, 2**53))
        row.stop = row.first + draw(st.integers(1, 100))
    return row


def _without_sign(values: set[float]) -> set[float]:
    return {value + 0.0 for value in values}


def _state(row: SmallRow) -> list[object]:
    return [getattr(row, name) for name in SmallRow.__slots__]


@given(small_rows())
def test_its_bytes_are_those_of_the_whole_row_and_it_comes_back(row):
    value = row.encode()
    assert value == rows.encode_row(row.whole(1000))
    again = small_row.decode(value, MOST_VALUES)
    assert again is not None
    assert _state(again) == _state(row)
    assert rows.encode_row(rows.decode_row(value, 1000)) == value


@given(small_rows(), st.data())
def test_damaged_bytes_are_no_small_row_and_are_refused(row, data):
    damaged = bytearray(row.encode())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert small_row.decode(bytes(damaged), MOST_VALUES) is None
    with pytest.raises(FormatError):
        rows.decode_row(bytes(damaged), 1000)


@given(small_rows(), st.lists(st.floats() | st.just(-0.0), min_size=1, max_size=3))
def test_values_that_no_row_may_have_are_left_to_the_whole_row(row, values):
    row.values = values
    value = row.encode()  # with a checksum that fits
    small = small_row.decode(value, MOST_VALUES)
    try:
        whole = rows.decode_row(value, 1000)
    except FormatError:
        assert small is None
    else:
        assert small is not None
        assert small.encode() == rows.encode_row(whole) == value


@pytest.mark.parametrize(
    "row",
    [
        Row(HourlySummary()),
        Row(HourlySummary.of_counts([1.0], [2])),
        Row(HourlySummary.of_counts([1.0], [1]), duplicates=1),
        Row(HourlySummary.of_counts([1.0], [1]), unfenced=1),
        Row(HourlySummary.of_counts([1.0], [1]), incomplete=True),
        Row(HourlySummary.of_counts([1.0], [1]), senders={b"s" * 16: Ranges([0, 1, 2, 3])}),
        Row(HourlySummary.of_counts([1.0], [1]), senders={b"s" * 16: Ranges([5, 5])}),
        Row(HourlySummary.of_counts([1.0], [1]), senders={sender: Ranges([0, 1]) for sender in SENDERS}),
        Row(HourlySummary.of_counts([float(n) for n in range(MOST_VALUES + 1)], [1] * (MOST_VALUES + 1))),
    ],
)
def test_any_other_row_is_no_small_one(row):
    assert small_row.decode(rows.encode_row(row), MOST_VALUES) is None


def test_rows_of_a_record_are_read_together_in_their_order():
    asked: list[list[bytes]] = []

    def load_all(row_keys: list[bytes]) -> Sequence[bytes | None]:
        asked.append(row_keys)
        return [None] * len(row_keys)

    fold = PartitionFold(dict[bytes, bytes]().get, FoldLimits(), NO_CHECKPOINT, load_all=load_all)
    fold.apply(0, HOUR * HOUR_MS, [Chunk(key, HOUR, struct.pack("<d", 1.0)) for key in (b"b", b"a", b"b")])
    fold.apply(1, HOUR * HOUR_MS, [Chunk(key, HOUR, struct.pack("<d", 1.0)) for key in (b"b", b"c")])
    assert asked == [[rows.hour_key(HOUR, b"a"), rows.hour_key(HOUR, b"b")], [rows.hour_key(HOUR, b"c")]]
