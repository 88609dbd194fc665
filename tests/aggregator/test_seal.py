"""Rows of a closed hour go to the changelog once more, in slices, and not before all of them have is it noted."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from metrics_app.aggregator import fencing
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fold import HOUR_MS, FoldLimits
from metrics_app.aggregator.partitions import Partitions
from metrics_app.wire.chunk import Chunk
from tests.aggregator.conftest import Changelog, flusher_of

HOUR = 498_740
IN_HOUR_MS = HOUR * HOUR_MS + 1000
CLOSED_MS = (HOUR + 1) * HOUR_MS + fencing.GRACE_MS
KEYS = [b"a", b"b", b"c", b"d", b"e"]


class Worker:
    """Owns partition 1; its flushes go to a list."""

    def __init__(self, table: Any, changelog: Changelog, monkeypatch: pytest.MonkeyPatch) -> None:
        self.partitions = Partitions(table, FoldLimits())
        self.partitions.assign({1})
        self.flusher = flusher_of(self.partitions, changelog)
        self.changelog = changelog
        self.offset = self.partitions.of(1).fold.offset
        monkeypatch.setattr("metrics_app.aggregator.flusher.RETRY_S", 0)

    def fold(self, at_ms: int, *keys: bytes, hour: int = HOUR) -> None:
        self.offset += 1
        chunks = [Chunk(key, hour, struct.pack("<d", 1.0)) for key in keys]
        self.partitions.of(1).fold.apply(self.offset, at_ms, chunks)

    async def flush(self) -> list[bytes]:
        """Keys of the rows of HOUR that a flush writes."""
        before = len(self.changelog.records)
        await self.flusher.flush()
        self.written = self.changelog.records[before:]
        prefix = rows.hour_key(HOUR, b"")
        return [row_key[len(prefix) :] for row_key, _ in self.written if row_key.startswith(prefix)]


@pytest.fixture
async def worker(table: Any, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """With five rows flushed, in an hour that has not closed."""
    worker = Worker(table, Changelog(), monkeypatch)
    worker.fold(IN_HOUR_MS, *KEYS)
    assert await worker.flush() == KEYS
    return worker


async def test_an_hour_is_sealed_once_after_it_has_closed_and_the_grace_is_over(worker: Worker) -> None:
    worker.fold(CLOSED_MS - 1, b"x", hour=HOUR + 1)
    assert await worker.flush() == []
    worker.fold(CLOSED_MS, b"x", hour=HOUR + 1)
    assert await worker.flush() == KEYS
    worker.fold(CLOSED_MS + 1, b"x", hour=HOUR + 1)
    assert await worker.flush() == []


async def test_sealed_rows_are_what_was_durable(worker: Worker) -> None:
    store = worker.partitions.table.store
    before = {row_key: store.read(1, row_key) for row_key in (rows.hour_key(HOUR, key) for key in KEYS)}
    worker.fold(CLOSED_MS, b"x", hour=HOUR + 1)
    await worker.flush()
    assert {row_key: value for row_key, value in worker.written if row_key in before} == before


async def test_a_row_that_changes_in_the_same_flush_is_not_followed_by_its_older_state(worker: Worker) -> None:
    worker.fold(CLOSED_MS, b"c")
    assert sorted(await worker.flush()) == KEYS
    written = dict(worker.written)
    row = rows.decode_row(written[rows.hour_key(HOUR, b"c")], 1000)
    assert row.summary.count == 2


async def test_sealing_goes_on_slice_by_slice(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fencing, "MOST_ROWS", 2)
    worker.fold(CLOSED_MS, b"x", hour=HOUR + 1)
    assert [await worker.flush() for _ in range(4)] == [KEYS[:2], KEYS[2:4], KEYS[4:], []]


async def test_large_rows_make_small_slices(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fencing, "MOST_BYTES", 1)
    worker.fold(CLOSED_MS, b"x", hour=HOUR + 1)
    assert [await worker.flush() for _ in range(6)] == [[key] for key in KEYS] + [[]]


@pytest.mark.parametrize("flushes", [0, 1, 2])
async def test_an_owner_that_takes_over_in_the_middle_seals_the_hour_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, flushes: int
) -> None:
    monkeypatch.setattr(fencing, "MOST_ROWS", 2)
    worker.fold(CLOSED_MS, b"x", hour=HOUR + 1)
    for _ in range(flushes):
        await worker.flush()
    successor = Worker(worker.partitions.table, Changelog(), monkeypatch)
    successor.fold(CLOSED_MS + 1, b"x", hour=HOUR + 1)
    assert [await successor.flush() for _ in range(4)] == [KEYS[:2], KEYS[2:4], KEYS[4:], []]


async def test_an_owner_that_takes_over_goes_by_the_clock_its_predecessor_had_reached(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No record may come for hours."""
    monkeypatch.setattr(fencing, "MOST_ROWS", 2)
    worker.fold(CLOSED_MS, b"x", hour=HOUR + 1)
    await worker.flush()
    successor = Worker(worker.partitions.table, Changelog(), monkeypatch)
    assert [await successor.flush() for _ in range(4)] == [KEYS[:2], KEYS[2:4], KEYS[4:], []]


async def test_a_slice_that_was_not_acknowledged_goes_out_again(worker: Worker) -> None:
    worker.fold(CLOSED_MS, b"x", hour=HOUR + 1)
    worker.changelog.link.mode = "down"
    assert await worker.flush() == []
    assert worker.flusher.failing_since is not None
    worker.changelog.link.mode = "fast"
    assert await worker.flush() == KEYS
    assert worker.flusher.failing_since is None


async def test_hours_that_close_together_are_sealed_together(worker: Worker) -> None:
    """As after a silence of hours, which may have begun before the hour was sealed."""
    worker.fold(CLOSED_MS + 9 * HOUR_MS, b"x", hour=HOUR + 10)
    assert await worker.flush() == KEYS
    assert worker.partitions.of(1).fold.checkpoint.sealed == HOUR + 10
