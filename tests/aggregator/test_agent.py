"""What the agent does with a Faust that delivers too much, too little, or too late. Faust is faked, RocksDB is real."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP

from metrics_app import turns
from metrics_app.aggregator import agent
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.agent import AHEAD_HOURS, TRIES, Folding
from metrics_app.aggregator.dead_letters import StopRule
from metrics_app.aggregator.deduplication import IdIndex, Occurrences
from metrics_app.aggregator.fold import HOUR_MS, FoldLimits, PartitionFold
from metrics_app.aggregator.partitions import Partitions
from metrics_app.telemetry import Telemetry
from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk
from tests.aggregator.conftest import flusher_of
from tests.metrics import value_of
from tests.sim.link import OneRun
from tests.turns import Others

HOUR = 498_740
KEY, OTHER = b"d", b"n"  # of partition 1
SAMPLES = TP("samples", 1)


def run_of(records: dict[int, bytes], generation: int = 1, later_ms: int = 0) -> Any:
    """A delivered run."""
    value = [
        SimpleNamespace(topic="samples", partition=1, offset=offset, value=each, timestamp=HOUR * HOUR_MS + later_ms)
        for offset, each in records.items()
    ]
    return SimpleNamespace(tp=SAMPLES, partition=1, value=value, generation_id=generation)


class Consumer:
    """Notes where it was sought to."""

    def __init__(self) -> None:
        self.sought: list[tuple[TP, int]] = []
        self.earliest = 0

    async def deliver_from(self, tp: TP, offset: int) -> None:
        self.sought.append((tp, offset))

    async def earliest_offsets(self, *tps: TP) -> dict[TP, int]:
        return dict.fromkeys(tps, self.earliest)


class Worker:
    """A folding agent with everything around it, in generation 1, owning partition 1."""

    def __init__(self, table: Any) -> None:
        self.app = faked(consumer_generation_id=1, consumer=Consumer())
        self.telemetry = Telemetry()
        self.partitions = Partitions(table, FoldLimits(), telemetry=self.telemetry)
        self.partitions.assign({1})
        self.dead: list[tuple[int, str]] = []
        self.flush = flusher_of(self.partitions).flush
        self.in_row = 100  # dead letters after which the partition stops
        self.folding = Folding(
            self.app,
            self.partitions,
            self.telemetry,
            1000,
            dead_letter=self._bury,
            flush=self.flush,
            new_rule=lambda: StopRule(in_row=self.in_row),
        )

    async def _bury(self, record: Any, reason: str) -> None:
        self.dead.append((record.offset, reason))

    async def deliver(self, *offsets: int, generation: int = 1, value: bytes | None = None, later_ms: int = 0) -> None:
        """Records in runs of one."""
        for offset in offsets:
            await self.run(offset, generation=generation, value=value, later_ms=later_ms)

    async def run(self, *offsets: int, generation: int = 1, value: bytes | None = None, later_ms: int = 0) -> None:
        """Records in one run."""
        records = {offset: value or one(2**offset) for offset in offsets}
        await self.take(run_of(records, generation, later_ms))

    async def take(self, run: Any) -> None:
        stream: Any = OneRun(run)
        await self.folding.consume(stream)

    def sum(self) -> float:
        row = self.partitions.of(1).fold.find(KEY, HOUR)
        return row.summary.sum if row is not None else 0.0


def faked(**attributes: Any) -> Any:
    return SimpleNamespace(**attributes)


def one(value: float) -> bytes:
    return record.encode([Chunk(KEY, HOUR, struct.pack("<d", value))])


@pytest.fixture
def worker(table: Any) -> Worker:
    return Worker(table)


async def test_records_of_an_older_generation_are_dropped(worker):
    """Trap 1: buffered events of an older generation arrive after a revoke."""
    await worker.deliver(0)
    worker.app.consumer_generation_id = 2
    await worker.deliver(1, generation=1)
    assert worker.sum() == 1.0
    await worker.deliver(1, generation=2)
    assert worker.sum() == 3.0


async def test_records_of_a_partition_that_is_not_owned_are_dropped(worker):
    """Trap 1, the other half: between a revoke and the next assignment nothing is ours."""
    worker.partitions.revoke()
    await worker.deliver(0)
    assert worker.partitions.active == {}


async def test_an_offset_delivered_twice_counts_once(worker):
    """Trap 2: around a rebalance Faust delivers an offset twice."""
    await worker.deliver(0, 1, 1, 0, 2)
    assert worker.sum() == 7.0
    assert value_of(worker.telemetry.replayed) == 2


async def test_how_fresh_each_record_was_when_questions_saw_it_is_measured_once(worker):
    await worker.deliver(0, 1, 1)
    (measured,) = worker.telemetry.freshness.collect()
    assert {each.value for each in measured.samples if each.name.endswith("_count")} == {2}
    assert value_of(worker.telemetry.fold_time) > 0


async def test_a_skipped_offset_is_sought_back_and_nothing_behind_it_is_applied(worker):
    """Trap 2: around a rebalance Faust skips an offset."""
    await worker.deliver(0, 2, 3)
    assert worker.sum() == 1.0
    assert worker.app.consumer.sought == [(SAMPLES, 1)]
    await worker.deliver(1, 2, 3)
    assert worker.sum() == 15.0


async def test_the_first_record_after_an_assignment_must_be_the_one_after_the_checkpoint(worker):
    """Also an offset that was committed to Kafka too far ahead is seen, since our own place is what counts."""
    await worker.deliver(0, 1)
    await worker.flush()
    worker.partitions.assign({1})
    await worker.deliver(3)
    assert worker.app.consumer.sought == [(SAMPLES, 2)]
    await worker.deliver(2, 3)
    assert worker.sum() == 15.0


async def test_records_that_retention_deleted_before_they_were_folded_are_reported_and_passed(worker):
    worker.app.consumer.earliest = 5
    await worker.deliver(5)
    assert value_of(worker.telemetry.lost) == 5
    assert worker.app.consumer.sought == [(SAMPLES, 5)]
    await worker.deliver(5)
    assert worker.sum() == 32.0


@pytest.mark.parametrize("drop", ["revoke_and_assign", "assign"])
async def test_what_was_not_flushed_is_dropped_at_revoke_and_at_assign_and_comes_back_by_replay(worker, drop):
    """Trap 4: overlay state that survives a rebalance counts twice, also for a partition that stays."""
    await worker.deliver(0, 1)
    await worker.flush()
    await worker.deliver(2)
    if drop == "revoke_and_assign":
        worker.partitions.revoke()
    worker.partitions.assign({1})
    assert worker.sum() == 3.0
    await worker.deliver(0, 1, 2)
    assert worker.sum() == 7.0


async def test_what_is_committed_is_what_is_durable(worker):
    assert worker.partitions.committable(1) is None
    await worker.deliver(0, 1)
    assert worker.partitions.committable(1) == 0
    await worker.flush()
    await worker.deliver(2)
    assert worker.partitions.committable(1) == 2
    worker.partitions.revoke()
    assert worker.partitions.committable(1) is None


async def test_a_run_is_folded_from_the_next_record_on(worker):
    await worker.run(0, 1)
    await worker.run(1, 2, 3)
    assert worker.sum() == 15.0
    assert value_of(worker.telemetry.replayed) == 1


async def test_a_run_is_folded_up_to_a_hole(worker):
    await worker.run(0, 1, 3, 4)
    assert worker.sum() == 3.0
    assert worker.app.consumer.sought == [(SAMPLES, 2)]


async def test_a_run_that_a_rebalance_interrupts_is_not_folded_on(worker):
    """It waits here for room in the middle."""
    worker.folding.max_dirty_rows = 0
    flushing, rebalanced = asyncio.Event(), asyncio.Event()

    async def flush() -> None:
        flushing.set()
        await rebalanced.wait()

    worker.folding.flush = flush
    taking = asyncio.create_task(worker.run(0, 1, 2))
    await flushing.wait()
    worker.app.consumer_generation_id = 2
    worker.partitions.assign({1})
    rebalanced.set()
    await taking
    assert worker.sum() == 0.0


async def test_a_long_run_lets_others_have_their_turn(worker, monkeypatch):
    """Queries and heartbeats are answered by the same loop."""
    monkeypatch.setattr(turns, "SLICE_S", 0.0)
    async with Others() as others:
        await worker.run(*range(64), value=record.encode([Chunk(KEY, HOUR, bytes(8 * 2048))]))
    assert others.turns >= 10


async def test_a_lower_offset_that_was_appended_later_than_all_that_was_folded_is_of_another_log(worker):
    """The topic was made anew, and has outgrown the old one between two looks at its end."""
    await worker.deliver(0, 1)
    await worker.flush()
    await worker.deliver(0, later_ms=1)
    assert worker.partitions.checkpoints == {}, "compared with the log before anything more is folded"
    assert not worker.partitions.all_compared.is_set()


@pytest.mark.parametrize("value", [b"garbage", b"", one(1)[:-1], b"\x80\x04K\x01."])
async def test_a_record_that_cannot_be_read_is_put_aside_and_its_neighbours_count(worker, value):
    await worker.deliver(0)
    await worker.deliver(1, value=value or b"\x00")
    await worker.deliver(2)
    assert worker.sum() == 5.0
    assert [offset for offset, _ in worker.dead] == [1]


class Bug:
    """Makes the fold fail on a key as a mistake in it would, a number of times; every fold of this process has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, key: bytes, times: int = 1000) -> None:
        self.times = times
        original = PartitionFold._fold_chunk

        def failing(fold: PartitionFold, row_key: bytes, chunk: Chunk, *rest: Any) -> None:
            if chunk.key == key and self.times > 0:
                self.times -= 1
                raise RuntimeError("a bug")
            original(fold, row_key, chunk, *rest)

        monkeypatch.setattr(PartitionFold, "_fold_chunk", failing)


TWO = record.encode([Chunk(KEY, HOUR, struct.pack("<d", 99.0)), Chunk(OTHER, HOUR, struct.pack("<d", 1.0))])


async def test_a_record_on_which_the_fold_fails_each_time_is_put_aside_and_leaves_no_trace(worker, monkeypatch):
    """The chunk before the failing one in the same record must not count either."""
    Bug(monkeypatch, OTHER)
    await worker.deliver(0)
    for _ in range(TRIES):
        assert worker.dead == []
        await worker.deliver(1, value=TWO)
        assert worker.app.consumer.sought == [(SAMPLES, 0)]
        await worker.deliver(0)
        assert worker.sum() == 1.0
    await worker.deliver(1, value=TWO)
    await worker.deliver(2)
    assert worker.sum() == 5.0
    assert worker.dead == [(1, "fold: it raises an exception each time, see the log")]


async def test_a_record_on_which_the_fold_failed_once_counts(worker, monkeypatch):
    Bug(monkeypatch, OTHER, times=1)
    await worker.deliver(0)
    await worker.deliver(1, value=TWO)
    await worker.deliver(0)
    await worker.deliver(1, value=TWO)
    assert worker.sum() == 100.0
    assert worker.dead == []


async def test_another_record_at_the_offset_of_a_failing_one_counts(worker, monkeypatch):
    """A topic made anew gives its offsets out again."""
    Bug(monkeypatch, OTHER, times=TRIES)
    for _ in range(TRIES):
        await worker.deliver(0, value=TWO)
    await worker.deliver(0, value=TWO, later_ms=1)
    assert worker.sum() == 99.0
    assert worker.dead == []


@pytest.mark.parametrize(
    "error",
    [
        Exception("IO error: While open a file for random read: 000012.sst: Too many open files"),
        RuntimeError("of the store"),
        OSError(24, "Too many open files"),
        MemoryError(),
    ],
    ids=["rocksdb", "runtime", "os", "memory"],
)
async def test_a_disk_that_cannot_be_read_buries_nothing(worker, monkeypatch, error):
    monkeypatch.setattr(agent, "RETRY_S", 0.0)
    await worker.deliver(0)
    store = worker.partitions.table.store
    read_all, failures = store.read_all, [error] * 5

    def failing(partition: int, row_keys: list[bytes]) -> list[bytes | None]:
        if failures and any(row_key.endswith(OTHER) for row_key in row_keys):
            raise failures.pop()
        return cast("list[bytes | None]", read_all(partition, row_keys))

    monkeypatch.setattr(store, "read_all", failing)
    for _ in range(6):
        await worker.deliver(1, value=TWO)
        await worker.deliver(0)
    await worker.deliver(1, value=TWO)
    assert worker.sum() == 100.0
    assert worker.dead == []


async def test_a_record_whose_ids_cannot_be_read_is_tried_again(worker, monkeypatch):
    monkeypatch.setattr(agent, "RETRY_S", 0.0)
    failures, find = [OSError(24, "Too many open files")], IdIndex.find

    def failing(index: IdIndex, ids: Collection[bytes], from_hour: int) -> Occurrences:
        return find(index, ids, from_hour) if not failures else raised(failures.pop())

    monkeypatch.setattr(IdIndex, "find", failing)
    keyed = record.encode([Chunk(KEY, HOUR, struct.pack("<d", 1.0), ids=b"i" * 16)])
    await worker.deliver(0, value=keyed)
    await worker.deliver(0, value=keyed)
    assert (worker.sum(), worker.dead) == (1.0, [])


async def test_trouble_that_does_not_pass_ends_the_process(worker, monkeypatch):
    monkeypatch.setattr(agent, "RETRY_S", 0.0)
    monkeypatch.setattr(agent, "PATIENCE_S", 0.0)
    ended: list[str] = []
    worker.folding.give_up = ended.append
    monkeypatch.setattr(worker.partitions.table.store, "read_all", lambda *_: raised(OSError(5, "Input/output error")))
    await worker.deliver(0, 0)
    assert "Input/output error" in ended[-1]
    assert worker.dead == []


def raised(error: Exception) -> Any:
    raise error


async def test_a_key_of_another_partition_is_put_aside(worker):
    await worker.deliver(0, value=record.encode([Chunk(b"a", HOUR, struct.pack("<d", 1.0))]))
    assert worker.dead == [(0, "record: chunk 0: key b'a' is not of partition 1 of 4")]


async def test_an_hour_that_no_clock_could_be_wrong_by_is_put_aside_and_one_of_a_wrong_clock_is_not(worker):
    now = int(time.time()) // 3600
    for offset, hour in enumerate([now + AHEAD_HOURS - 1, now + AHEAD_HOURS + 1, 2**31 - 1, -1]):
        await worker.deliver(offset, value=record.encode([Chunk(KEY, hour, struct.pack("<d", 1.0))]))
    assert [offset for offset, _ in worker.dead] == [1, 2, 3]


async def test_too_many_dirty_rows_make_the_agent_flush_before_it_goes_on(worker):
    worker.folding.max_dirty_rows = 1
    many = record.encode([Chunk(key, HOUR, struct.pack("<d", 1.0)) for key in (b"d", b"n", b"h")])
    await asyncio.wait_for(worker.deliver(0, value=many), 5)
    assert worker.partitions.dirty_rows() == 0


async def test_nothing_is_folded_before_the_checkpoint_has_been_compared_with_the_log(worker):
    worker.partitions.all_compared.clear()
    taking = asyncio.create_task(worker.deliver(0))
    await asyncio.sleep(0.01)
    assert worker.partitions.active == {}
    worker.partitions.all_compared.set()
    await taking
    assert worker.sum() == 1.0


async def test_a_record_that_waited_through_a_rebalance_is_dropped(worker):
    worker.partitions.all_compared.clear()
    taking = asyncio.create_task(worker.deliver(0))
    await asyncio.sleep(0.01)
    worker.app.consumer_generation_id = 2
    worker.partitions.all_compared.set()
    await taking
    assert worker.partitions.active == {}


async def test_a_good_record_is_not_put_aside_because_of_a_damaged_row(worker):
    """The process ends instead, and the partition is rebuilt."""
    ended = RuntimeError("ended")

    class Ended(BaseException):
        pass

    def end(why: str) -> Any:
        raise Ended(why) from ended

    await worker.deliver(0)
    await worker.flush()
    store = worker.partitions.table.store
    store.give_up = end
    row_key = rows.hour_key(HOUR, KEY)
    store.write(worker.partitions.table.changelog_tp(1), [(row_key, store.read(1, row_key)[:-1])], None)
    worker.partitions.assign({1})
    with pytest.raises(Ended, match="damaged"):
        await worker.deliver(1)
    assert worker.dead == []


async def test_the_fold_is_busy_while_a_run_is_folded_or_waits_and_counts_them(worker):
    queue = asyncio.Queue[Any]()

    class Stream:
        channel = SimpleNamespace(queue=queue)

        def noack(self) -> Any:
            return self

        async def events(self) -> Any:
            while True:
                yield SimpleNamespace(message=await queue.get())

    assert not worker.folding.is_busy
    consuming = asyncio.create_task(worker.folding.consume(Stream()))
    await asyncio.sleep(0)
    assert not worker.folding.is_busy
    worker.folding.partitions.all_compared.clear()  # it waits within the run
    queue.put_nowait(run_of({0: one(1.0)}))
    assert worker.folding.is_busy
    await asyncio.sleep(0.01)
    assert queue.empty()
    assert worker.folding.is_busy
    worker.folding.partitions.all_compared.set()
    await asyncio.sleep(0.01)
    assert not worker.folding.is_busy
    assert worker.folding.taken == 1
    consuming.cancel()


async def test_too_many_dead_letters_stop_their_partition_and_what_is_folded_stays(worker):
    worker.in_row = 3
    await worker.take(run_of({0: one(1.0), **dict.fromkeys(range(1, 9), b"garbage")}))
    await worker.deliver(4)
    assert [offset for offset, _ in worker.dead] == [1, 2, 3]
    assert worker.sum() == 1.0
    assert "3 records in a row" in worker.partitions.stopped[1]
    assert value_of(worker.telemetry.stopped) == 1


async def test_the_other_partitions_go_on(worker):
    worker.partitions.assign({0, 1})
    worker.partitions.stopped[0] = "too many"
    run = run_of({0: one(1.0)})
    run.partition = 0
    await worker.take(run)
    assert 0 not in worker.partitions.active
    await worker.deliver(0)
    assert worker.sum() == 1.0


async def test_a_bug_of_ours_on_record_after_record_stops_the_partition_too(worker, monkeypatch):
    """Each is first taken for a good one."""
    worker.in_row = 3
    Bug(monkeypatch, KEY)
    for offset in range(3):
        for _ in range(TRIES + 1):
            await worker.deliver(*range(offset + 1))
    assert "3 records in a row" in worker.partitions.stopped[1]


async def test_offsets_that_hold_no_record_are_stepped_over_and_a_record_that_is_there_never(worker):
    """Markers of transactions take offsets; Faust drops records around a rebalance."""
    first = {2: 2, 5: 7}

    async def first_record(_partition: int, offset: int) -> int:
        return first[offset]

    worker.folding.first_record = first_record
    await worker.deliver(0, 1, 3)
    assert worker.app.consumer.sought == [(SAMPLES, 2)]
    await worker.deliver(2, 3, 4, 7)
    assert worker.app.consumer.sought == [(SAMPLES, 2), (SAMPLES, 7)]
    await worker.deliver(7)
    assert worker.sum() == sum(2.0**offset for offset in (0, 1, 2, 3, 4, 7))
