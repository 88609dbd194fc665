"""When a worker answers for a partition, and in which role."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.completeness import BEHIND_S, FRESH_S, LogEnd
from metrics_app.aggregator.fold import FoldLimits
from metrics_app.aggregator.origin import CopyOrigin
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.reader import TableReader
from metrics_app.aggregator.row import NO_CHECKPOINT, Checkpoint, Row
from metrics_app.clocks import Instant
from metrics_app.errors import NotYetError, OwnerUnavailableError, Progress
from metrics_app.stats.summary import HourlySummary

HERE = CopyOrigin("cluster", "topic")
SUMMARY = HourlySummary()
SUMMARY.add(np.array([4.0]))


@pytest.fixture
def reader(table: Any) -> TableReader:
    """Of a worker that owns partition 1 and holds a copy of partition 2."""
    app: Any = SimpleNamespace(rebalancing=False, tables=SimpleNamespace(actives_ready=True))
    partitions = Partitions(table, FoldLimits(), log=object())  # type: ignore[arg-type]
    partitions.assign({1})
    for partition in (1, 2):
        checkpoint_row = (rows.CHECKPOINT_KEY, rows.encode_checkpoint(Checkpoint(0, 7, 1.0)))
        table.store.write(table.changelog_tp(partition), [checkpoint_row], 1)
    return TableReader(app, table, partitions, SimpleNamespace(current={2}, progress={}))


def test_an_owned_partition_is_answered_once_its_checkpoint_has_been_compared_with_the_log(reader):
    """Until then the rows may be those of another log; and they are not a standby's either."""
    assert reader.holds(1) is None
    with pytest.raises(OwnerUnavailableError):
        reader.read(1, b"k", 1)
    reader.partitions.checkpoints[1] = NO_CHECKPOINT
    assert reader.holds(1) == "active"
    reader.partitions.doubt(1)
    assert reader.holds(1) is None


def test_a_whole_copy_is_a_standby_and_one_that_catches_up_says_so(reader):
    assert [reader.holds(partition) for partition in (2, 3)] == [None, None]
    reader.table.store.matched(2, HERE)
    assert reader.holds(2) is None, "it may lack rows"
    reader.table.store.note_whole(2)
    assert [reader.holds(partition) for partition in (2, 3)] == ["standby", None]
    reader.copies.current.clear()
    assert reader.holds(2) == "recovering"


@pytest.mark.parametrize("state", ["rebalancing", "recovering"])
def test_while_partitions_move_or_are_recovered_a_whole_copy_answers_as_of_its_checkpoint(reader, state):
    """Also that of an owned partition: nothing of it is in memory then."""
    reader.table.store.write(reader.table.changelog_tp(1), [(rows.hour_key(9, b"k"), rows.encode_row(Row(SUMMARY)))], 2)
    reader.partitions.checkpoints[1] = NO_CHECKPOINT
    reader.app.rebalancing = state == "rebalancing"
    reader.app.tables.actives_ready = state != "recovering"
    assert reader.holds(1) is None, "it may lack rows"
    reader.table.store.note_whole(1)
    assert reader.holds(1) is None, "it may be of another changelog"
    reader.table.store.matched(1, HERE)
    found = reader.read(1, b"k", 9)
    assert (found.role, found.stale, found.as_of, found.summary.count) == ("recovering", True, 1.0, 1)
    with pytest.raises(OwnerUnavailableError):
        reader.read(1, b"not recorded yet", 9)


def test_who_cannot_answer_says_how_far_recovery_has_come(reader):
    reader.copies.progress[3] = Progress(3, 10, 100, 4.5)
    error = reader.unavailable(3)
    assert (error.recovering, error.retry_after_s) == ([Progress(3, 10, 100, 4.5)], 5)
    assert reader.unavailable(2).recovering == []


def test_an_owner_that_has_not_caught_up_since_it_took_over_does_not_say_that_there_is_nothing(reader):
    """Its predecessor may have folded, and answered, what the changelog does not have yet."""
    reader.table.store.write(reader.table.changelog_tp(1), [(rows.hour_key(9, b"k"), rows.encode_row(Row(SUMMARY)))], 2)
    reader.partitions.checkpoints[1] = NO_CHECKPOINT
    assert reader.read(1, b"k", 9).stale
    with pytest.raises(OwnerUnavailableError):
        reader.read(1, b"in the backlog", 9)
    reader.partitions.of(1).completeness.shown_s = time.monotonic()
    assert reader.read(1, b"in the backlog", 9) is None


@pytest.fixture
def complete(reader):
    """A partition of which everything is folded, with one row."""
    reader.table.store.write(reader.table.changelog_tp(1), [(rows.hour_key(9, b"k"), rows.encode_row(Row(SUMMARY)))], 2)
    reader.partitions.checkpoints[1] = NO_CHECKPOINT
    reader.partitions.of(1).completeness.shown_s = time.monotonic()
    return reader.partitions.of(1)


@pytest.mark.parametrize("why", ["garbage", "a backlog", "no proof"])
def test_an_owner_that_does_not_fold_says_not_yet_instead_of_nothing(reader, complete, why):
    assert reader.read(1, b"new", 9) is None
    assert not reader.read(1, b"k", 9).stale
    if why == "garbage":
        reader.partitions.stopped[1] = "100 records in a row"
    elif why == "a backlog":
        complete.completeness.asked = LogEnd(
            complete.fold.offset + 2, Instant(0.0, time.monotonic() - BEHIND_S - 1), 0.0
        )
    else:
        complete.completeness.shown_s -= FRESH_S + 1
    with pytest.raises(NotYetError, match="partition 1 may hold it and cannot say so yet"):
        reader.read(1, b"new", 9)
    assert reader.read(1, b"k", 9).stale


def test_a_backlog_of_this_moment_is_no_standstill(reader, complete):
    complete.completeness.asked = LogEnd(complete.fold.offset + 2, Instant(0.0, time.monotonic()), 0.0)
    assert reader.read(1, b"new", 9) is None


ASKED = {
    "a row": lambda reader, partition: reader.read(partition, b"k", 9),
    "losses": lambda reader, partition: reader.losses(partition),
    "whether it is behind": lambda reader, partition: reader.behind(1),
    "keys in memory": lambda reader, partition: reader.recent_keys(1, range(9, 10), b""),
}


@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize("partition", [1, 2])
def test_a_disk_that_cannot_be_read_is_a_refusal_that_may_be_tried_again(reader, partition, what, monkeypatch):
    def failing(*_: object) -> bytes:
        raise OSError(24, "Too many open files")

    reader.partitions.checkpoints[1] = NO_CHECKPOINT
    reader.table.store.matched(2, HERE)
    reader.table.store.note_whole(2)
    monkeypatch.setattr(reader.table.store, "read", failing)
    with pytest.raises(OwnerUnavailableError, match="cannot be read now"):
        ASKED[what](reader, partition)


def test_a_copy_of_which_nobody_can_tell_now_whether_it_is_whole_is_not_answered_from(reader, monkeypatch):
    def failing(*_: object) -> bytes:
        raise OSError(24, "Too many open files")

    reader.table.store.matched(2, HERE)
    monkeypatch.setattr(reader.table.store, "read", failing)
    assert reader.holds(2) is None
