"""Single stories that matter, told by hand."""

from __future__ import annotations

import pytest

from tests.sim.stories import leave_a_flush_on_the_wire, meet, produce
from tests.sim.trouble import ERRORS, NAMES
from tests.sim.world import COMPACTION_LAG_S, World


def test_an_owner_that_becomes_a_standby_reads_what_others_wrote_while_it_was_the_owner(world):
    """The late row is newer than the owner's own; who jumps over it lacks offset 1 for ever."""
    produce(world, 1, 2)
    leave_a_flush_on_the_wire(world)
    world.rebalance([1, 1])
    world.workers[0].link.land_lost(1)
    world.workers[1].deliver(0)
    world.workers[1].flush()
    world.rebalance([2, 2])
    world.drain()


def test_what_a_flush_expires_is_what_had_expired_at_its_end(world):
    """Records behind the flush move the clock of the log; after a crash they are not there yet."""
    produce(world, 1, ids=b"i" * 16)
    world.workers[0].deliver(0)
    world.workers[0].flush()
    world.loop.now_s += 3 * 3600 - 2
    produce(world, 2, ids=b"j" * 16)
    owner = world.workers[0]
    owner.deliver(0)
    owner.link.mode = "slow"
    owner.flush()
    produce(world, 4, ids=b"i" * 16)
    world.loop.now_s += 4
    produce(world, 8)
    while owner.deliver(0):
        pass
    for _ in range(3):
        owner.link.land(9, ack=True)
        world.settle()
    owner.crash()
    owner.start()
    world.rebalance([0, 0])
    world.drain()


def test_what_a_cancelled_flush_had_taken_goes_out_with_the_next_one(world):
    """The agent waits for a flush when too many rows have changed, and is cancelled when the worker stops."""
    produce(world, 1)
    owner = world.workers[0]
    owner.deliver(0)
    owner.link.mode = "slow"
    owner.flush()
    assert owner.flushing is not None
    owner.flushing.cancel()
    world.settle()
    owner.link.give_up(until_s=0.0)
    world.drain()


def leave_a_stale_row_last(world: World) -> None:
    """The last owner knows better, but of the two states of its row in the changelog the older one is behind."""
    produce(world, 1, 2)
    leave_a_flush_on_the_wire(world)
    world.rebalance([1, 1])
    world.workers[0].link.land_lost(1)
    world.workers[1].deliver(0)
    world.workers[1].flush()
    world.rebalance([2, 2])
    world.drain()


def test_a_stale_row_that_was_written_last_is_written_over_when_its_hour_has_closed(world):
    leave_a_stale_row_last(world)
    world.pass_time(COMPACTION_LAG_S + 61)
    produce(world, 4, key=b"b")
    world.drain()
    world.compact()
    assert world.held_back == 0


def test_a_stale_row_is_written_over_also_in_a_partition_that_gets_no_more_records(world):
    leave_a_stale_row_last(world)
    world.pass_time(COMPACTION_LAG_S + 61)
    world.compact()
    assert world.held_back == 0


def test_a_stale_row_is_written_over_also_when_its_hour_had_closed_before(world):
    """As when late values come in, or when a backlog is folded."""
    world.pass_time(3600 + 61)
    world.drain()
    produce(world, 1, 2, age=1)
    leave_a_flush_on_the_wire(world)
    world.rebalance([1, 1])
    world.workers[0].link.land_lost(1)
    world.workers[1].deliver(0)
    world.workers[1].flush()
    world.rebalance([2, 2])
    world.drain()
    for _ in range(3):
        world.pass_time(COMPACTION_LAG_S)
        produce(world, 4, key=b"b")
        world.drain()
    world.compact()
    assert world.held_back == 0


@pytest.mark.parametrize("error", sorted(ERRORS))
@pytest.mark.parametrize("step", NAMES)
def test_a_step_that_raises_when_it_begins_or_when_it_has_ended_costs_nothing(world, step, error):
    meet(world, step, error)


@pytest.mark.parametrize("step", ["take", "_settle", "write"])
def test_a_flush_that_goes_on_after_an_exception_is_found(world, step, monkeypatch):
    """What the story above is for."""
    for worker in world.workers:
        monkeypatch.setattr(worker.flusher, "give_up", lambda why: None)
    with pytest.raises(AssertionError, match=r"instead of|: checkpoint|forgotten"):
        meet(world, step, "mistake")
