"""The stories: any order of deliveries, flushes, crashes, rebalances, late writes and compactions."""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from metrics_app.errors import FormatError
from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk
from tests.sim.trouble import ERRORS, NAMES
from tests.sim.worker import Disk, Worker
from tests.sim.world import World
from tests.wire import hostile

WORKERS = 3
PARTITIONS = 2
EXAMPLES_PER_DISK = 100  # RocksDB slows down under the traces of many wipes
SENDERS = [blake2b(b"sender %d" % n, digest_size=16).digest() for n in range(3)]
IDS = [blake2b(b"id %d" % n, digest_size=16).digest() for n in range(4)]

KEYS = [[b"a", b"b", b"c"], [b"d", b"f", b"g"]]  # of each partition

workers = st.integers(0, WORKERS - 1)
partitions = st.sampled_from([0, 0, 0, 1])
few = st.integers(1, 4)
# key, age in hours, number of values, fence (none, a sender, ids), where the fence begins
chunks = st.tuples(
    st.sampled_from([0, 0, 1, 2]), st.sampled_from([0, 0, 0, 0, 1, 2, 4, 5]), st.integers(1, 3),
    st.sampled_from(["", "", "sender", "request", "ids"]), st.integers(0, 5),
)  # fmt: skip
records = st.lists(st.lists(chunks, min_size=1, max_size=3), min_size=1, max_size=3)
Content = list[list[tuple[int, int, int, str, int]]]
LONGEST_RUN = 3  # records delivered at once
CRASHES = ["before write", "after write"]


class Disks:
    """The folders of all examples of a process."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._disks: list[Disk] = []
        self._examples = 0

    def take(self) -> list[Disk]:
        """A disk a worker and a spare one, empty or soon wiped."""
        if self._examples % EXAMPLES_PER_DISK == 0:
            self.drop()
            self._folder = Path(tempfile.mkdtemp(prefix="sim-"))
            self._disks = [Disk(self._folder / str(number), PARTITIONS) for number in range(WORKERS + 1)]
        self._examples += 1
        return self._disks

    def drop(self) -> None:
        """Closes and deletes."""
        for disk in self._disks:
            disk.reopen()
        self._disks, self._examples = [], 0
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None


def step(**given: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule whose every use is counted."""

    def decorate(does: Callable[..., None]) -> Any:
        @wraps(does)
        def counted(machine: Machine, **drawn: Any) -> None:
            machine.happened["steps"] += 1
            does(machine, **drawn)

        return rule(**given)(counted)

    return decorate


class Machine(RuleBasedStateMachine):
    """See tests/sim/test_simulation.py.

    Attributes:
        disks: shared by all examples.
        happened: how often each thing happened in all of them; "steps" is all of it.
    """

    disks: ClassVar[Disks] = Disks()
    happened: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self) -> None:
        self.world = self.new_world()
        self.value = 0.0

    def new_world(self) -> World:
        """What a story begins with."""
        return World(self.disks.take(), PARTITIONS, start_s=3597.0)

    def teardown(self) -> None:
        """Every story ends with the proof."""
        if not hasattr(self, "world"):
            return
        try:
            self.world.drain()
        finally:
            self.happened["compactions held back"] += self.world.held_back
            self.world.close()

    def _one(self, number: int, candidates: list[Worker]) -> Worker | None:
        return candidates[number % len(candidates)] if candidates else None

    def _up(self, number: int) -> Worker | None:
        return self._one(number, [worker for worker in self.world.workers if worker.state != "down"])

    def _owner(self, partition: int, number: int) -> Worker | None:
        """One of those who believe they own a partition."""
        return self._one(number, [worker for worker in self.world.workers if partition in worker.partitions.owned])

    # the samples topic

    @step(partition=partitions, content=records)
    def produce(self, partition: int, content: Content) -> None:
        self._produce(partition, content)

    def _produce(self, partition: int, content: Content) -> None:
        for one in content:
            self.world.produce(partition, record.encode([self._chunk(partition, *chunk) for chunk in one]))

    def _chunk(self, partition: int, key: int, age: int, count: int, fence: str, at: int) -> Chunk:
        values = [self.value + number for number in range(1, count + 1)]
        self.value += count
        chunk = Chunk(KEYS[partition][key], self.world.hour - age, struct.pack(f"<{count}d", *values))
        if fence == "sender":
            return chunk._replace(sender=SENDERS[at % len(SENDERS)], first=at)
        if fence == "request" and at < 3:  # an id for the chunk as a whole
            return chunk._replace(ids=IDS[at])
        if fence == "request":  # an id for values with places, of which these are some
            return chunk._replace(ids=IDS[at % 2], first=1 + int(values[0]) % 3)
        if fence == "ids":
            return chunk._replace(ids=b"".join(IDS[(at + number) % len(IDS)] for number in range(count)))
        return chunk

    @step(partition=partitions)
    def produce_garbage(self, partition: int) -> None:
        self.world.produce(partition, b"garbage")

    @step(partition=partitions, value=hostile.records)
    def produce_anything(self, partition: int, value: bytes) -> None:
        """A record with a valid checksum, be it good or bad; the model knows no histograms."""
        with suppress(FormatError):
            if any(chunk.histogram for chunk in record.decode(value)):
                return
        self.world.produce(partition, value)

    # delivery

    @step(partition=partitions, believer=workers, count=few)
    def deliver(self, partition: int, believer: int, count: int) -> None:
        worker = self._owner(partition, believer)
        for _ in range(count):
            if worker is None or not worker.deliver(partition, LONGEST_RUN):
                break

    @step(partition=partitions, believer=workers, count=few)
    def deliver_again(self, partition: int, believer: int, count: int) -> None:
        worker = self._owner(partition, believer)
        if worker is not None:
            worker.positions[partition] = max(0, worker.positions.get(partition, 0) - count)

    @step(partition=partitions, believer=workers, count=few)
    def skip(self, partition: int, believer: int, count: int) -> None:
        worker = self._owner(partition, believer)
        if worker is not None:
            end = len(self.world.samples[partition])
            worker.positions[partition] = min(end, worker.positions.get(partition, 0) + count)

    @step(partition=partitions, number=workers, back=few)
    def deliver_stale(self, partition: int, number: int, back: int) -> None:
        worker, offset = self._up(number), len(self.world.samples[partition]) - back
        if worker is not None and not worker.is_taking and offset >= 0:
            worker.take(partition, range(offset, offset + 1), worker.app.consumer_generation_id - 1)

    # flushing

    @step(number=workers)
    def flush(self, number: int) -> None:
        worker = self._up(number)
        if worker is not None:
            worker.flush()

    @step(partition=partitions, believer=workers, content=records, landed=st.integers(0, 6), acked=st.booleans(),
          checkpoint=st.booleans(), end=st.sampled_from(["crash", "timeout", "cancel", "hang", *CRASHES]))  # fmt: skip
    def cut_flush(
        self, partition: int, believer: int, content: Content, landed: int, acked: bool, checkpoint: bool, end: str
    ) -> None:
        """A flush of which some rows arrive, or all and the place, with acks or without, and then something happens."""
        worker = self._owner(partition, believer)
        if worker is None:
            return
        self._produce(partition, content)
        self._begin_flush(worker, partition)
        worker.link.land(landed, ack=acked)
        self.world.settle()
        if checkpoint or end in CRASHES:
            worker.crash_at = end if end in CRASHES else None
            for _ in range(2):  # the rows, then the places
                worker.link.land(len(worker.link.wire), ack=True)
                self.world.settle()
        if end == "crash":
            worker.crash()
        elif end == "cancel" and worker.flushing is not None:  # as at the end of the agent, who waits for it
            worker.flushing.cancel()
            self.world.settle()
        elif end == "timeout":
            self.world.pass_time(8.5)
            worker.link.mode = "fast"
            self.world.pass_time(0.6)

    def _begin_flush(self, worker: Worker, partition: int) -> None:
        worker.link.mode = "slow"
        while worker.deliver(partition, LONGEST_RUN):
            pass
        worker.flush()

    @step(name=st.sampled_from(NAMES), nth=st.integers(1, 6), error=st.sampled_from(sorted(ERRORS)))
    def go_wrong(self, name: str, nth: int, error: str) -> None:
        """The next worker that comes to that step meets an exception."""
        self.world.trouble.arm(name, nth, error)

    @step(partition=partitions, believer=workers, content=records, name=st.sampled_from(NAMES), nth=few,
          error=st.sampled_from(sorted(ERRORS)), stops=st.booleans())  # fmt: skip
    def flush_in_trouble(
        self, partition: int, believer: int, content: Content, name: str, nth: int, error: str, stops: bool
    ) -> None:
        """A flush of which a step raises; and then the worker is told to stop."""
        worker = self._owner(partition, believer)
        if worker is None or worker.is_flushing:
            return
        self._produce(partition, content)
        raised = len(self.world.trouble.raised)
        self.world.trouble.arm(name, nth, error)
        while worker.deliver(partition, LONGEST_RUN):
            pass
        worker.flush()
        self.happened["exceptions"] += len(self.world.trouble.raised) - raised
        if stops and worker.state != "down":
            worker.stop()

    @step(number=workers)
    def stop(self, number: int) -> None:
        worker = self._up(number)
        if worker is not None:
            worker.stop()

    @step(number=workers, count=few, ack=st.booleans())
    def broker_takes(self, number: int, count: int, ack: bool) -> None:
        worker = self._up(number)
        if worker is not None:
            worker.link.land(count, ack=ack)
            self.world.settle()

    @step(number=workers, mode=st.sampled_from(["fast", "slow", "down"]))
    def set_link(self, number: int, mode: str) -> None:
        self.world.workers[number].link.mode = mode

    @step(number=workers, count=few)
    def late_write(self, number: int, count: int) -> None:
        """What a producer left behind when it was given up, or its process ended, arrives at the broker."""
        worker = self._one(number, [worker for worker in self.world.workers if worker.link.lost])
        if worker is not None:
            worker.link.land_lost(count)

    # the group

    @step(number=workers)
    def crash(self, number: int) -> None:
        worker = self._up(number)
        if worker is not None:
            worker.crash()

    @step(number=workers, wipe=st.booleans(), reopen=st.sampled_from([False, False, False, True]))
    def restart(self, number: int, wipe: bool, reopen: bool) -> None:
        worker = self._one(number, [worker for worker in self.world.workers if worker.state == "down"])
        if worker is not None:
            if wipe:
                worker.disk.wipe()
            if reopen:
                worker.disk.reopen()
            worker.start()

    @step(owners=st.tuples(workers, workers), shift=st.integers(-2, 2))
    def rebalance(self, owners: tuple[int, int], shift: int) -> None:
        self.world.rebalance(list(owners), shift=shift)

    @step(owners=st.tuples(workers, workers), unaware=workers)
    def rebalance_without(self, owners: tuple[int, int], unaware: int) -> None:
        self.world.rebalance(list(owners), unaware=unaware)

    @step(partition=partitions, number=workers, content=records, how=st.sampled_from(["crash", "stop", "leave"]),
          landed=st.sampled_from([0, 0, 1, 3]), folded=st.sampled_from([1, 0, 1, 2, 4]),
          late=st.sampled_from([1, 0, 2, 4]), is_first=st.booleans(), ends=st.booleans())  # fmt: skip
    def take_over(self, partition: int, number: int, content: Content, how: str, landed: int, folded: int, late: int,
                  is_first: bool, ends: bool) -> None:  # fmt: skip
        """A partition moves in the middle of a flush; some of it arrives while its next owner folds a little."""
        before = self._owner(partition, number)
        if before is None:
            return
        self._begin_flush(before, partition)
        self._produce(partition, content)
        before.link.land(landed, ack=True)
        self.world.settle()
        if how == "crash":
            before.crash()
        unaware = self.world.workers.index(before) if how == "stop" else None
        self.world.rebalance([owner + 1 + number % 2 for owner in self.world.owners], unaware=unaware)
        owner = self.world.workers[self.world.owners[partition]]
        if owner.state == "down":
            return
        owner.link.mode = "fast"
        for is_owner in (is_first, not is_first):
            if is_owner:
                while folded and owner.deliver(partition):
                    folded -= 1
                owner.flush()
            elif before is not owner:
                before.link.land(late, ack=how == "stop")
                before.link.land_lost(late)
                self.world.settle()
        if ends:
            owner.crash()

    @step(number=workers)
    def notice(self, number: int) -> None:
        worker = self._one(number, [worker for worker in self.world.workers if worker.state == "zombie"])
        if worker is not None:
            self.world.notice(worker)

    @step(partition=partitions, number=workers, count=st.sampled_from([1, 3, 1000]))
    def standby_reads(self, partition: int, number: int, count: int) -> None:
        worker = self.world.workers[number]
        if worker.state == "up" and partition not in worker.partitions.owned:
            worker.read_changelog(partition, count)

    # time

    @step(seconds=st.sampled_from([0.6, 2.5, 8.5, 20.0, 1800.0, 3600.0, 3 * 3600.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @step(seconds=st.sampled_from([0.0, 0.0, -1.0, 1.0, -90.0, 90.0]))
    def set_brokers_clock(self, seconds: float) -> None:
        if not self.world.is_disputed:
            self.world.broker_ahead_s = seconds

    @step(hours=st.integers(0, 2))
    def compact(self, hours: int) -> None:
        self.world.pass_time(hours * 3600.0 + 60)
        self.world.compact()

    @step()
    def prove(self) -> None:
        self.world.drain()
