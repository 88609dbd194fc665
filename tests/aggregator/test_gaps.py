"""Records of others between our own in the changelog: newer ones are not jumped over, older ones do not stay last."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fold import HOUR_MS, FoldLimits
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.row import NO_STAMP, Checkpoint, Row
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.chunk import Chunk
from tests.aggregator.conftest import Changelog, flusher_of

HOUR = 498_740
KEY = rows.hour_key(HOUR, b"d")


def last(changelog: Changelog, row_key: bytes) -> rows.Version:
    """Of the newest record of a row."""
    return rows.version_of([value for key, value in changelog.records if key == row_key][-1])


def a_row(stamp: int) -> bytes:
    row = Row(HourlySummary(1000), stamp=stamp)
    row.summary.add(np.array([float(stamp)]))
    return rows.encode_row(row)


class Owner:
    """Of partition 1, whose flushes go to a list."""

    def __init__(self, table: Any, changelog: Changelog) -> None:
        self.partitions = Partitions(table, FoldLimits())
        self.partitions.assign({1})
        self.flusher = flusher_of(self.partitions, changelog)
        self.offset = NO_STAMP

    async def fold_and_flush(self, key: bytes = b"d") -> None:
        self.offset += 1
        fold = self.partitions.of(1).fold
        fold.apply(self.offset, HOUR * HOUR_MS, [Chunk(key, HOUR, struct.pack("<d", 1.0))])
        await self.flusher.flush()

    @property
    def claimed(self) -> int | None:
        return self.partitions.table.store.persisted_offset(self.partitions.table.changelog_tp(1))


@pytest.fixture
def changelog() -> Changelog:
    return Changelog()


@pytest.fixture
def owner(table: Any, changelog: Changelog) -> Owner:
    return Owner(table, changelog)


async def test_where_all_records_are_ours_nothing_is_read(owner: Owner, changelog: Changelog) -> None:
    for _ in range(3):
        await owner.fold_and_flush()
    assert owner.claimed == len(changelog.records) - 1
    assert changelog.read == []


async def test_an_older_state_that_landed_last_is_written_over_at_once(owner: Owner, changelog: Changelog) -> None:
    """Also in an hour that was sealed long ago, and in a partition that gets no more samples."""
    await owner.fold_and_flush()
    await owner.fold_and_flush()
    changelog.records.append((KEY, a_row(stamp=0)))
    await owner.fold_and_flush(b"another")
    assert last(changelog, KEY).stamp == 0
    await owner.flusher.flush()
    assert last(changelog, KEY).stamp == 1
    written = len(changelog.records)
    await owner.flusher.flush()
    assert len(changelog.records) == written, "once is enough"


async def test_after_a_gap_the_copy_claims_what_it_has_again(owner: Owner, changelog: Changelog) -> None:
    """Else every start after one flush that was not acknowledged would read the changelog from there."""
    await owner.fold_and_flush()
    changelog.records += [(KEY, a_row(stamp=0)), (b"garbage", b"garbage")]
    await owner.fold_and_flush()
    assert owner.claimed == len(changelog.records) - 1
    await owner.fold_and_flush()
    assert owner.claimed == len(changelog.records) - 1
    assert len(changelog.read) == 1


async def test_what_is_newer_than_our_checkpoint_is_not_jumped_over(owner: Owner, changelog: Changelog) -> None:
    """The next owner may go on from it without writing it again: as a standby this copy must still read it."""
    await owner.fold_and_flush()
    before = owner.claimed
    changelog.records.append((rows.hour_key(HOUR, b"h"), a_row(stamp=2)))
    await owner.fold_and_flush()
    assert owner.claimed == before
    await owner.fold_and_flush()
    assert owner.claimed == len(changelog.records) - 1
    assert [start for start, _ in changelog.read][1] == changelog.read[0][1], "nothing is read twice"


async def test_a_later_epoch_is_never_jumped_over(owner: Owner, changelog: Changelog) -> None:
    await owner.fold_and_flush()
    before = owner.claimed
    changelog.records.append((rows.CHECKPOINT_KEY, rows.encode_checkpoint(Checkpoint(1, 0, 0.0))))
    for _ in range(3):
        await owner.fold_and_flush()
    assert owner.claimed == before


async def test_a_gap_that_cannot_be_read_now_is_read_with_a_later_flush(owner: Owner, changelog: Changelog) -> None:
    await owner.fold_and_flush()
    changelog.records.append((KEY, a_row(stamp=0)))
    changelog.is_away = True
    await owner.fold_and_flush(b"another")
    assert owner.flusher.failing_since is None, "the flush itself succeeded"
    changelog.is_away = False
    await owner.fold_and_flush(b"another")
    assert changelog.read == [], "a Kafka that was slow is left alone"
    gap = owner.partitions.of(1).fence.gap
    assert gap is not None
    gap.not_before = 0.0
    await owner.fold_and_flush(b"another")
    assert owner.claimed == len(changelog.records) - 1


async def test_an_owner_that_finds_an_older_state_last_while_it_recovers_writes_over_it(
    table: Any, changelog: Changelog
) -> None:
    checkpoint = (rows.CHECKPOINT_KEY, rows.encode_checkpoint(Checkpoint(0, 5, 0.0)))
    changelog.records += [(KEY, a_row(stamp=5)), (KEY, a_row(stamp=3)), checkpoint]
    tp = table.changelog_tp(1)
    for offset, (key, value) in enumerate(changelog.records):
        table.store.merge(tp, [SimpleNamespace(key=key, value=value, timestamp=1)], offset)
    owner = Owner(table, changelog)
    owner.partitions.of(1)
    await owner.flusher.flush()
    assert last(changelog, KEY).stamp == 5


async def test_a_changelog_that_gives_offsets_again_is_not_trusted_and_none_of_it_is_claimed(
    owner: Owner, changelog: Changelog
) -> None:
    """It was made anew or has lost its end under a worker that runs: the next assignment finds out which."""
    told: list[str] = []
    owner.flusher.distrust = told.append
    for _ in range(3):
        await owner.fold_and_flush()
    before = owner.claimed
    changelog.records.clear()
    await owner.fold_and_flush()
    assert len(told) == 1
    assert owner.claimed == before
    assert changelog.read == []
