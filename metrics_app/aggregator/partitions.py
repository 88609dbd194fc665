"""The partitions this worker owns in the current generation, and the state of each that lives in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from metrics_app.aggregator.fold import HOUR_MS, Limits, PartitionFold, Tally
from metrics_app.aggregator.gaps import Gap
from metrics_app.aggregator.ids import SeenIds, Sights
from metrics_app.aggregator.row import NOWHERE, Place
from metrics_app.aggregator.source_log import Span, continued
from metrics_app.aggregator.table import HourlyTable
from metrics_app.telemetry import Telemetry

logger = logging.getLogger(__name__)

IDS_A_ROW = 4  # what an id and a row take in memory, and cost to write
SURE_AFTER_S = 1.0  # a broker that has just come up may for a moment not know the end of its log


class Log(Protocol):
    """What a place is compared with; `source_log.SourceLog`."""

    async def spans(self, places: Mapping[int, Place]) -> dict[int, Span]:
        """What the log holds of each partition."""

    def committed(self, partition: int) -> int:
        """Offset from which reading began."""

    async def seek(self, partition: int, offset: int) -> None:
        """Has records delivered again."""


@dataclass(slots=True)
class Active:
    """A partition this worker owns.

    Attributes:
        fold: its state in memory.
        tally: what became of the values applied and not flushed yet.
        complete_at: epoch seconds at which the fold held everything the partition had; 0 until first shown.
        asked: an end of the log that is to be reached, and the epoch seconds at which it was the end.
        seal_from: row key from which sealing goes on; None when it begins with the first hour not sealed.
        gap: what others wrote to the changelog between our records; None when all since recovery is ours.
    """

    fold: PartitionFold
    tally: Tally = field(default_factory=Tally)
    complete_at: float = 0.0
    asked: tuple[int, float] = (0, 0.0)
    seal_from: bytes | None = None
    gap: Gap | None = None

    @property
    def as_of(self) -> float:
        """Epoch seconds up to which every accepted sample is folded."""
        return max(self.complete_at, self.fold.now_ms / 1000, self.fold.place.as_of)


class Partitions:
    """The partitions this worker owns in the current generation. All state here is dropped at revoke and at assign.

    Args:
        log: what the places are compared with; without one they are taken as they are.
    Attributes:
        owned: assigned to this worker.
        places: where each begins, once that has been compared with the log: only then is it folded and answered.
        active: the state in memory of those in use.
        all_compared: set while every owned partition has its place.
        stopped: why nothing more is folded of a partition until this process is started anew.
    """

    def __init__(
        self, table: HourlyTable, limits: Limits, log: Log | None = None, telemetry: Telemetry | None = None
    ) -> None:
        self.table = table
        self.limits = limits
        self.log = log
        self.telemetry = telemetry or Telemetry()
        self.owned: frozenset[int] = frozenset()
        self.places: dict[int, Place] = {}
        self.active: dict[int, Active] = {}
        self.all_compared = asyncio.Event()
        self.stopped: dict[int, str] = {}
        self._doubted: set[int] = set()
        self._expired_hour: dict[int, int] = {}

    def revoke(self) -> None:
        """Forgets everything, also of partitions that will stay: they are replayed from the last committed offset."""
        self.assign(set())

    def assign(self, partitions: set[int]) -> None:
        """Owns these partitions from now on, with nothing in memory."""
        self.owned = frozenset(partitions)
        self.places = {} if self.log else dict.fromkeys(partitions, NOWHERE)
        self.active = {}
        self._doubted = set()
        self.all_compared.clear()
        self._note_compared()

    def doubt(self, partition: int) -> None:
        """Has a partition compared with the log again: it ends before what has been folded."""
        self.places.pop(partition, None)
        self.active.pop(partition, None)
        self._doubted.add(partition)
        self.all_compared.clear()

    async def compare(self) -> None:
        """Compares the places not compared yet with the log, and begins a new epoch where it is another log.

        Raises:
            KafkaError, TimeoutError: Kafka did not say; nothing has changed.
        """
        if self.log is None:
            return
        owned, places = self.owned, self.places  # both are other objects after a rebalance
        stored = {partition: self._stored(partition) for partition in owned - places.keys()}
        spans = await self.log.spans(stored) if stored else {}
        begun = {partition: continued(place, spans[partition]) for partition, place in stored.items()}
        await self._index_ids(stored)
        if begun != stored:
            await asyncio.sleep(SURE_AFTER_S)
            again = await self.log.spans(stored)
            if begun != {partition: continued(place, again[partition]) for partition, place in stored.items()}:
                return
        for partition, place in begun.items():
            if self.owned is not owned:
                return
            if partition in self._doubted or self.log.committed(partition) > place.offset + 1:
                await self.log.seek(partition, max(place.offset + 1, spans[partition].earliest))
        if self.owned is owned and self.places is places:
            self._begin(stored, begun)

    async def _index_ids(self, partitions: Collection[int]) -> None:
        """Ends the index of the ids of copies from before there was one, a little at a time; elsewhere it is whole."""
        owned, todo = self.owned, [*partitions]
        while todo and self.owned is owned:  # else another process may have the copy
            with self.table.store.sound(todo[-1]):
                index = self.table.store.ids(todo[-1])
                if index.is_built:
                    todo.pop()
                else:
                    index.build_on()
            await asyncio.sleep(0)

    def _stored(self, partition: int) -> Place:
        with self.table.store.sound(partition):
            return self.table.place(partition)

    def _begin(self, stored: dict[int, Place], begun: dict[int, Place]) -> None:
        self.places |= begun
        self._doubted -= begun.keys()
        for partition, place in begun.items():
            if place != stored[partition]:
                self.telemetry.log_truncated.inc()
                logger.error(
                    "partition %s of the samples topic was made anew or has lost its end: offsets up to %s had been "
                    "folded and are not there or hold other records; the rows are kept, epoch %s begins at offset %s",
                    partition,
                    stored[partition].offset,
                    place.epoch,
                    place.offset + 1,
                )
        self._note_compared()

    def _note_compared(self) -> None:
        if self.places.keys() == self.owned:
            self.all_compared.set()

    def of(self, partition: int) -> Active:
        """The state of an owned and compared partition, taken from the recovered table at first use."""
        active = self.active.get(partition)
        if active is None:
            store = self.table.store
            with store.sound(partition):
                # a new epoch is known here before it is in the store
                place = max(self.table.place(partition), self.places.get(partition, NOWHERE))
            active = self.active[partition] = Active(self._fold(partition, place))
        return active

    def _fold(self, partition: int, place: Place) -> PartitionFold:
        store = self.table.store

        def sights(ids: Collection[bytes], from_hour: int) -> Sights:
            with store.sound(partition):
                return store.ids(partition).find(ids, from_hour)

        return PartitionFold(lambda row_key: store.read(partition, row_key), self.limits, place, SeenIds(sights))

    def ids_known_for_s(self) -> float:
        """How long ago an id may have come and is known, in the partition that knows least; the horizon without any."""
        horizon_s = 3600.0 * self.limits.id_horizon_hours
        known_s = [
            active.fold.now_ms / 1000 - 3600 * self.table.store.ids(partition).since_hour
            for partition, active in self.active.items()
            if active.fold.now_ms
        ]
        return max(0.0, min([horizon_s, *known_s]))

    def expire(self, partition: int, log_ms: int) -> None:
        """Drops hours beyond retention from a local copy, once an hour of the log: no worker's own clock does that.

        Args:
            log_ms: the log's clock, epoch milliseconds, at the place up to which the copy is durable.
        """
        hour = log_ms // HOUR_MS
        if self._expired_hour.get(partition) != hour:
            self.table.expire(partition, hour - self.limits.retention_hours, hour - self.limits.id_horizon_hours)
            self._expired_hour[partition] = hour

    def expire_standbys(self) -> None:
        """The same for the copies of partitions that others own: nobody flushes them here."""
        for partition in self.table.store.partitions_held() - self.owned:
            self.expire(partition, self.table.place(partition).log_ms)

    def committable(self, partition: int) -> int | None:
        """The offset to commit: before it, all is durable. It is a hint, for on assignment the place is what counts."""
        active = self.active.get(partition)
        return None if active is None else active.fold.place.offset + 1

    def dirty_rows(self) -> int:
        """Rows changed and not flushed; ids not flushed are taken for as many as hold as much."""
        folds = [active.fold for active in self.active.values()]
        return sum(len(fold.dirty) + fold.ids.count // IDS_A_ROW for fold in folds)

    def cached_rows(self) -> int:
        """Rows in memory."""
        return sum(len(active.fold.cache) for active in self.active.values())
