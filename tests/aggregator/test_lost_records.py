"""Records that were gone before they could be folded: every answer they may belong to says so, also after restarts."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from metrics_app import clocks as module
from metrics_app.aggregator import partitions as partitions_module
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fold import FoldLimits
from metrics_app.aggregator.origin import CopyOrigin
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.reader import TableReader
from metrics_app.aggregator.row import MOST_LOSSES, NO_CHECKPOINT, Checkpoint, with_loss
from metrics_app.aggregator.source_log import LogSpan
from metrics_app.errors import NoDataError
from metrics_app.holdings import ACTIVE, Loss, loss_of
from metrics_app.query.answer import counts, is_final
from metrics_app.query.question import Window
from metrics_app.query.reading import LongQuestions, Rows, WindowReading
from metrics_app.wire.chunk import Chunk
from tests.aggregator.test_source_log import Log
from tests.query.fakes import FakeReader, row

HOUR = 498_740
NOW_S = HOUR * 3600 + 1800.0
LIMITS = FoldLimits(retention_hours=24)


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clocks of this worker."""
    own = SimpleNamespace(s=NOW_S)
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: own.s, monotonic=lambda: own.s))
    monkeypatch.setattr(partitions_module, "SURE_AFTER_S", 0.0)
    return own


def owner(table: Any, checkpoint: Checkpoint = NO_CHECKPOINT, log: Log | None = None) -> Partitions:
    """Owns partition 1, which has been folded up to a place."""
    if checkpoint is not NO_CHECKPOINT:
        table.store.write(table.changelog_tp(1), [(rows.CHECKPOINT_KEY, rows.encode_checkpoint(checkpoint))], None)
    partitions = Partitions(table, LIMITS, log)
    partitions.assign({1})
    return partitions


def flush(partitions: Partitions) -> None:
    fold = partitions.of(1).fold
    flush = fold.take(partitions.of(1).as_of(NOW_S))
    stored = [*flush.rows, (rows.CHECKPOINT_KEY, rows.encode_checkpoint(flush.checkpoint))]
    partitions.table.store.write(partitions.table.changelog_tp(1), stored, None)
    fold.flushed(flush)


def chunk(hour: int) -> Chunk:
    return Chunk(b"checkout", hour, struct.pack("<d", 1.0))


def test_a_loss_is_noted_with_the_hours_it_may_have_held_and_is_there_after_a_restart(table):
    """Everything up to 10:00 is in; the next record that is left was appended at 13:00."""
    partitions = owner(table, Checkpoint(0, 9, NOW_S - 6 * 3600, 0, 0, 0))
    partitions.lose(1, earliest=17, until_s=NOW_S - 3 * 3600)
    loss = Loss(HOUR - 6 - 24, HOUR - 3 + 1, NOW_S - 6 * 3600, 7)
    assert (partitions.of(1).fold.offset, partitions.of(1).fold.losses) == (16, (loss,))
    flush(partitions)
    again = owner(table)
    assert again.of(1).fold.losses == (loss,)
    app: Any = SimpleNamespace(tables=SimpleNamespace(actives_ready=True), rebalancing=False)
    standby = TableReader(app, table, Partitions(table, LIMITS), SimpleNamespace(current={1}, progress={}))
    table.store.note_whole(1)
    table.store.matched(1, CopyOrigin("here", "topic"))
    assert standby.losses(1) == (loss,)


async def test_where_retention_has_left_nothing_the_loss_is_noted_on_taking_over(table):
    """No record will ever come to show it; it stood still for ever."""
    partitions = owner(table, Checkpoint(0, 9, NOW_S - 6 * 3600, 1, 0, 1), Log(LogSpan(30, 30, None)))
    await partitions.compare()
    fold = partitions.of(1).fold
    assert (fold.offset, [loss.records for loss in fold.losses]) == (29, [20])


async def test_a_log_that_was_made_anew_may_have_held_more_and_nobody_knows_how_much(table):
    partitions = owner(table, Checkpoint(0, 9, NOW_S - 3600, 1, 0, 1), Log(LogSpan(0, 5, 0)))
    await partitions.compare()
    assert partitions.of(1).fold.losses == (Loss(HOUR - 1, HOUR + 1, NOW_S - 3600, 0),)


async def told(losses: list[Loss], first: int, end: int, **recorded: Any) -> WindowReading:
    reader = FakeReader({(b"checkout", HOUR - 3): row(1.0, as_of=NOW_S, **recorded)}, ACTIVE)
    reader.lost = losses
    rows_of = Rows(reader, 0, b"checkout", LongQuestions(1.0))
    return await rows_of.read(Window(first, end, "hour"), range(first, end) if end - first > 1 else range(0))


LOST = Loss(HOUR - 4, HOUR - 2, NOW_S - 4 * 3600, 7)


@pytest.mark.parametrize(("first", "end"), [(HOUR - 3, HOUR - 2), (HOUR - 10, HOUR + 1)])
async def test_an_answer_that_may_lack_something_does_not_say_that_all_is_in(first, end):
    found = (await told([LOST], first, end)).whole
    assert counts(found) == {"missing": None, "lost_records": 7, "duplicates": 0, "late": 0}
    assert found.as_of == LOST.since
    assert not is_final(found, Window(first, end, "hour"))


async def test_an_answer_that_lacks_nothing_says_so():
    found = (await told([LOST._replace(first=HOUR - 2, end=HOUR)], HOUR - 3, HOUR - 2)).whole
    assert counts(found) == {"missing": 0, "lost_records": 0, "duplicates": 0, "late": 0}
    assert is_final(found, Window(HOUR - 3, HOUR - 2, "hour"))


async def test_where_nobody_knows_how_many_it_says_that():
    assert counts((await told([LOST._replace(records=0)], HOUR - 3, HOUR - 2)).whole)["lost_records"] is None


async def test_a_time_without_data_may_have_had_some():
    with pytest.raises(NoDataError, match="records that may have held values of it were deleted"):
        await told([LOST], HOUR - 4, HOUR - 3)
    with pytest.raises(NoDataError, match=r"\)$|Z$"):
        await told([LOST], HOUR + 4, HOUR + 5)


def test_many_losses_stay_bounded_and_none_is_forgotten():
    checkpoint = NO_CHECKPOINT
    for hour in range(3 * MOST_LOSSES):
        checkpoint = with_loss(checkpoint, Loss(hour, hour + 1, hour * 3600.0, 1))
    assert len(checkpoint.losses) == MOST_LOSSES
    whole = loss_of(rows.decode_checkpoint(rows.encode_checkpoint(checkpoint)).losses, 0, 3 * MOST_LOSSES)
    assert whole == Loss(0, 3 * MOST_LOSSES, 0.0, 3 * MOST_LOSSES)
    assert loss_of(checkpoint.losses, 3 * MOST_LOSSES, 4 * MOST_LOSSES) is None


def test_a_loss_while_clocks_differ_reaches_as_far_as_any_of_them(table, own):
    partitions = owner(table, Checkpoint(0, 9, NOW_S - 6 * 3600, 0, 0, 0))
    partitions.clocks.appended(1, int((NOW_S - 40 * 86_400) * 1000), partitions.clocks.now())
    partitions.lose(1, earliest=17, until_s=NOW_S - 40 * 86_400)
    assert partitions.of(1).fold.losses[0].end == HOUR + 1
