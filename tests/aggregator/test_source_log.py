"""Whether a place still belongs to the log: the rule, and a worker that does nothing before it is known."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from typing import Any

import pytest

from metrics_app.aggregator import partitions as module
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fold import HOUR_MS, Limits
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.row import NOWHERE, Place
from metrics_app.aggregator.source_log import Span, continued
from metrics_app.aggregator.table import HourlyTable
from metrics_app.telemetry import Telemetry
from metrics_app.wire.chunk import Chunk

HOUR = 498_740
NOW_MS = HOUR * HOUR_MS + 1000
PLACE = Place(epoch=2, offset=100, as_of=7.0, log_ms=NOW_MS, sealed=HOUR)


@pytest.mark.parametrize(
    ("span", "epoch", "offset"),
    [
        (Span(0, 101, None), 2, 100),  # nothing has come
        (Span(40, 140, 101), 2, 100),  # some has
        (Span(101, 101, None), 2, 100),  # all was deleted by age
        (Span(120, 140, 120), 2, 100),  # and more than was folded: that is a loss, not another log
        (Span(0, 0, None), 3, -1),  # made anew, empty
        (Span(0, 7, 0), 3, -1),  # made anew
        (Span(0, 500, 0), 3, -1),  # made anew and grown beyond
        (Span(0, 90, None), 3, 89),  # lost its end
        (Span(0, 95, 90), 3, 89),  # lost its end, and some has come
        (Span(0, 200, 90), 3, 89),  # lost its end, and more has come than was lost
    ],
)
def test_a_place_is_kept_if_and_only_if_the_log_goes_on_from_it(span: Span, epoch: int, offset: int) -> None:
    """In another log, what was appended later begins the new epoch: nothing that was folded is folded again."""
    assert continued(PLACE, span) == PLACE._replace(epoch=epoch, offset=offset)


def test_a_place_without_a_record_behind_it_fits_every_log() -> None:
    for span in (Span(0, 0, None), Span(0, 9, 0), Span(5, 9, 5)):
        assert continued(NOWHERE, span) == NOWHERE


def test_a_place_reached_without_folding_anything_is_given_up_when_the_log_is_shorter() -> None:
    """Everything before it was deleted by age, unread."""
    place = Place(0, 99, 0.0)
    assert continued(place, Span(100, 120, 100)) == place
    assert continued(place, Span(0, 7, 0)) == Place(1, -1, 0.0)


class Log:
    """A log that may change between two questions, and whose answers may wait."""

    def __init__(self, *spans: Span) -> None:
        self.answers = list(spans)
        self.first_committed = 0
        self.sought: list[tuple[int, int]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def spans(self, places: Mapping[int, Place]) -> dict[int, Span]:
        await self.may_answer.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return dict.fromkeys(places, answer)

    def committed(self, partition: int) -> int:
        return self.first_committed

    async def seek(self, partition: int, offset: int) -> None:
        self.sought.append((partition, offset))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SURE_AFTER_S", 0.0)


def owner(table: HourlyTable, log: Log, place: Place = PLACE) -> Partitions:
    """A worker that owns partition 1, of which it has one row of one value at a place."""
    partitions = Partitions(table, Limits(), log, Telemetry())
    partitions.assign({1})
    row_key = rows.hour_key(HOUR, b"k")
    fold = Partitions(table, Limits()).of(1).fold
    fold.place = place._replace(offset=-1)
    fold.apply(place.offset, NOW_MS, [Chunk(b"k", HOUR, struct.pack("<d", 1.0))])
    (_, value), *_ = fold.take(0.0).rows
    table.store.write(table.changelog_tp(1), [(row_key, value), (rows.PLACE_KEY, rows.encode_place(place))], 5)
    return partitions


def truncations(partitions: Partitions) -> float:
    return float(partitions.telemetry.log_truncated._value.get())


async def test_a_log_that_goes_on_changes_nothing(table: Any) -> None:
    partitions = owner(table, log := Log(Span(0, 140, 101)))
    await partitions.compare()
    assert partitions.places == {1: PLACE}
    assert partitions.all_compared.is_set()
    assert log.sought == []
    assert truncations(partitions) == 0


async def test_another_log_begins_an_epoch_with_the_rows_kept_and_is_read_from_its_first_new_record(table: Any) -> None:
    partitions = owner(table, log := Log(Span(0, 7, 0)))
    log.first_committed = 101
    await partitions.compare()
    fold = partitions.of(1).fold
    assert (fold.place.epoch, fold.offset) == (3, -1)
    assert log.sought == [(1, 0)]
    assert truncations(partitions) == 1
    fold.apply(0, NOW_MS, [Chunk(b"k", HOUR, struct.pack("<d", 2.0))])
    row = fold.find(b"k", HOUR)
    assert row is not None
    assert row.summary.sum == 3.0


async def test_what_is_committed_beyond_the_place_is_sought_back(table: Any) -> None:
    """Local state and changelog may be gone, or an epoch may have begun; Faust still reads from what it committed."""
    partitions = owner(table, log := Log(Span(90, 140, 101)))
    log.first_committed = 120
    await partitions.compare()
    assert log.sought == [(1, 101)]


async def test_a_log_that_looks_cut_only_for_a_moment_begins_no_epoch(table: Any) -> None:
    """All of it would be counted twice."""
    partitions = owner(table, Log(Span(0, 0, None), Span(0, 101, None)))
    await partitions.compare()
    assert partitions.places == {}
    await partitions.compare()
    assert partitions.places == {1: PLACE}
    assert truncations(partitions) == 0


@pytest.mark.parametrize("moved", ["revoked", "assigned anew"])
async def test_an_answer_that_comes_after_a_rebalance_is_dropped(table: Any, moved: str) -> None:
    partitions = owner(table, log := Log(Span(0, 7, 0)))
    log.may_answer.clear()
    comparing = asyncio.create_task(partitions.compare())
    await asyncio.sleep(0)
    if moved == "revoked":
        partitions.revoke()
    else:
        partitions.assign({1, 2})
    log.may_answer.set()
    await comparing
    assert partitions.places == {}
    assert log.sought == []
    assert partitions.all_compared.is_set() == (moved == "revoked")


async def test_a_rebalance_while_records_are_sought_drops_the_answer_too(table: Any) -> None:
    partitions = owner(table, log := Log(Span(0, 7, 0)))
    log.first_committed = 101

    async def seek(partition: int, offset: int) -> None:
        partitions.assign({1})

    log.seek = seek  # type: ignore[method-assign]
    await partitions.compare()
    assert partitions.places == {}
    assert truncations(partitions) == 0


async def test_a_log_that_is_cut_under_a_running_worker_is_compared_again_and_read_from_there(table: Any) -> None:
    partitions = owner(table, log := Log(Span(0, 101, None)))
    await partitions.compare()
    partitions.of(1)
    log.answers = [Span(0, 95, 90)]
    partitions.doubt(1)
    assert not partitions.all_compared.is_set()
    assert partitions.active == {}
    await partitions.compare()
    assert partitions.of(1).fold.place.epoch == 3
    assert log.sought == [(1, 90)]


async def test_an_epoch_that_is_not_in_the_store_yet_is_not_forgotten_with_the_memory(table: Any) -> None:
    """As when the fold fails on a record and its memory is dropped."""
    partitions = owner(table, Log(Span(0, 7, 0)))
    await partitions.compare()
    partitions.of(1)
    del partitions.active[1]
    assert partitions.of(1).fold.place.epoch == 3
