"""Stories told by hand, each about one thing that must not go wrong; `world.drain` at its end proves that."""

from __future__ import annotations

import struct
from collections.abc import Callable

from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk
from tests.sim.world import World

Story = Callable[[World], None]
ID, OTHER_ID = b"i" * 16, b"j" * 16


def produce(
    world: World, *values: float, key: bytes = b"a", age: int = 0, ids: bytes = b"", first: int = 0, partition: int = 0
) -> None:
    """One record a value."""
    for value in values:
        chunk = Chunk(key, world.hour - age, struct.pack("<d", value), ids=ids, first=first)
        world.produce(partition, record.encode([chunk]))


def leave_a_flush_on_the_wire(world: World, rows_landed: int = 0) -> None:
    """Worker 0 folds everything, and crashes in its flush, of which some batches have landed."""
    owner = world.workers[0]
    owner.link.mode = "slow"
    while owner.deliver(0):
        pass
    owner.flush()
    owner.link.land(rows_landed, ack=True)
    world.settle()
    owner.crash()


def fold_and_flush(world: World, number: int, records: int = 1000) -> None:
    """A worker folds some records and flushes."""
    owner = world.workers[number]
    while records and owner.deliver(0):
        records -= 1
    owner.flush()


def move(world: World, number: int) -> None:
    """Everything is assigned to one worker."""
    world.rebalance([number, number])


def rows_arrived_and_no_checkpoint(world: World) -> None:
    """What the next owner folds again is in the rows already."""
    produce(world, 1, 2)
    leave_a_flush_on_the_wire(world, rows_landed=1)
    move(world, 1)
    world.drain()


def the_same_on_the_disk_that_was_there(world: World) -> None:
    """A process begins anew on what it had written; nothing of it had arrived in the changelog."""
    produce(world, 1, 2)
    leave_a_flush_on_the_wire(world)
    world.workers[0].start()
    move(world, 0)
    world.drain()


def half_of_the_rows_arrived(world: World) -> None:
    """Two rows and the ids of two records go out in two batches; one arrives, and the requests come again."""
    produce(world, 1, key=b"a", ids=ID)
    produce(world, 2, key=b"b", ids=OTHER_ID)
    leave_a_flush_on_the_wire(world, rows_landed=1)
    move(world, 1)
    fold_and_flush(world, 1)
    produce(world, 1, key=b"a", ids=ID)
    produce(world, 2, key=b"b", ids=OTHER_ID)
    world.drain()


def an_id_for_several_checkpoints(world: World) -> None:
    """Values of one request come in two records, and both come again."""
    for _ in range(2):
        for checkpoint in (1, 2):
            produce(world, checkpoint, ids=ID, first=checkpoint)
            fold_and_flush(world, 0)
    world.drain()


def a_stale_row_behind_a_newer_checkpoint(world: World) -> None:
    """A late write arrives behind its successor's place, and the partition moves before the successor has seen it."""
    produce(world, 1)
    leave_a_flush_on_the_wire(world)
    produce(world, 2)
    move(world, 1)
    fold_and_flush(world, 1)
    world.workers[0].link.land_lost(1)
    move(world, 2)
    world.drain()


def a_newer_row_of_another(world: World) -> None:
    """A late write knows more than its successor, who becomes a standby before it has folded as much."""
    produce(world, 1, 2)
    leave_a_flush_on_the_wire(world)
    move(world, 1)
    fold_and_flush(world, 1, records=1)
    world.workers[0].link.land_lost(1)
    world.pass_time(6)  # the interval of an idle place
    world.workers[1].flush()
    world.settle()
    move(world, 2)
    world.drain()


def back_to_who_had_it_before(world: World) -> None:
    """Rows changed and not flushed when a partition went away are others' when it comes back."""
    produce(world, 1)
    world.workers[0].deliver(0)
    move(world, 1)
    produce(world, 2)
    fold_and_flush(world, 1)
    move(world, 0)
    world.workers[0].flush()
    world.drain()


def a_row_cannot_be_read(world: World) -> None:
    """The second row of a record cannot be changed for a moment; the first one was."""
    values = struct.pack("<d", 1.0)
    world.produce(0, record.encode([Chunk(key, world.hour, values) for key in (b"a", b"b")]))
    world.workers[0].partitions.of(0)  # what taking a partition over reads is read
    world.trouble.arm("_fold_chunk", 3, "disk")  # each chunk is passed twice
    world.workers[0].deliver(0)
    world.pass_time(6)
    fold_and_flush(world, 0)
    world.drain()


def nothing_can_be_read(world: World) -> None:
    """The first row of a record cannot be read for a moment."""
    produce(world, 1)
    world.workers[0].partitions.of(0)
    world.trouble.arm("read_all", 1, "rocksdb")
    world.workers[0].deliver(0)
    world.pass_time(6)
    world.drain()


def a_flush_raises(world: World) -> None:
    """A mistake in the middle of a flush, and a worker that is told to stop then, if it still runs."""
    meet(world, "take", "mistake")


def meet(world: World, step: str, error: str) -> None:
    """Flushes and take-overs of which a step raises, and a worker that is told to stop then, if it still runs."""
    for nth in (1, 2, 3):
        for partition, key in enumerate([b"a", b"d"]):
            produce(world, 1, 2, key=key, partition=partition, ids=(b"%d" % nth) * 16)
        owner = world.workers[world.owners[0]]
        world.trouble.arm(step, nth, error)
        for partition in (0, 1):
            while owner.deliver(partition):
                pass
        owner.flush()
        if owner.state != "down":
            owner.stop()
        owner.start()
        world.rebalance([(number + 1) % 3 for number in world.owners])
        world.drain()
