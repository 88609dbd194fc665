"""Whether a place still belongs to the log: the rule, and a worker that does nothing before it is known."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from typing import Any

import pytest

from metrics_app.aggregator import partitions as module
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fold import HOUR_MS, FoldLimits
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.row import NO_CHECKPOINT, Checkpoint
from metrics_app.aggregator.source_log import LogSpan, continued
from metrics_app.aggregator.table import HourlyTable
from metrics_app.telemetry import Telemetry
from metrics_app.wire.chunk import Chunk
from tests.metrics import value_of

HOUR = 498_740
NOW_MS = HOUR * HOUR_MS + 1000
CHECKPOINT = Checkpoint(epoch=2, offset=100, as_of=7.0, log_ms=NOW_MS, sealed=HOUR)


@pytest.mark.parametrize(
    ("span", "epoch", "offset"),
    [
        (LogSpan(0, 101, None), 2, 100),  # nothing has come
        (LogSpan(40, 140, 101), 2, 100),  # some has
        (LogSpan(101, 101, None), 2, 100),  # all was deleted by age
        (LogSpan(120, 140, 120), 2, 100),  # and more than was folded: that is a loss, not another log
        (LogSpan(0, 0, None), 3, -1),  # made anew, empty
        (LogSpan(0, 7, 0), 3, -1),  # made anew
        (LogSpan(0, 500, 0), 3, -1),  # made anew and grown beyond
        (LogSpan(0, 90, None), 3, 89),  # lost its end
        (LogSpan(0, 95, 90), 3, 89),  # lost its end, and some has come
        (LogSpan(0, 200, 90), 3, 89),  # lost its end, and more has come than was lost
    ],
)
def test_a_checkpoint_is_kept_if_and_only_if_the_log_goes_on_from_it(span: LogSpan, epoch: int, offset: int) -> None:
    """In another log, what was appended later begins the new epoch: nothing that was folded is folded again."""
    assert continued(CHECKPOINT, span) == CHECKPOINT._replace(epoch=epoch, offset=offset)


def test_a_checkpoint_without_a_record_behind_it_fits_every_log() -> None:
    for span in (LogSpan(0, 0, None), LogSpan(0, 9, 0), LogSpan(5, 9, 5)):
        assert continued(NO_CHECKPOINT, span) == NO_CHECKPOINT


def test_a_checkpoint_reached_without_folding_anything_is_given_up_when_the_log_is_shorter() -> None:
    """Everything before it was deleted by age, unread."""
    checkpoint = Checkpoint(0, 99, 0.0)
    assert continued(checkpoint, LogSpan(100, 120, 100)) == checkpoint
    assert continued(checkpoint, LogSpan(0, 7, 0)) == Checkpoint(1, -1, 0.0)


class Log:
    """A log that may change between two questions, and whose answers may wait."""

    def __init__(self, *spans: LogSpan) -> None:
        self.answers = list(spans)
        self.first_committed = 0
        self.sought: list[tuple[int, int]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def spans(self, checkpoints: Mapping[int, Checkpoint]) -> dict[int, LogSpan]:
        await self.may_answer.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return dict.fromkeys(checkpoints, answer)

    def committed(self, partition: int) -> int:
        return self.first_committed

    async def seek(self, partition: int, offset: int) -> None:
        self.sought.append((partition, offset))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SURE_AFTER_S", 0.0)


def owner(table: HourlyTable, log: Log, checkpoint: Checkpoint = CHECKPOINT) -> Partitions:
    """A worker that owns partition 1, of which it has one row of one value at a place."""
    partitions = Partitions(table, FoldLimits(), log, Telemetry())
    partitions.assign({1})
    row_key = rows.hour_key(HOUR, b"k")
    fold = Partitions(table, FoldLimits()).of(1).fold
    fold.checkpoint = checkpoint._replace(offset=-1)
    fold.apply(checkpoint.offset, NOW_MS, [Chunk(b"k", HOUR, struct.pack("<d", 1.0))])
    (_, value), *_ = fold.take(0.0).rows
    table.store.write(
        table.changelog_tp(1), [(row_key, value), (rows.CHECKPOINT_KEY, rows.encode_checkpoint(checkpoint))], 5
    )
    return partitions


def truncations(partitions: Partitions) -> float:
    return value_of(partitions.telemetry.log_truncated)


async def test_a_log_that_goes_on_changes_nothing(table: Any) -> None:
    partitions = owner(table, log := Log(LogSpan(0, 140, 101)))
    await partitions.compare()
    assert partitions.checkpoints == {1: CHECKPOINT}
    assert partitions.all_compared.is_set()
    assert log.sought == []
    assert truncations(partitions) == 0


async def test_another_log_begins_an_epoch_with_the_rows_kept_and_is_read_from_its_first_new_record(table: Any) -> None:
    partitions = owner(table, log := Log(LogSpan(0, 7, 0)))
    log.first_committed = 101
    await partitions.compare()
    fold = partitions.of(1).fold
    assert (fold.checkpoint.epoch, fold.offset) == (3, -1)
    assert log.sought == [(1, 0)]
    assert truncations(partitions) == 1
    fold.apply(0, NOW_MS, [Chunk(b"k", HOUR, struct.pack("<d", 2.0))])
    row = fold.find(b"k", HOUR)
    assert row is not None
    assert row.summary.sum == 3.0


async def test_what_is_committed_beyond_the_checkpoint_is_sought_back(table: Any) -> None:
    """Local state and changelog may be gone, or an epoch may have begun; Faust still reads from what it committed."""
    partitions = owner(table, log := Log(LogSpan(90, 140, 101)))
    log.first_committed = 120
    await partitions.compare()
    assert log.sought == [(1, 101)]


async def test_a_log_that_looks_cut_only_for_a_moment_begins_no_epoch(table: Any) -> None:
    """All of it would be counted twice."""
    partitions = owner(table, Log(LogSpan(0, 0, None), LogSpan(0, 101, None)))
    await partitions.compare()
    assert partitions.checkpoints == {}
    await partitions.compare()
    assert partitions.checkpoints == {1: CHECKPOINT}
    assert truncations(partitions) == 0


@pytest.mark.parametrize("moved", ["revoked", "assigned anew"])
async def test_an_answer_that_comes_after_a_rebalance_is_dropped(table: Any, moved: str) -> None:
    partitions = owner(table, log := Log(LogSpan(0, 7, 0)))
    log.may_answer.clear()
    comparing = asyncio.create_task(partitions.compare())
    await asyncio.sleep(0)
    if moved == "revoked":
        partitions.revoke()
    else:
        partitions.assign({1, 2})
    log.may_answer.set()
    await comparing
    assert partitions.checkpoints == {}
    assert log.sought == []
    assert partitions.all_compared.is_set() == (moved == "revoked")


async def test_a_rebalance_while_records_are_sought_drops_the_answer_too(table: Any) -> None:
    partitions = owner(table, log := Log(LogSpan(0, 7, 0)))
    log.first_committed = 101

    async def seek(partition: int, offset: int) -> None:
        partitions.assign({1})

    log.seek = seek  # type: ignore[method-assign]
    await partitions.compare()
    assert partitions.checkpoints == {}
    assert truncations(partitions) == 0


async def test_a_log_that_is_cut_under_a_running_worker_is_compared_again_and_read_from_there(table: Any) -> None:
    partitions = owner(table, log := Log(LogSpan(0, 101, None)))
    await partitions.compare()
    partitions.of(1)
    log.answers = [LogSpan(0, 95, 90)]
    partitions.doubt(1)
    assert not partitions.all_compared.is_set()
    assert partitions.active == {}
    await partitions.compare()
    assert partitions.of(1).fold.checkpoint.epoch == 3
    assert log.sought == [(1, 90)]


async def test_an_epoch_that_is_not_in_the_store_yet_is_not_forgotten_with_the_memory(table: Any) -> None:
    """As when the fold fails on a record and its memory is dropped."""
    partitions = owner(table, Log(LogSpan(0, 7, 0)))
    await partitions.compare()
    partitions.of(1)
    del partitions.active[1]
    assert partitions.of(1).fold.checkpoint.epoch == 3
