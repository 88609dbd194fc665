"""What expires, closes and is forgotten needs the log's clock and the worker's own; either may be wrong."""

from __future__ import annotations

import struct
import zlib
from types import SimpleNamespace
from typing import Any

import pytest

from metrics_app import clocks as module
from metrics_app.aggregator import fencing
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.completeness import LogEnd
from metrics_app.aggregator.fold import HOUR_MS, FoldLimits, PartitionFold
from metrics_app.aggregator.origin import CopyOrigin
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.reader import TableReader
from metrics_app.aggregator.role import final_after_s
from metrics_app.aggregator.row import NO_CHECKPOINT, Checkpoint, Row
from metrics_app.aggregator.source_log import LogClock, Witness
from metrics_app.aggregator.table import HourlyTable
from metrics_app.clocks import Instant
from metrics_app.query.answer import is_final
from metrics_app.query.question import Window
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.chunk import Chunk
from tests.aggregator.conftest import active_of

HOUR = 498_740
LONG_AGO = HOUR - 100_000
NOW_MS = HOUR * HOUR_MS + 1000
DAY_MS = 24 * HOUR_MS
LIMITS = FoldLimits()
ID = b"i" * 16


def chunk(value: float, hour: int = HOUR, ids: bytes = b"") -> Chunk:
    return Chunk(b"k", hour, struct.pack("<d", value), ids=ids)


def a_fold(checkpoint: Checkpoint = NO_CHECKPOINT) -> PartitionFold:
    return PartitionFold(lambda _: None, LIMITS, checkpoint)


def count(fold: PartitionFold, hour: int = HOUR) -> int:
    row = fold.find(b"k", hour)
    return 0 if row is None else row.summary.count


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, 25 * HOUR_MS, 40 * DAY_MS])
def test_one_record_from_a_broker_that_is_ahead_costs_nobody_anything(ahead_ms):
    fold, now = a_fold(), Witness(NOW_MS)
    fold.apply(0, NOW_MS, [chunk(1, ids=ID)], now)
    odd = fold.apply(1, NOW_MS + ahead_ms, [chunk(2)], now)
    assert (fold.clock.confirmed_ms, fold.clock.newest_ms) == (NOW_MS, NOW_MS + ahead_ms)
    tally = fold.apply(2, NOW_MS + 1, [chunk(4), chunk(8, ids=ID)], now)
    assert (odd.expired, tally.expired, tally.folded, tally.duplicate_ids) == (0, 0, 1, 1)
    assert count(fold) == 3
    assert (odd.late, tally.late) == (0, 0)
    assert fold.take(0.0).checkpoint[3:6] == (NOW_MS + ahead_ms, 0, NOW_MS + 1)


@pytest.mark.parametrize("off_ms", [-40 * DAY_MS, -2 * HOUR_MS, 2 * HOUR_MS, 40 * DAY_MS])
def test_a_worker_whose_own_clock_is_wrong_neither_drops_nor_forgets(off_ms):
    fold, now = a_fold(Checkpoint(0, -1, 0.0, NOW_MS, 0, NOW_MS)), Witness(NOW_MS + off_ms)
    fold.apply(0, NOW_MS, [chunk(1, ids=ID)], now)
    tally = fold.apply(1, NOW_MS + 1, [chunk(2, ids=ID), chunk(4, hour=HOUR - LIMITS.retention_hours)], now)
    assert (tally.folded, tally.duplicate_ids, tally.expired) == (1, 1, 0)


@pytest.mark.parametrize("stamp_ms", [NOW_MS - 30 * DAY_MS, NOW_MS + 30 * DAY_MS])
def test_an_id_that_came_while_clocks_differed_is_remembered_for_the_whole_horizon_once_they_do_not(stamp_ms):
    """Whichever side the broker is on: when it is set right, the log's clock moves by days at once."""
    fold = a_fold(Checkpoint(0, -1, 0.0, NOW_MS - DAY_MS, 0, NOW_MS - 3 * DAY_MS))
    fold.apply(0, stamp_ms, [chunk(1, ids=ID)], Witness(NOW_MS, disputed=True))
    later_ms = NOW_MS + (LIMITS.id_horizon_hours - 1) * HOUR_MS
    tally = fold.apply(1, later_ms, [chunk(2, ids=ID)], Witness(later_ms))
    assert tally.duplicate_ids == 1


def test_a_checkpoint_that_met_a_broker_40_days_ahead_is_set_back_by_the_next_record():
    """As version 1 stored it: the log's clock as it was, right or wrong."""
    poisoned = NOW_MS + 40 * DAY_MS
    fold = a_fold(Checkpoint(0, 7, poisoned / 1000, poisoned, poisoned // HOUR_MS, poisoned))
    assert active_of(fold).as_of(NOW_MS / 1000) <= NOW_MS / 1000
    tally = fold.apply(8, NOW_MS, [chunk(1, ids=ID)], Witness(NOW_MS))
    assert (tally.folded, tally.expired) == (1, 0)
    checkpoint = fold.take(0.0).checkpoint
    assert (checkpoint.log_ms, checkpoint.clock_ms) == (poisoned, NOW_MS), (
        "the highest stamp still tells this log from another"
    )
    assert fencing.sealed_before(fold) == HOUR - 1
    assert fencing.closed_before(fold) == HOUR - 1


def test_while_the_broker_stays_ahead_nothing_is_dropped_for_it():
    poisoned = NOW_MS + 40 * DAY_MS
    fold = a_fold(Checkpoint(0, 7, 0.0, poisoned, 0, poisoned))
    tally = fold.apply(8, poisoned + 1, [chunk(1, hour=HOUR - LIMITS.retention_hours)], Witness(NOW_MS))
    assert (tally.folded, tally.expired) == (1, 0)


def test_a_step_within_the_tolerance_changes_nothing():
    clock = LogClock(0, 0, 10_000)
    for stamp_ms, own_ms in ((NOW_MS, NOW_MS - 9000), (NOW_MS + 5000, NOW_MS - 4000), (NOW_MS + 4000, NOW_MS + 60_000)):
        clock.read(stamp_ms, own_ms)
    assert clock.confirmed_ms == NOW_MS + 5000


def test_values_of_an_hour_that_had_not_begun_when_kafka_took_them_are_counted_and_seen():
    fold, just_before_ms = a_fold(), (HOUR + 1) * HOUR_MS - 60_000
    tally = fold.apply(0, just_before_ms, [chunk(1), chunk(2, HOUR + 1), chunk(4, HOUR + 2)], Witness(just_before_ms))
    assert (tally.folded, tally.ahead) == (3, 1), "a timestamp may be five minutes ahead, not more"


class Times:
    """The clocks of this worker, to be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own_s = NOW_MS / 1000
        self.monotonic_s = 1000.0
        time = SimpleNamespace(time=lambda: self.own_s, monotonic=lambda: self.monotonic_s)
        monkeypatch.setattr(module, "time", time)

    def pass_s(self, seconds: float) -> None:
        self.own_s += seconds
        self.monotonic_s += seconds


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    return Times(monkeypatch)


def hours_left(table: HourlyTable, partition: int) -> list[int]:
    stored = table.store.scan(partition, *rows.before(rows.HOUR, 1 << 31))
    return [rows.split_hour_key(row_key)[0] for row_key, _ in stored]


@pytest.mark.parametrize(
    ("log_off_ms", "own_off_ms", "is_kept"),
    [(40 * DAY_MS, 0, True), (0, 40 * DAY_MS, True), (-40 * DAY_MS, 0, True), (0, -40 * DAY_MS, True),
     (40 * DAY_MS, 40 * DAY_MS, False)],
)  # fmt: skip
def test_nothing_is_deleted_on_the_word_of_one(table, times, log_off_ms, own_off_ms, is_kept):
    """By the owner and by a standby alike."""
    partitions = Partitions(table, LIMITS)
    partitions.assign({1})
    checkpoint = Checkpoint(0, 7, (NOW_MS + log_off_ms) / 1000, NOW_MS + log_off_ms, 0, NOW_MS + log_off_ms)
    for partition in (1, 2):
        stored = [(rows.hour_key(HOUR - 20, b"k"), b""), (rows.CHECKPOINT_KEY, rows.encode_checkpoint(checkpoint))]
        table.store.write(table.changelog_tp(partition), stored, None)
    times.own_s += own_off_ms / 1000
    partitions.expire(1, checkpoint)
    partitions.expire_standbys()
    kept = [HOUR - 20] if is_kept else []
    assert (hours_left(table, 1), hours_left(table, 2)) == (kept, kept)


def test_nothing_is_deleted_that_records_not_folded_yet_may_need(table, times):
    """Both clocks are past the bound, but a stamp in a backlog proves nothing about what lies behind it."""
    partitions = Partitions(table, LIMITS)
    partitions.assign({1})
    times.own_s += 40 * DAY_MS / 1000
    checkpoint = Checkpoint(0, 7, NOW_MS / 1000, NOW_MS + 40 * DAY_MS, 0, NOW_MS + 40 * DAY_MS)
    table.store.write(table.changelog_tp(1), [(rows.hour_key(HOUR - 20, b"k"), b"")], None)
    partitions.expire(1, checkpoint)
    assert hours_left(table, 1) == [HOUR - 20]


@pytest.mark.parametrize(("own_s", "kafka_s"), [(3600.0, 0.0), (0.0, 3600.0), (-3600.0, 0.0), (0.0, -3600.0)])
def test_an_hour_is_over_when_both_clocks_say_so(table: Any, times: Times, own_s: float, kafka_s: float) -> None:
    clocks = Partitions(table, LIMITS).clocks
    sent = clocks.now()
    times.own_s += own_s
    clocks.appended(1, NOW_MS + round(kafka_s * 1000), sent)
    assert clocks.both_s(1, clocks.now()) == NOW_MS / 1000 + min(own_s, kafka_s)
    assert clocks.disputed
    assert str(clocks.warning()).startswith("Kafka's clock is 3,600 s ")


def test_as_of_is_put_right_after_both_clocks_were_ahead_together(table: Any, times: Times) -> None:
    """As on one machine: else every answer is as of now for 40 days, whatever waits."""
    active = active_of(a_fold())
    for off_s in (40 * 86_400, 0):
        times.pass_s(1)
        own_s = times.own_s + off_s
        active.completeness.show(LogEnd(1, Instant(own_s, times.monotonic_s), own_s))
    times.pass_s(60)
    assert active.as_of(times.own_s) == times.own_s - 60


def test_a_step_of_the_own_clock_is_seen_without_an_append_and_a_repair_too(table: Any, times: Times) -> None:
    clocks = Partitions(table, LIMITS).clocks
    clocks.appended(1, NOW_MS, clocks.now())
    assert clocks.warning() is None
    times.own_s += 3600
    times.pass_s(2)
    assert clocks.disputed
    assert clocks.both_s(1, clocks.now()) == NOW_MS / 1000 + 2
    times.own_s -= 3600
    assert clocks.warning() is None


def test_a_slow_acknowledgement_is_no_difference_of_clocks(table: Any, times: Times) -> None:
    clocks = Partitions(table, LIMITS).clocks
    sent = clocks.now()
    times.pass_s(60)
    for stamp_s in (0, 30, 60):
        clocks.appended(1, NOW_MS + stamp_s * 1000, sent)
        assert clocks.difference_s == 0.0


def test_a_record_that_is_stamped_before_it_can_have_been_there_shows_a_broker_behind(table, times, caplog):
    clocks = Partitions(table, LIMITS).clocks
    for _ in range(3):
        assert clocks.met(1, 7, NOW_MS - 2 * HOUR_MS, Instant(times.own_s - 1, times.monotonic_s - 1))
    assert not clocks.met(1, 8, NOW_MS - 2 * HOUR_MS, None), "it may have waited in the log"
    assert len([line for line in caplog.records if "behind" in line.message]) == 1, "one line a minute"
    assert clocks.disputed
    times.pass_s(module.REMEMBERED_S)
    assert not clocks.disputed


def test_what_a_record_showed_goes_with_our_clock_when_that_is_stepped(table: Any, times: Times) -> None:
    """Else a clock that was set right would be called wrong for a minute, or the wrong one of two differences said."""
    clocks, begun = Partitions(table, LIMITS).clocks, times.own_s
    times.own_s += 40 * 86_400
    asked = clocks.now()
    assert clocks.met(1, 7, NOW_MS, asked)
    assert "3,456,000 s behind" in str(clocks.warning())
    times.own_s = begun - 7200
    assert "7,200 s ahead of" in str(clocks.warning())
    times.own_s = begun
    assert clocks.warning() is None
    assert not clocks.met(1, 8, NOW_MS, asked), "that moment, by the clock as it is set now"


def test_the_hour_is_sure_where_most_brokers_agree_or_see_the_same_one(table: Any, times: Times) -> None:
    clocks = Partitions(table, LIMITS).clocks
    at = Instant(times.own_s, times.monotonic_s)
    clocks.appended(0, NOW_MS + 600_000, at)
    assert clocks.disputed
    assert clocks.doubt() is None, "ten minutes ahead, in the same hour"
    clocks.appended(0, NOW_MS + 2 * HOUR_MS, at)
    assert "7,200 s ahead" in str(clocks.doubt())
    clocks.appended(1, NOW_MS, at)
    assert clocks.doubt() is None, "one broker of two sides with us"
    clocks.appended(2, NOW_MS + 2 * HOUR_MS, at)
    assert clocks.doubt() is not None


@pytest.mark.parametrize(
    ("version", "log_off_ms", "left"), [(1, 40 * DAY_MS, []), (1, 0, [HOUR]), (2, 40 * DAY_MS, [HOUR])]
)
def test_a_copy_that_an_earlier_release_deleted_from_too_early_is_rebuilt_from_the_changelog(
    table, times, version, log_off_ms, left
):
    checkpoint = bytearray(rows.encode_checkpoint(Checkpoint(0, 7, 0.0, NOW_MS + log_off_ms)))
    if version == 1:
        body = struct.pack("<BBHIq", rows.MAGIC, 1, 0, 0, 7) + struct.pack("<dqI", 0.0, NOW_MS + log_off_ms, 0)
        checkpoint = bytearray(body + struct.pack("<I", zlib.crc32(body)))
    tp = table.changelog_tp(1)
    table.latest_ms = lambda: int(times.own_s * 1000)
    table.store.write(tp, [(rows.hour_key(HOUR, b"k"), b""), (rows.CHECKPOINT_KEY, bytes(checkpoint))], 3)
    table.rebuild_expired_early({tp})
    assert hours_left(table, 1) == left
    assert (table.store.persisted_offset(tp) is None) == (left == [])


@pytest.mark.parametrize("deadline_s", [1.8, 60.0])
def test_an_hour_is_final_when_no_collector_can_be_sending_of_it_any_more(table, times, make_settings, deadline_s):
    settings = make_settings(request_deadline_s=deadline_s)
    after_s = final_after_s(settings)
    assert after_s >= 2 * deadline_s + settings.clock_tolerance_s
    app: Any = SimpleNamespace(tables=SimpleNamespace(actives_ready=True), rebalancing=False)
    copies: Any = SimpleNamespace(current={1}, progress={})
    reader = TableReader(app, table, Partitions(table, LIMITS), copies, after_s)
    window, tp = Window(LONG_AGO, LONG_AGO + 1, "hour"), table.changelog_tp(1)
    table.store.note_whole(1)
    table.store.matched(1, CopyOrigin("here", "topic"))
    for as_of, final in ((window.end_s + after_s - 1, False), (window.end_s + after_s, True)):
        checkpoint = (rows.CHECKPOINT_KEY, rows.encode_checkpoint(Checkpoint(0, 7, as_of)))
        row = (rows.hour_key(LONG_AGO, b"k"), rows.encode_row(Row(HourlySummary())))
        table.store.write(tp, [row, checkpoint], None)
        found = reader.read(1, b"k", LONG_AGO)
        assert found is not None
        assert is_final(found, window) == final
