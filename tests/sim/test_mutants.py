"""The simulation finds what it is for: each of these mistakes ends badly one story told by hand, and a random one."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

import pytest
from faust.types import TP
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from metrics_app.aggregator import agent, deduplication
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.active import FlushPart
from metrics_app.aggregator.deduplication import RecordClaims, SeenIds
from metrics_app.aggregator.fencing import Acknowledged, Fence, Gap, Records
from metrics_app.aggregator.flush import Flush
from metrics_app.aggregator.flusher import Flusher
from metrics_app.aggregator.fold import Arrival, PartitionFold
from metrics_app.aggregator.origin import Reached
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.ranges import Ranges
from metrics_app.aggregator.row import NO_CHECKPOINT, NO_STAMP, Version
from metrics_app.aggregator.tally import Tally
from metrics_app.wire.chunk import Chunk
from tests.sim import stories
from tests.sim.machine import Machine
from tests.sim.test_simulation import QUICK

SEARCH = settings(QUICK, max_examples=800, phases=[Phase.generate], report_multiple_bugs=False)
Patch = Callable[[pytest.MonkeyPatch], None]


def stamp_lowered_on_replay(patch: pytest.MonkeyPatch) -> None:
    fold_chunk = PartitionFold._fold_chunk

    def mutant(fold: PartitionFold, row_key: bytes, chunk: Chunk, record: Arrival, tally: Tally) -> None:
        stamp = fold.cache[row_key].stamp
        fold_chunk(fold, row_key, chunk, record, tally)
        if stamp >= record.offset:
            fold.cache[row_key].stamp = record.offset

    patch.setattr(PartitionFold, "_fold_chunk", mutant)


def checkpoint_written_before_the_rows(patch: pytest.MonkeyPatch) -> None:
    replicate = Flusher._replicate

    async def mutant(flusher: Flusher, taken: list[FlushPart]) -> dict[int, list[Acknowledged]]:
        checkpoints = {
            one.active.number: [(rows.CHECKPOINT_KEY, rows.encode_checkpoint(one.flush.checkpoint))] for one in taken
        }
        await flusher._send(await flusher._connected(), checkpoints)
        return await replicate(flusher, taken)

    patch.setattr(Flusher, "_replicate", mutant)


def merged_without_comparing_the_stamp(patch: pytest.MonkeyPatch) -> None:
    fold_chunk = PartitionFold._fold_chunk

    def mutant(fold: PartitionFold, row_key: bytes, chunk: Chunk, record: Arrival, tally: Tally) -> None:
        fold.cache[row_key].stamp = NO_STAMP
        fold_chunk(fold, row_key, chunk, record, tally)

    patch.setattr(PartitionFold, "_fold_chunk", mutant)


def recovered_without_comparing_the_stamp(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("metrics_app.aggregator.store.version_of", lambda _value: Version(0, 0))


def ids_written_before_the_rows_and_taken_for_seen(patch: pytest.MonkeyPatch) -> None:
    """Each alone does no harm: the rows of a partition arrive in order, and an id is not seen in its own record."""
    in_order: Callable[[Flush], list[tuple[bytes, bytes]]] = vars(Flush)["rows"].fget

    def ids_first(flush: Flush) -> list[tuple[bytes, bytes]]:
        return sorted(in_order(flush), key=lambda written: written[0][0] != rows.IDS)

    claimed = SeenIds.claimed

    def mutant(seen: SeenIds, ids: AbstractSet[bytes], epoch: int, offset: int, from_hour: int) -> dict[bytes, Ranges]:
        return claimed(seen, ids, epoch, offset + 1, from_hour)

    patch.setattr(Flush, "rows", property(ids_first))
    patch.setattr(SeenIds, "claimed", mutant)


def ids_of_a_replayed_row_not_noted(patch: pytest.MonkeyPatch) -> None:
    fold_chunk = PartitionFold._fold_chunk

    def mutant(fold: PartitionFold, row_key: bytes, chunk: Chunk, record: Arrival, tally: Tally) -> None:
        if fold.cache[row_key].stamp < record.offset:
            fold_chunk(fold, row_key, chunk, record, tally)

    patch.setattr(PartitionFold, "_fold_chunk", mutant)


def the_later_sight_of_an_id_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deduplication, "_joined", lambda entry, _news: entry)


def an_id_stands_for_whatever_comes_under_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        RecordClaims, "_claim_one", lambda claims, chunk, id_: claims._claim_each([id_]) and [(0, chunk.count)]
    )


def memory_kept_over_a_rebalance(patch: pytest.MonkeyPatch) -> None:
    def assign(partitions: Partitions, assigned: set[int]) -> None:
        partitions.owned = frozenset(assigned)
        partitions.checkpoints = dict.fromkeys(assigned, NO_CHECKPOINT)
        partitions.all_compared.set()

    patch.setattr(Partitions, "assign", assign)


def records_of_others_passed_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fence, "reached", lambda _fence, sent: Reached(max(span.stop for span in sent) - 1, 0))


def a_gap_claimed_before_our_checkpoint_has_passed_it(patch: pytest.MonkeyPatch) -> None:
    close = Fence.close

    def mutant(fence: Fence, gap: Gap, records: Records, _checkpoint: Version) -> None:
        close(fence, gap, records, Version(1 << 62, 1 << 62))

    patch.setattr(Fence, "close", mutant)


def committed_before_the_flush(patch: pytest.MonkeyPatch) -> None:
    def mutant(partitions: Partitions, partition: int) -> int | None:
        active = partitions.active.get(partition)
        return None if active is None else active.fold.offset + 1

    patch.setattr(Partitions, "committable", mutant)


def written_locally_before_the_changelog(patch: pytest.MonkeyPatch) -> None:
    replicate = Flusher._replicate

    async def mutant(flusher: Flusher, taken: list[FlushPart]) -> dict[int, list[Acknowledged]]:
        for one in taken:
            checkpoint = (rows.CHECKPOINT_KEY, rows.encode_checkpoint(one.flush.checkpoint))
            flusher.table.store.write(one.active.fence.tp, [*one.flush.rows, checkpoint], None)
        return await replicate(flusher, taken)

    patch.setattr(Flusher, "_replicate", mutant)


def a_flush_that_raised_is_followed_by_another(patch: pytest.MonkeyPatch) -> None:
    async def mutant(flusher: Flusher) -> None:
        async with flusher._one_at_a_time:
            with suppress(Exception):
                await flusher._flush()

    patch.setattr(Flusher, "flush", mutant)


def a_disk_that_cannot_be_read_is_blamed_on_the_record(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agent, "TROUBLE", ())
    patch.setattr(agent, "TRIES", 1)


def half_of_a_record_is_kept(patch: pytest.MonkeyPatch) -> None:
    """The record is folded again on top of it."""

    async def mutant(folding: agent.Folding, tp: TP, error: BaseException) -> None:
        """Nothing is dropped."""

    apply = PartitionFold.apply

    def applied(*given: Any) -> Tally:
        try:
            return apply(*given)
        except OSError:
            return Tally()

    patch.setattr(agent.Folding, "_begin_again", mutant)
    patch.setattr(PartitionFold, "apply", applied)


# who finds it, whatever the random stories of the day are
FOUND_BY: dict[Patch, stories.Story] = {
    stamp_lowered_on_replay: stories.rows_arrived_and_no_checkpoint,
    checkpoint_written_before_the_rows: stories.rows_arrived_and_no_checkpoint,
    merged_without_comparing_the_stamp: stories.rows_arrived_and_no_checkpoint,
    recovered_without_comparing_the_stamp: stories.a_stale_row_behind_a_newer_checkpoint,
    ids_written_before_the_rows_and_taken_for_seen: stories.half_of_the_rows_arrived,
    ids_of_a_replayed_row_not_noted: stories.half_of_the_rows_arrived,
    the_later_sight_of_an_id_is_forgotten: stories.an_id_for_several_checkpoints,
    an_id_stands_for_whatever_comes_under_it: stories.an_id_for_several_checkpoints,
    memory_kept_over_a_rebalance: stories.back_to_who_had_it_before,
    records_of_others_passed_over: stories.a_newer_row_of_another,
    a_gap_claimed_before_our_checkpoint_has_passed_it: stories.a_newer_row_of_another,
    committed_before_the_flush: stories.back_to_who_had_it_before,
    written_locally_before_the_changelog: stories.the_same_on_the_disk_that_was_there,
    a_flush_that_raised_is_followed_by_another: stories.a_flush_raises,
    a_disk_that_cannot_be_read_is_blamed_on_the_record: stories.nothing_can_be_read,
    half_of_a_record_is_kept: stories.a_row_cannot_be_read,
}
HARM = r"instead of|goes back|committed|: checkpoint|forgotten|no progress|put aside"


@pytest.mark.parametrize("story", dict.fromkeys(FOUND_BY.values()), ids=lambda story: story.__name__)
def test_the_story_ends_well_without_a_mutant(world, story):
    story(world)


@pytest.mark.parametrize(("mutant", "story"), FOUND_BY.items(), ids=lambda either: either.__name__)
def test_a_story_finds(world, mutant, story, monkeypatch):
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match=HARM):
        story(world)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", FOUND_BY, ids=lambda mutant: mutant.__name__)
def test_random_stories_find(mutant, monkeypatch):
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match=HARM):
        run_state_machine_as_test(Machine, settings=SEARCH)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_same_stories_end_well_without_a_mutant():
    run_state_machine_as_test(Machine, settings=SEARCH)
