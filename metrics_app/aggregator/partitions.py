"""The partitions that this worker owns in the current generation, and what it has in memory of each.

Called by `role` when the group assigns or revokes partitions, and by everything that folds, flushes or answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Protocol

from metrics_app.aggregator.active import ActivePartition
from metrics_app.aggregator.deduplication import Occurrences, SeenIds
from metrics_app.aggregator.fencing import Fence
from metrics_app.aggregator.fold import HOUR_MS, FoldLimits, PartitionFold
from metrics_app.aggregator.row import NO_CHECKPOINT, Checkpoint, with_loss
from metrics_app.aggregator.source_log import LogClock, LogSpan, Witness, continued
from metrics_app.aggregator.table import HourlyTable
from metrics_app.clocks import Clocks
from metrics_app.holdings import Loss
from metrics_app.telemetry import Telemetry

logger = logging.getLogger(__name__)

HOUR_S = 3600
IDS_A_ROW = 4  # an id takes a quarter of the memory of a row, and of the cost of writing one
SURE_AFTER_S = 1.0  # a broker that has just started may not know the end of its log for a moment


class Log(Protocol):
    """What a checkpoint is compared with; `source_log.SourceLog`."""

    async def spans(self, checkpoints: Mapping[int, Checkpoint]) -> dict[int, LogSpan]:
        """What the log holds of each partition."""

    def committed(self, partition: int) -> int:
        """Offset from which reading began."""

    async def seek(self, partition: int, offset: int) -> None:
        """Has records delivered again."""


class Partitions:
    """The partitions this worker owns in the current generation. All state here is dropped at revoke and at assign.

    Args:
        log: what the checkpoints are compared with; without one they are taken as they are.
        clocks: our own clock beside Kafka's.
    Attributes:
        owned: assigned to this worker.
        checkpoints: where each begins, once that has been compared with the log: only then is it folded and answered.
        active: the state in memory of those in use.
        all_compared: set while every owned partition has its checkpoint.
        indexed: how often a part of a copy of an older release was given its index of ids.
        stopped: why nothing more is folded of a partition until this process is started anew.
    """

    def __init__(
        self,
        table: HourlyTable,
        limits: FoldLimits,
        log: Log | None = None,
        telemetry: Telemetry | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self.table = table
        self.limits = limits
        self.log = log
        self.telemetry = telemetry or Telemetry()
        self.clocks = clocks or Clocks(limits.clock_tolerance_s, self.telemetry)
        self.owned: frozenset[int] = frozenset()
        self.checkpoints: dict[int, Checkpoint] = {}
        self.active: dict[int, ActivePartition] = {}
        self.all_compared = asyncio.Event()
        self.stopped: dict[int, str] = {}
        self.indexed = 0
        self._doubted: set[int] = set()
        self._expired_hour: dict[int, int] = {}

    @property
    def unproven(self) -> set[int]:
        """Owned partitions of which it has not been shown yet that everything accepted before is folded."""
        return {each for each in self.owned if each not in self.active or not self.active[each].is_proven}

    def revoke(self) -> None:
        """Forgets everything, also of partitions that will stay: they are replayed from the last committed offset."""
        self.assign(set())

    def assign(self, partitions: set[int]) -> None:
        """Owns these partitions from now on, with nothing in memory."""
        self.owned = frozenset(partitions)
        self.checkpoints = {} if self.log else dict.fromkeys(partitions, NO_CHECKPOINT)
        self.active = {}
        self._doubted = set()
        self.all_compared.clear()
        self._note_compared()

    def doubt(self, partition: int) -> None:
        """Has a partition compared with the log again: it ends before what has been folded."""
        self.checkpoints.pop(partition, None)
        self.active.pop(partition, None)
        self._doubted.add(partition)
        self.all_compared.clear()

    async def compare(self) -> None:
        """Compares the checkpoints not compared yet with the log, and begins a new epoch where it is another log.

        Raises:
            KafkaError, TimeoutError: Kafka did not say; nothing has changed.
        """
        if self.log is None:
            return
        owned, checkpoints = self.owned, self.checkpoints  # both are other objects after a rebalance
        stored = {partition: self._stored(partition) for partition in owned - checkpoints.keys()}
        await self._index_ids(stored)  # before the log is asked: it may take minutes
        spans = await self.log.spans(stored) if stored else {}
        begun = {partition: continued(checkpoint, spans[partition]) for partition, checkpoint in stored.items()}
        if begun != stored:
            await asyncio.sleep(SURE_AFTER_S)
            again = await self.log.spans(stored)
            if begun != {
                partition: continued(checkpoint, again[partition]) for partition, checkpoint in stored.items()
            }:
                return
        for partition, checkpoint in begun.items():
            if self.owned is not owned:
                return
            if partition in self._doubted or self.log.committed(partition) > checkpoint.offset + 1:
                await self.log.seek(partition, max(checkpoint.offset + 1, spans[partition].earliest))
        if self.owned is owned and self.checkpoints is checkpoints:
            self._begin(stored, begun)
            for partition, checkpoint in begun.items():
                if (
                    (span := spans[partition]).earliest == span.end > checkpoint.offset + 1
                ):  # no record will come to show it
                    self.lose(partition, span.end, self.clocks.now().own_s)

    async def _index_ids(self, partitions: Collection[int]) -> None:
        """Builds the index of ids for copies of a release that had none, a little at a time."""
        owned, todo = self.owned, [*partitions]
        while todo and self.owned is owned:  # after a rebalance another process may have opened the copy
            with self.table.store.sound(todo[-1]):
                index = self.table.store.ids(todo[-1])
                if index.is_built:
                    todo.pop()
                else:
                    index.build_on()
                    self.indexed += 1
            await asyncio.sleep(0)

    def _stored(self, partition: int) -> Checkpoint:
        with self.table.store.sound(partition):
            return self.table.checkpoint(partition)

    def _begin(self, stored: dict[int, Checkpoint], begun: dict[int, Checkpoint]) -> None:
        self.checkpoints |= begun
        self._doubted -= begun.keys()
        for partition, checkpoint in begun.items():
            if checkpoint != stored[partition]:
                self.telemetry.log_truncated.inc()
                logger.error(
                    "partition %s of the samples topic was made anew or has lost its end: offsets up to %s had been "
                    "folded and are not there or hold other records; the rows are kept, epoch %s begins at offset %s",
                    partition,
                    stored[partition].offset,
                    checkpoint.epoch,
                    checkpoint.offset + 1,
                )
                self._doubt_complete(partition, stored[partition])
        self._note_compared()

    def _doubt_complete(self, partition: int, stored: Checkpoint) -> None:
        """Notes that an unknown number of records, appended after everything folded, may be lost."""
        until_s = self.clocks.now().own_s
        loss = Loss(int(stored.as_of) // HOUR_S, self._hours_until(until_s), stored.as_of, 0)
        self.checkpoints[partition] = with_loss(self.checkpoints[partition], loss)

    def lose(self, partition: int, earliest: int, until_s: float) -> None:
        """Steps over records that retention has deleted before they were folded, and notes what they may have held.

        Args:
            earliest: the first offset that is still there.
            until_s: epoch seconds before which they were appended.
        """
        active = self.of(partition)
        first, records = active.fold.offset + 1, earliest - active.fold.offset - 1
        now_s = self.clocks.now().own_s
        since_s = active.as_of(now_s)
        oldest = max(0, int(since_s) // HOUR_S - self.limits.retention_hours)
        active.fold.lose(earliest - 1, Loss(oldest, self._hours_until(min(until_s, now_s)), since_s, records))
        self.telemetry.lost.inc(records)
        logger.error(
            "partition %s: records %s to %s were deleted by retention before being folded; answers they may belong to "
            "say so by lost_records",
            partition,
            first,
            earliest - 1,
        )

    def _hours_until(self, until_s: float) -> int:
        """The hour after the last one that an accepted sample may be of by then, or by now if clocks differ."""
        latest_s = max(until_s, self.clocks.now().own_s) if self.clocks.disputed else until_s
        return int(latest_s + self.limits.max_ahead_s + self.limits.clock_tolerance_s) // HOUR_S + 1

    def _note_compared(self) -> None:
        if self.checkpoints.keys() == self.owned:
            self.all_compared.set()

    def of(self, partition: int) -> ActivePartition:
        """The state of an owned and compared partition, taken from the recovered table at first use."""
        active = self.active.get(partition)
        if active is None:
            store = self.table.store
            with store.sound(partition):
                # a new epoch is known here before it is in the store
                checkpoint = max(self.table.checkpoint(partition), self.checkpoints.get(partition, NO_CHECKPOINT))
            fence = Fence(store, self.table.changelog_tp(partition))
            active = self.active[partition] = ActivePartition(partition, self._fold(partition, checkpoint), fence)
        return active

    def _fold(self, partition: int, checkpoint: Checkpoint) -> PartitionFold:
        store = self.table.store

        def occurrences(ids: Collection[bytes], from_hour: int) -> Occurrences:
            with store.sound(partition):
                return store.ids(partition).find(ids, from_hour)

        return PartitionFold(
            lambda row_key: store.read(partition, row_key),
            self.limits,
            checkpoint,
            SeenIds(occurrences),
            load_all=lambda row_keys: store.read_all(partition, row_keys),
        )

    def ids_known_for_s(self) -> float:
        """For how long ids are known, in seconds, in the partition that knows least; the horizon if there is none."""
        horizon_s = 3600.0 * self.limits.id_horizon_hours
        known_s = [
            active.fold.clock.confirmed_ms / 1000 - 3600 * self.table.store.ids(partition).since_hour
            for partition, active in self.active.items()
            if active.fold.clock.confirmed_ms
        ]
        return max(0.0, min([horizon_s, *known_s]))

    def witness(self) -> Witness:
        """What this worker knows of the time."""
        return Witness(int(self.clocks.now().own_s * 1000), self.clocks.disputed)

    def expire(self, partition: int, checkpoint: Checkpoint) -> None:
        """Drops hours beyond retention from a local copy, once an hour of the clock that the log and ours agree on.

        Not by more than the checkpoint is as of: what came before that is folded, and none of it needs what is dropped.

        Args:
            checkpoint: up to which the copy is durable.
        """
        own_ms = int(self.clocks.now().own_s * 1000)
        agreed_ms = LogClock(checkpoint.log_ms, checkpoint.clock_ms, self.limits.tolerance_ms).agreed_ms(own_ms)
        hour = min(agreed_ms, int(checkpoint.as_of * 1000)) // HOUR_MS
        if self._expired_hour.get(partition) != hour:
            self.table.expire(partition, hour - self.limits.retention_hours, hour - self.limits.id_horizon_hours)
            self._expired_hour[partition] = hour

    def expire_standbys(self) -> None:
        """The same for the copies of partitions that others own: nobody flushes them here."""
        for partition in self.table.store.partitions_held() - self.owned:
            self.expire(partition, self.table.checkpoint(partition))

    def committable(self, partition: int) -> int | None:
        """The offset to commit: everything before it is durable. On assignment the checkpoint counts, not this."""
        active = self.active.get(partition)
        return None if active is None else active.fold.checkpoint.offset + 1

    def dirty_rows(self) -> int:
        """Rows that are changed and not flushed; ids count as so many rows as take the same memory."""
        folds = [active.fold for active in self.active.values()]
        return sum(len(fold.dirty) + fold.ids.count // IDS_A_ROW for fold in folds)

    def cached_rows(self) -> int:
        """Rows in memory."""
        return sum(len(active.fold.cache) for active in self.active.values())
