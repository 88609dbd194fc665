"""A standby follows its owner, takes over from it, and lets old hours go, whatever its own clock says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from metrics_app.aggregator.row import hour_key
from tests.sim.machine import PARTITIONS, Machine
from tests.sim.model import numbers_of
from tests.sim.stories import fold_and_flush, move, produce
from tests.sim.test_clocks import DAY_S, HOUR_S, JUMPS, LIMITS
from tests.sim.world import World


@pytest.fixture
def dated() -> Iterator[World]:
    """A world with the retention and the tolerance of the product, one hour after the epoch."""
    world = World(Machine.disks.take(), PARTITIONS, start_s=HOUR_S, limits=LIMITS)
    yield world
    world.close()


def follow(world: World) -> None:
    """Worker 0 folds and flushes what there is; worker 1 reads it, and looks for hours to drop."""
    fold_and_flush(world, 0)
    world.workers[1].read_changelog(0)
    world.workers[1].partitions.expire_standbys()


def test_a_standby_that_follows_is_promoted_and_answers_as_the_owner_did(world: World) -> None:
    move(world, 0)
    for value in (1.0, 2.0, 4.0):
        produce(world, value)
        follow(world)
    before = numbers_of(world.workers[0].partitions.of(0).fold.find(b"a", world.hour))
    assert before is not None
    world.workers[0].crash()
    move(world, 1)
    assert numbers_of(world.workers[1].partitions.of(0).fold.find(b"a", world.hour)) == before
    produce(world, 8.0)
    world.drain()


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_standby_drops_an_hour_when_it_is_beyond_retention_and_not_when_its_clock_jumps(
    dated: World, jump_s: float
) -> None:
    move(dated, 0)
    standby, old = dated.workers[1], hour_key(dated.hour, b"a")
    produce(dated, 1.0)
    follow(dated)
    standby.ahead_s = jump_s
    for _ in range(2):
        dated.pass_time(HOUR_S)
        produce(dated, 2.0)
        follow(dated)
        assert standby.table.store.read(0, old) is not None
    standby.ahead_s = 0.0
    for _ in range(2):  # the first record after so long shows the time, the second one confirms it
        dated.pass_time(16 * DAY_S)
        produce(dated, 4.0)
        follow(dated)
    dated.workers[0].flush()
    follow(dated)
    assert standby.table.store.read(0, old) is None
    dated.drain()
