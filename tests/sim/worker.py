"""One worker: the real table on RocksDB, partitions, agent and flusher; its process may stop at any line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn, cast

import faust
from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.agent import Folding
from metrics_app.aggregator.flusher import Flusher
from metrics_app.aggregator.fold import FoldLimits
from metrics_app.aggregator.local_state import IDENTITY_KEY, MANIFEST_KEY
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.table import HourlyTable, new_table
from metrics_app.aggregator.upkeep import prove_completeness
from metrics_app.clocks import Clocks, Instant
from metrics_app.telemetry import Telemetry
from tests.sim.link import DEADLINE_S, Link, OneRun

if TYPE_CHECKING:
    from tests.sim.world import World

# the own clock confirms everything: the model knows the log's only (tests/sim/test_clocks.py has both)
LIMITS = FoldLimits(
    retention_hours=4, id_horizon_hours=2, exact_distinct=6, max_senders=2, max_clean_rows=2, clock_tolerance_s=1e7
)
MAX_DIRTY_ROWS = 4
TELEMETRY = Telemetry()
DEAD = "dead-letters"


class Crash(BaseException):
    """The process ends here."""


class OwnClocks(Clocks):
    """The clocks of a worker whose own may be wrong."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.world.limits.clock_tolerance_s, TELEMETRY)
        self._worker = worker

    def now(self) -> Instant:
        """This moment, as the worker sees it."""
        honest_s = self._worker.world.loop.now_s
        return Instant(honest_s + self._worker.ahead_s, honest_s)


class Disk:
    """The RocksDB databases of a worker; outlives its processes. One for many examples, as opening costs much."""

    def __init__(self, folder: Path, partitions: int) -> None:
        app = faust.App("sim", broker="kafka://127.0.0.1:1", datadir=str(folder), autodiscover=False)
        self.table: HourlyTable = new_table(app, partitions)

    def wipe(self) -> None:
        """Nothing is left."""
        for partition in range(self.table.partitions or 0):
            db: Any = self.table.store.database(partition)
            for row_key in list(db.keys()):
                if row_key not in (IDENTITY_KEY, MANIFEST_KEY):
                    del db[row_key]

    def reopen(self) -> None:
        """Closes the databases; the next use opens them, as a new process does."""
        for partition in self.table.store.partitions_held():
            db: Any = self.table.store.let_go(partition)
            db.close()


class Worker:
    """A process and its disk.

    Attributes:
        state: "up", "zombie" (up, but the group has gone on without it and it has not noticed), "down".
        ahead_s: how far its clock is ahead.
        crash_at: where in the settling of the next flush the process ends: "before write", "after write".
    """

    def __init__(self, world: World, disk: Disk) -> None:
        self.world = world
        self.disk = disk
        self.table = disk.table
        self.link = Link(world.append, lambda: world.brokers_s)
        self.ahead_s = 0.0
        self.state = "down"
        self.zombie_until_s = 0.0
        self.crash_at: str | None = None
        self._recovering = False
        setattr(self.table.store, "write", self._write)  # noqa: B010  # mypy knows it for a method
        setattr(self.table.store, "is_home", lambda _partition, _key: True)  # noqa: B010  # of stories, any will do
        self.start()

    def start(self) -> None:
        """A new process, in no group."""
        self.state, self.crash_at, self.link.mode = "up", None, "fast"
        self.partitions = self._nothing_in_memory()
        self.app = cast(Any, SimpleNamespace(consumer_generation_id=-1, consumer=self))
        self.positions: dict[int, int] = {}
        make_producer: Any = self.link.producer
        self.table.store.overwritten.clear()
        self.flusher = Flusher(
            self.table, self.partitions, TELEMETRY, 1.0, DEADLINE_S, make_producer, self.read_between, give_up=self.end
        )
        self.folding = Folding(
            self.app, self.partitions, TELEMETRY, MAX_DIRTY_ROWS, self._bury, self.flusher.flush, give_up=self.end
        )
        self.flushing: asyncio.Task[None] | None = None
        self.taking: asyncio.Task[None] | None = None

    def _nothing_in_memory(self) -> Partitions:
        return Partitions(self.table, self.world.limits, clocks=OwnClocks(self))

    def crash(self) -> None:
        """Ends the process where it is. What it wrote to RocksDB stays, as after kill -9."""
        for task in (self.flushing, self.taking):
            if task is not None:
                task.cancel()
        self.link.give_up(self.world.late_s)
        self.state, self.partitions = "down", self._nothing_in_memory()
        self.world.loop.settle()

    def end(self, why: str) -> NoReturn:
        """The process ends itself; what the simulation itself found on the way it says."""
        error = sys.exception()
        raise error if isinstance(error, AssertionError) else Crash(why)

    def crash_if(self, where: str) -> None:
        """Ends the process if the story wants it to end here."""
        if self.crash_at == where:
            raise Crash(where)

    def check_tasks(self) -> bool:
        """Whether the process still runs; raises what no process should meet."""
        for task in (self.flushing, self.taking):
            if task is not None and task.done() and not task.cancelled() and (error := task.exception()) is not None:
                if isinstance(error, Crash):
                    return False
                if error not in self.world.trouble.raised:
                    raise error
                assert task is self.taking, f"a flush that raised {error!r} did not end the process"
                self.taking = None  # Faust begins the agent anew
        return True

    @property
    def is_flushing(self) -> bool:
        """A flush has not ended."""
        return self.flushing is not None and not self.flushing.done()

    @property
    def is_taking(self) -> bool:
        """The agent is busy with an event."""
        return self.taking is not None and not self.taking.done()

    def flush(self) -> None:
        """Begins a flush, as the flusher's timer does."""
        if self.state != "down" and not self.is_flushing:
            self.ask_for_the_end()
            self.flushing = self.world.loop.create_task(self.flusher.flush())
        self.world.settle()

    async def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """As the source log's."""
        return {partition: len(self.world.samples[partition]) for partition in partitions}

    def ask_for_the_end(self) -> None:
        """Learns how far the log is, as every second."""
        log: Any = self
        asking = self.world.loop.create_task(prove_completeness(log, self.partitions, TELEMETRY))
        self.world.settle()
        if asking.done() and (error := asking.exception()) is not None and error not in self.world.trouble.raised:
            raise error

    def stop(self) -> None:
        """Ends the process as it is told to: with a last flush, as far as that gets."""
        stopping = self.world.loop.create_task(self.flusher.on_stop())
        self.world.loop.settle()
        for _ in range(2):  # the rows, then the places
            self.link.land(len(self.link.wire), ack=True)
            self.world.loop.settle()
        stopping.cancel()
        self.crash()
        if stopping.done() and not stopping.cancelled() and isinstance(error := stopping.exception(), AssertionError):
            raise error

    def join(self, generation: int, assigned: dict[int, int]) -> None:
        """An assignment: partitions, each with the position the group's committed offset leads to."""
        self.app.consumer_generation_id = generation
        self.partitions.assign(set(assigned))
        self.positions = dict(assigned)
        for partition in assigned:
            if self.state == "up":
                self.read_changelog(partition)

    async def read_between(self, tp: TP, start: int, stop: int) -> list[tuple[bytes, bytes]]:
        """What the flusher asks for when others have written between its records."""
        if self.link.mode == "down":
            raise KafkaConnectionError("down")
        changes = self.world.changelogs[tp.partition].changes
        return [(change.key, change.value) for change in changes if start <= change.offset < stop]

    def read_changelog(self, partition: int, count: int | None = None) -> None:
        """Recovery (to the end), or a standby's reading (some records)."""
        changelog = self.world.changelogs[partition]
        persisted = self.table.store.persisted_offset(changelog.tp)
        changes = changelog.after(-1 if persisted is None else persisted)[:count]
        self._recovering = True
        try:
            if changes:
                self.table.store.merge(changelog.tp, changes, changes[-1].offset)
        except Exception as error:
            if error not in self.world.trouble.raised and error.__cause__ not in self.world.trouble.raised:
                raise
            self.crash()  # Faust ends the app
        finally:
            self._recovering = False

    def take(self, partition: int, offsets: range, generation: int) -> None:
        """Faust delivers a run of records to the agent."""
        run: Any = self.world.run(partition, offsets, generation)
        self.taking = self.world.loop.create_task(self.folding.consume(cast(Any, OneRun(run))))
        self.world.settle()

    def deliver(self, partition: int, longest: int = 1) -> bool:
        """The next record, or a run of some, if there is any and the agent is free."""
        position = self.positions.get(partition)
        if self.state == "down" or position is None or self.is_taking or position >= len(self.world.samples[partition]):
            return False
        end = min(position + 1 + position % longest, len(self.world.samples[partition]))
        self.positions[partition] = end
        self.take(partition, range(position, end), self.app.consumer_generation_id)
        return True

    async def deliver_from(self, tp: TP, offset: int) -> None:
        """As the consumer's."""
        self.positions[tp.partition] = offset

    async def earliest_offsets(self, *tps: TP) -> dict[TP, int]:
        """As the consumer's."""
        return dict.fromkeys(tps, 0)

    async def _bury(self, record: Any, _reason: str) -> None:
        origin = b"%d %d" % (record.partition, record.offset)
        await self.flusher.dead_letter(DEAD, origin, [])

    def _write(
        self, tp: TP, written: Iterable[tuple[bytes, bytes]], changelog_offset: int | None, appended_ms: int = 0
    ) -> None:
        """Store.write, watched: no row may go back, and the process may end before or after it."""
        written = list(written)
        if not self._recovering:
            self.crash_if("before write")
        for row_key, value in written:
            current = self.table.store.read(tp.partition, row_key)
            if current is not None:
                assert rows.version_of(value) >= rows.version_of(current), f"{row_key!r} goes back"
        type(self.table.store).write(self.table.store, tp, written, changelog_offset, appended_ms)
        if not self._recovering:
            self.crash_if("after write")
