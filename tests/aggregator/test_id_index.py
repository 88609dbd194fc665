"""Ids in the local copy, on a real RocksDB: found whatever wrote them, without reading anything at a take-over."""

from __future__ import annotations

import asyncio
import os
import struct
import time
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.deduplication import BUCKET_HOURS, BUILT_KEY, ENTRY, EVERYTHING, Occurrence, SeenIds
from metrics_app.aggregator.fold import HOUR_MS, FoldLimits, PartitionFold
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.ranges import WHOLE, Ranges
from metrics_app.aggregator.row import Checkpoint
from metrics_app.aggregator.source_log import LogSpan
from metrics_app.aggregator.table import HourlyTable
from metrics_app.aggregator.tally import Tally
from metrics_app.wire.chunk import Chunk

HOUR = 498_744  # the first of a bucket
ID, OTHER = b"i" * 16, b"o" * 16
LIMITS = FoldLimits()


def ids_row(hour: int, offset: int, *ids: bytes, claims: Ranges = EVERYTHING, epoch: int = 0) -> tuple[bytes, bytes]:
    return rows.ids_key(hour, offset), rows.encode_ids(epoch, offset, dict.fromkeys(ids, claims))


def write(table: HourlyTable, *written: tuple[bytes, bytes]) -> None:
    table.store.write(table.changelog_tp(1), written, 1)


def found(table: HourlyTable, *ids: bytes, from_hour: int = HOUR - 24) -> dict[bytes, list[Occurrence]]:
    occurrences = table.store.ids(1).find(set(ids), from_hour)
    return {id_: sorted(those) for id_, those in occurrences.items()}


def reopen(table: HourlyTable) -> None:
    table.store.revoke_partitions(table, {table.changelog_tp(1)})


def as_of_an_older_release(table: HourlyTable) -> None:
    """Takes the entries away, and the note that there are any."""
    db = table.store.ids(1).db
    db.delete_range(bytes([ENTRY]), bytes([ENTRY + 1]))
    del db[BUILT_KEY]
    reopen(table)


def test_an_id_is_found_with_all_it_claimed_in_each_record_also_after_a_restart(table):
    write(table, ids_row(HOUR, 7, ID, OTHER), ids_row(HOUR + 1, 9, ID, claims=Ranges([1, 3, 8, 9])))
    write(table, ids_row(HOUR + BUCKET_HOURS, 11, ID, claims=Ranges([5, 6]), epoch=1))
    expected = {
        ID: [
            Occurrence(HOUR, 0, 7, WHOLE),
            Occurrence(HOUR + 1, 0, 9, (1, 3, 8, 9)),
            Occurrence(HOUR + 24, 1, 11, (5, 6)),
        ],
        OTHER: [Occurrence(HOUR, 0, 7, WHOLE)],
    }
    assert found(table, ID, OTHER, b"x" * 16) == expected
    reopen(table)
    assert found(table, ID, OTHER, b"x" * 16) == expected


def test_a_row_that_is_written_again_is_found_once(table):
    for _ in range(2):
        write(table, ids_row(HOUR, 7, ID))
    assert found(table, ID) == {ID: [Occurrence(HOUR, 0, 7, WHOLE)]}


def test_what_is_read_from_the_changelog_is_found_too(table):
    row_key, value = ids_row(HOUR, 7, ID)
    record: Any = SimpleNamespace(key=row_key, value=value, timestamp=0)
    table.store.merge(table.changelog_tp(1), [record], 0)
    assert found(table, ID) == {ID: [Occurrence(HOUR, 0, 7, WHOLE)]}


def test_ids_leave_bucket_by_bucket_and_never_before_their_hour(table):
    write(table, *(ids_row(HOUR + n, n, ID) for n in (0, 23, 24, 48)))
    for before, left in ((HOUR + 24 - 1, [0, 23, 24, 48]), (HOUR + 24, [24, 48]), (HOUR + 48, [48])):
        table.expire(1, 0, before)
        assert [occurrence.offset for occurrence in found(table, ID, from_hour=0)[ID]] == left
    assert table.store.ids(1).since_hour == HOUR + 48
    reopen(table)
    assert table.store.ids(1).since_hour == HOUR + 48


def test_a_new_copy_has_its_index_from_the_beginning(table):
    write(table, ids_row(HOUR, 7, ID))
    assert table.store.ids(1).is_built
    reopen(table)
    assert table.store.ids(1).is_built


def test_a_copy_of_an_older_release_gets_its_index_bit_by_bit_also_over_restarts(table):
    everything = {n: os.urandom(16) for n in range(8000)}
    write(table, *(ids_row(HOUR + n % 30, n, id_) for n, id_ in everything.items()))
    as_of_an_older_release(table)
    index, steps = table.store.ids(1), 0
    while not index.is_built:
        index.build_on()
        steps += 1
        reopen(table)
        index = table.store.ids(1)
    assert steps > 3
    assert {
        id_: [occurrence.offset for occurrence in those] for id_, those in found(table, *everything.values()).items()
    } == {id_: [n] for n, id_ in everything.items()}


class Samples:
    """A samples topic that ends where it is folded to."""

    async def spans(self, checkpoints: dict[int, Checkpoint]) -> dict[int, LogSpan]:
        return {partition: LogSpan(0, checkpoint.offset + 1, None) for partition, checkpoint in checkpoints.items()}

    def committed(self, _partition: int) -> int:
        return 0

    async def seek(self, _partition: int, _offset: int) -> None:
        raise AssertionError("nothing is to be sought")


class Loop:
    """Measures, within a block, the longest time in which nobody else had a turn."""

    longest_s = 0.0

    async def __aenter__(self) -> Loop:
        self._task = asyncio.create_task(self._turn())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)
        self._task.cancel()

    async def _turn(self) -> None:
        at = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()  # of this thread: other processes do not count
            self.longest_s, at = max(self.longest_s, now - at), now


BIG = [50_000, pytest.param(1_500_000, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]


def fill(table: HourlyTable, records: int) -> None:
    """An id in each of many records of a day, as keyed requests leave them."""
    for start in range(0, records, 5000):
        write(table, *(ids_row(HOUR + n * 24 // records, n, id_of(n)) for n in range(start, start + 5000)))
    now_ms = (HOUR + 24) * HOUR_MS - 1
    write(table, (rows.CHECKPOINT_KEY, rows.encode_checkpoint(Checkpoint(0, records - 1, 0.0, now_ms, 0, now_ms))))
    reopen(table)


def id_of(number: int) -> bytes:
    return struct.pack(">QQ", number * 0x9E3779B97F4A7C15 % 2**64, number)


def repeat(fold: PartitionFold, number: int) -> Tally:
    """What becomes of a request that is sent again."""
    chunk = Chunk(b"a", HOUR, struct.pack("<d", 1.0), ids=id_of(number))
    return fold.apply(fold.offset + 1, fold.clock.confirmed_ms, [chunk])


async def take_over(table: HourlyTable, *, is_old: bool = False) -> tuple[PartitionFold, float, int]:
    """The fold, the longest time in which nobody else had a turn, and the most bytes that were needed."""
    log: Any = Samples()
    partitions = Partitions(table, LIMITS, log)
    partitions.assign({1})
    tracemalloc.start()
    try:
        async with Loop() as loop:
            await partitions.compare()
            assert (partitions.indexed > 0) == is_old
            fold = partitions.of(1).fold
            assert repeat(fold, 5).duplicate_ids == 1
        return fold, loop.longest_s, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("records", BIG)
async def test_a_take_over_costs_the_same_however_many_ids_there_are(table, records):
    fill(table, records)
    began = time.thread_time()
    assert len(table.store.scan(1, bytes([rows.IDS]), bytes([rows.IDS + 1]))) == records
    to_read_them_s = time.thread_time() - began
    fold, longest_s, most_bytes = await take_over(table)
    assert longest_s < to_read_them_s / 4
    assert most_bytes < 1 << 20
    assert [repeat(fold, number).duplicate_ids for number in (0, records // 2, records - 1, records)] == [1, 1, 1, 0]


@pytest.mark.parametrize("records", BIG)
async def test_a_take_over_of_a_copy_of_an_older_release_lets_others_have_their_turns(table, records):
    fill(table, records)
    as_of_an_older_release(table)
    began = time.thread_time()
    fold, longest_s, most_bytes = await take_over(table, is_old=True)
    assert longest_s < (time.thread_time() - began) / 4
    assert most_bytes < 8 << 20
    assert [repeat(fold, number).duplicate_ids for number in (0, records // 2, records - 1, records)] == [1, 1, 1, 0]


@pytest.mark.parametrize("size", [1999, pytest.param(99_999, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_ids_are_known_however_many_come_after_them_within_their_hours(table, size):
    """There was a limit of 1,000,000 a partition, and what was beyond it counted again."""
    partitions = Partitions(table, LIMITS)
    partitions.assign({1})
    fold = partitions.of(1).fold
    values = struct.pack(f"<{size}d", *range(size))
    ids = [b"".join([id_of(n) for n in range(at, at + size)]) for at in range(0, 12 * size, size)]
    for again in (0, size):
        for offset, those in enumerate(ids, fold.offset + 1):
            assert fold.apply(offset, HOUR * HOUR_MS, [Chunk(b"a", HOUR, values, ids=those)]).duplicate_ids == again
            flush = fold.take(as_of=0.0)
            write(table, *flush.rows)
            fold.flushed(flush)
            assert fold.ids.count == 0, "what is in the store is not in memory"
    row = fold.find(b"a", HOUR)
    assert row is not None
    assert row.summary.count == 12 * size


class OneByOne(dict[int, Any]):
    """What is looked up, never gone through."""

    def __iter__(self):
        raise AssertionError("all of it is gone through")

    items = keys = values = __iter__


def test_an_id_is_found_among_those_not_flushed_without_a_look_at_every_record():
    ids = [number.to_bytes(16, "big") for number in range(100)]
    seen = SeenIds(noted=OneByOne())
    for offset, id_ in enumerate(ids):
        seen.note(1, offset, [id_, ids[0]], EVERYTHING)
    assert seen.claimed({ids[7], ids[0]}, 0, 8, 0).keys() == {ids[7], ids[0]}
    assert seen.claimed({ids[7]}, 0, 7, 0) == seen.claimed({ids[7]}, 0, 8, 2) == {}  # in no record before, too old
    taken, _ = seen.take(0)
    seen.flushed(taken - {7})
    assert seen.claimed({ids[7], ids[0], ids[9]}, 0, 100, 0).keys() == {ids[7], ids[0]}
    seen.flushed({7})
    assert (seen.records, seen.count) == ({}, 0)


def test_how_far_back_ids_are_known_is_what_was_not_dropped(table):
    """As after a horizon that was shorter: what is gone does not come back with the setting."""
    partitions = Partitions(table, FoldLimits(id_horizon_hours=48))
    partitions.assign({1, 2})
    assert partitions.ids_known_for_s() == 48 * 3600
    for partition in (1, 2):
        partitions.of(partition).fold.apply(0, HOUR * HOUR_MS + 600_000, [])
    assert partitions.ids_known_for_s() == 48 * 3600
    table.expire(2, 0, HOUR - 24)
    assert partitions.ids_known_for_s() == 24 * 3600 + 600
    partitions.of(2).fold.apply(1, (HOUR + 30) * HOUR_MS, [])
    assert partitions.ids_known_for_s() == 48 * 3600
