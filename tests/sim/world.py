"""Everything a story plays in: logs, workers, group, clock; and the proof that every value was counted once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import SimpleNamespace
from unittest import mock

from faust.types import TP

from metrics_app import clocks
from metrics_app.aggregator import agent, flusher
from metrics_app.aggregator.fold import FoldLimits
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.ranges import WHOLE
from metrics_app.errors import FormatError
from metrics_app.wire import record
from tests.sim.clock import Clock, SimLoop
from tests.sim.link import LATE_S
from tests.sim.logs import Changelog, Sample
from tests.sim.model import Model, Numbers, numbers_of
from tests.sim.trouble import Trouble
from tests.sim.worker import DEAD, LIMITS, Disk, Worker

HOUR = 498_740
HOUR_S = 3600
Where = tuple[bytes, int]
COMPACTION_LAG_S = 3600.0  # min.compaction.lag.ms of the changelog


class World:
    """A group of workers over some partitions.

    Args:
        disks: one a worker; the last one is spare: fresh workers are built on it.
        partitions: number of partitions.
        start_s: seconds into the hour at which it begins.
        limits: of the fold. With a tolerance below an hour one clock may be wrong, and the model has the right one.

    Attributes:
        trouble: what is to be raised somewhere.
        broker_ahead_s: how far the broker's clock, which stamps the samples, is ahead of that of the workers.
    """

    def __init__(self, disks: list[Disk], partitions: int, start_s: float = 0.0, limits: FoldLimits = LIMITS) -> None:
        self.loop = SimLoop(HOUR * 3600.0 + start_s)
        self._patches = ExitStack()
        for module in (agent, clocks, flusher):
            self._patches.enter_context(mock.patch.object(module, "time", Clock(self.loop)))
        self.trouble = Trouble()
        self.trouble.install(self._patches)
        self.broker_ahead_s = 0.0
        self.limits, self.began_s = limits, self.loop.now_s
        self.is_disputed = limits.clock_tolerance_s < HOUR_S
        self.appended_s: list[list[float]] = [[] for _ in range(partitions)]
        self.samples: list[list[Sample]] = [[] for _ in range(partitions)]
        self.models = [Model(limits) for _ in range(partitions)]
        self.garbage: set[bytes] = set()
        self.dead: set[bytes] = set()
        self.committed = [0] * partitions
        self.generation = 0
        self.held_back = 0
        for disk in disks:
            disk.wipe()
        table = disks[0].table
        self.changelogs = [Changelog(table.changelog_tp(partition)) for partition in range(partitions)]
        self.owners = [0] * partitions
        self.workers = [Worker(self, disk) for disk in disks[:-1]]
        self.spare = disks[-1]
        self.rebalance([0] * partitions)

    def close(self) -> None:
        """Lets go of the event loop and the clock."""
        for worker in self.workers:
            worker.crash()
        self._patches.close()
        self.loop.close()

    @property
    def hour(self) -> int:
        """The hour it is."""
        return int(self.loop.now_s // 3600)

    @property
    def brokers_s(self) -> float:
        """What the broker's clock says."""
        return self.loop.now_s + self.broker_ahead_s

    @property
    def late_s(self) -> float:
        """Until when a record sent now may arrive."""
        return self.loop.now_s + LATE_S

    def settle(self) -> None:
        """Runs everything until it waits; processes that came to their end are ended."""
        self.loop.settle()
        for worker in self.workers:
            if worker.state != "down" and not worker.check_tasks():
                worker.crash()
            self._commit(worker)

    def _commit(self, worker: Worker) -> None:
        """A worker commits at any time; before the offset there must be nothing that is not durable."""
        for partition, changelog in enumerate(self.changelogs):
            offset = worker.partitions.committable(partition)
            if offset is not None:
                assert offset <= changelog.durable + 1, f"offset {offset} committed, durable is {changelog.durable}"
                if worker.app.consumer_generation_id == self.generation:
                    self.committed[partition] = max(self.committed[partition], offset)

    def pass_time(self, seconds: float) -> None:
        """Deadlines pass, zombies find out, and what is late enough never arrives."""
        self.loop.now_s += seconds
        for worker in self.workers:
            worker.link.forget(self.loop.now_s)
            if worker.state == "zombie" and self.loop.now_s >= worker.zombie_until_s:
                self.notice(worker)
        self.settle()

    # logs

    def produce(self, partition: int, value: bytes) -> None:
        """A record of the samples topic, stamped by the broker."""
        timestamp_ms = int(self.brokers_s * 1000)
        try:
            chunks = record.decode(
                value, record.RecordSource(partition, len(self.samples), self.hour + agent.AHEAD_HOURS)
            )
        except FormatError:
            self.garbage.add(b"%d %d" % (partition, len(self.samples[partition])))
            chunks = []
        self.samples[partition].append(Sample(value, timestamp_ms))
        self.appended_s[partition].append(self.loop.now_s)
        right_ms = int(self.loop.now_s * 1000) if self.is_disputed else timestamp_ms
        self.models[partition].add(right_ms, chunks)

    def append(self, topic: str, partition: int, key: bytes, value: bytes) -> int:
        """A record arrives at the broker."""
        if topic == DEAD:
            self.dead.add(value)
            return len(self.dead)
        return self.changelogs[partition].append(key, value, self.loop.now_s)

    def run(self, partition: int, offsets: range, generation: int) -> SimpleNamespace:
        """Records of the samples topic as Faust hands them on."""
        value = [
            SimpleNamespace(
                topic="samples", partition=partition, offset=offset, value=sample.value, timestamp=sample.timestamp_ms
            )
            for offset in offsets
            for sample in [self.samples[partition][offset]]
        ]
        return SimpleNamespace(tp=TP("samples", partition), partition=partition, value=value, generation_id=generation)

    def compact(self) -> None:
        """The log cleaner runs over what it may touch."""
        for changelog in self.changelogs:
            self.held_back += not changelog.compact(self.loop.now_s - COMPACTION_LAG_S)

    # group

    def rebalance(self, owners: list[int], unaware: int | None = None, shift: int = 0) -> None:
        """A new generation.

        Args:
            owners: number of the worker that gets each partition; the next one if that one does not take part.
            unaware: number of a worker that does not take part and does not notice.
            shift: how far the committed offset is from the truth.
        """
        if unaware is not None and self.workers[unaware].state == "up" and len(self._members()) > 1:
            self.workers[unaware].state, self.workers[unaware].zombie_until_s = "zombie", self.late_s
        members = self._members()
        if not members:
            return
        self.generation += 1
        for worker in members:
            worker.partitions.revoke()
        self.settle()
        members = self._members()  # a flush on its way may have ended one
        for partition, owner in enumerate(owners):
            order = [number % len(self.workers) for number in range(owner, owner + len(self.workers))]
            self.owners[partition] = next((number for number in order if self.workers[number] in members), 0)
        for number, worker in enumerate(self.workers):
            if worker in members:
                mine = [partition for partition, owner in enumerate(self.owners) if owner == number]
                worker.join(self.generation, {p: max(0, self.committed[p] + shift) for p in mine})

    def _members(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.state == "up"]

    def notice(self, worker: Worker) -> None:
        """A zombie learns that the group has gone on."""
        worker.link.give_up(0.0)
        worker.link.lost = []
        worker.state, worker.positions = "up", {}
        worker.partitions.revoke()
        worker.app.consumer_generation_id = self.generation
        self.settle()

    # proof

    def drain(self) -> None:
        """Everything heals, everything is folded and flushed; then it must be right, on every copy."""
        self.trouble.clear()
        if self.is_disputed:
            self.set_clocks_right()
        for partition in range(len(self.samples)):
            self.produce(partition, record.encode([]))  # a record behind every hole
        self._heal()
        for partition, owner in enumerate(self.owners):
            self._fold_all(self.workers[owner], partition)
        for worker in self.workers:
            worker.flush()
            self.pass_time(6)  # beyond the interval of an idle place
            worker.flush()
            assert not worker.is_flushing, "a flush hangs"
        assert self.garbage <= self.dead, f"not put aside: {self.garbage - self.dead}"
        for partition in range(len(self.samples)):
            self._check(partition)

    def set_clocks_right(self) -> None:
        """Ends all disputes."""
        self.broker_ahead_s = 0.0
        for worker in self.workers:
            worker.ahead_s = 0.0

    def check_as_of(self) -> None:
        """Whatever was accepted before the moment a worker, or a copy, says its answers are of is folded."""
        for worker in self.workers:
            for partition, active in worker.partitions.active.items():
                as_of = active.as_of(worker.partitions.clocks.now().own_s)
                self._check_as_of("memory", as_of, partition, active.fold.offset)
            for partition in range(len(self.samples)):
                with self.trouble.held_back():
                    checkpoint = worker.table.checkpoint(partition)
                self._check_as_of("copy", checkpoint.as_of, partition, checkpoint.offset)

    def _check_as_of(self, what: str, as_of: float, partition: int, offset: int) -> None:
        behind = [self.loop.now_s, *self.appended_s[partition][offset + 1 :]]
        early_s = as_of - min(behind) - self.limits.clock_tolerance_s
        assert early_s <= 0, f"{what} of partition {partition} is final too early, by {early_s:.0f} s"

    def _heal(self) -> None:
        for worker in self.workers:
            worker.link.mode = "fast"
            worker.link.land(len(worker.link.wire), ack=True)
            if worker.state == "zombie":
                self.notice(worker)
            if worker.state == "down":
                worker.start()
            worker.crash_at = None
        self.settle()
        self.pass_time(3)
        if any(partition not in self.workers[owner].partitions.owned for partition, owner in enumerate(self.owners)):
            self.rebalance(self.owners)

    def _fold_all(self, worker: Worker, partition: int) -> None:
        end = len(self.samples[partition])
        for _ in range(20):
            while worker.deliver(partition, 2):
                pass
            self.pass_time(2.5)  # a seek that was ignored is repeated after 2 s
            if worker.partitions.of(partition).fold.offset == end - 1:
                return
            worker.positions[partition] = min(worker.positions[partition], end - 1)
        raise AssertionError(f"partition {partition} makes no progress")

    def _check(self, partition: int) -> None:
        owner = self.workers[self.owners[partition]]
        self._compare("owner", owner, partition)
        for worker in self.workers:
            if worker is not owner:
                worker.read_changelog(partition)
                self._compare("standby", worker, partition, fresh=True)
        self.spare.wipe()
        self._compare("rebuilt", Rebuilt(self, self.spare), partition, fresh=True)

    def _compare(self, copy: str, worker: Worker, partition: int, *, fresh: bool = False) -> None:
        expected: dict[Where, Numbers | None] = {**self.models[partition].visible()}
        partitions = worker.partitions
        if fresh:
            partitions = Partitions(worker.table, self.limits)
        fold = partitions.of(partition).fold
        assert fold.checkpoint.offset == len(self.samples[partition]) - 1, f"{copy}: checkpoint {fold.checkpoint}"
        found = {at: numbers_of(fold.find(*at)) for at in expected}
        if self.is_disputed:  # what is late is so by the clock agreed on
            expected, found = without_late(expected), without_late(found)
            assert fold.clock.confirmed_ms == self.samples[partition][-1].timestamp_ms, f"{copy}: the clock stands"
        assert found == expected, f"{copy} of partition {partition}: {found} instead of {expected}"
        model = self.models[partition]
        ids = {id_ for _, id_, _ in model.claims}
        claimed = fold.ids.claimed(
            ids, fold.checkpoint.epoch, fold.offset + 1, model.hour - self.limits.id_horizon_hours
        )
        known = {id_: checkpoints_of(ranges.edges) for id_, ranges in claimed.items()}
        wanted = {id_: model.known(id_) for id_ in ids}
        assert known == wanted, f"{copy} of partition {partition} has forgotten of {wanted}: {known}"


def without_late(numbers: Mapping[Where, Numbers | None]) -> dict[Where, Numbers | None]:
    """Without the count of late values."""
    return {at: found and (*found[:6], 0, *found[7:]) for at, found in numbers.items()}


def checkpoints_of(edges: Sequence[int]) -> set[int]:
    """The places between the edges; 0 stands for all."""
    if tuple(edges) == WHOLE:
        return {0}
    return {
        checkpoint for start, stop in zip(edges[::2], edges[1::2], strict=True) for checkpoint in range(start, stop)
    }


class Rebuilt(Worker):
    """A worker with an empty disk that has read the changelog."""

    def __init__(self, world: World, disk: Disk) -> None:
        super().__init__(world, disk)
        for partition in range(len(world.changelogs)):
            self.read_changelog(partition)
