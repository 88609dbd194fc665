"""Takes the samples topic in: which partitions are ours, which delivered record is the next one, and into the fold.

Faust delivers records of an older generation after a revoke, and around a rebalance delivers one offset twice and skips
another. So nothing is applied but the next offset of a partition that this worker owns in the current generation: lower
offsets are replays, a higher one is a hole, which is sought back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import faust
from faust.streams import Stream
from faust.types import TP, EventT, StreamT

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fold import Limits, PartitionFold, Tally
from metrics_app.aggregator.table import HourlyTable
from metrics_app.errors import FormatError
from metrics_app.telemetry import Telemetry
from metrics_app.wire import record

logger = logging.getLogger(__name__)

SEEK_AGAIN_S = 2.0  # a seek takes effect within a fetch; until then the records behind the hole are still delivered


@dataclass(slots=True)
class Active:
    """A partition this worker owns.

    Attributes:
        fold: its state in memory.
        pending: applied events whose offsets are not acknowledged yet, in offset order.
        complete_at: epoch seconds at which the fold held everything the partition had; 0 until first shown.
    """

    fold: PartitionFold
    pending: list[EventT[Any]] = field(default_factory=list)
    complete_at: float = 0.0

    @property
    def as_of(self) -> float:
        """Epoch seconds up to which every accepted sample is folded."""
        return max(self.complete_at, self.fold.now_ms / 1000, self.fold.place.as_of)


class Partitions:
    """The partitions this worker owns in the current generation. All state here is dropped at revoke and at assign."""

    def __init__(self, table: HourlyTable, limits: Limits) -> None:
        self.table = table
        self.limits = limits
        self.owned: set[int] = set()
        self.active: dict[int, Active] = {}

    def revoke(self) -> None:
        """Forgets everything, also of partitions that will stay: they are replayed from the last committed offset."""
        self.owned = set()
        self.active = {}

    def assign(self, partitions: set[int]) -> None:
        """Owns these partitions from now on, with nothing in memory."""
        self.owned = partitions
        self.active = {}

    def of(self, partition: int) -> Active:
        """The state of an owned partition, taken from the recovered table at first use."""
        active = self.active.get(partition)
        if active is None:
            store = self.table.store
            place = self.table.place(partition)
            fold = PartitionFold(lambda row_key: store.read(partition, row_key), self.limits, place)
            fold.restore_ids(store.scan(partition, bytes([rows.IDS]), bytes([rows.IDS + 1])))
            active = self.active[partition] = Active(fold)
        return active

    def dirty_rows(self) -> int:
        """Rows changed and not flushed."""
        return sum(len(active.fold.dirty) for active in self.active.values())

    def cached_rows(self) -> int:
        """Rows in memory."""
        return sum(len(active.fold.cache) for active in self.active.values())


DeadLetter = Callable[[EventT[Any], str], Awaitable[None]]


class Folding:
    """The agent of the samples topic.

    Args:
        dead_letter: puts a record aside, with the reason, and returns when that is durable.
        flush: makes room by flushing.
    """

    def __init__(
        self,
        app: faust.App,
        partitions: Partitions,
        telemetry: Telemetry,
        max_dirty_rows: int,
        dead_letter: DeadLetter,
        flush: Callable[[], Awaitable[None]],
    ) -> None:
        self.app = app
        self.partitions = partitions
        self.telemetry = telemetry
        self.max_dirty_rows = max_dirty_rows
        self.dead_letter = dead_letter
        self.flush = flush
        self.poison: dict[tuple[TP, int], str] = {}
        self._sought: dict[TP, tuple[int, float]] = {}

    async def consume(self, stream: StreamT[Any]) -> None:
        """Body of the agent; never returns and never raises because of a record."""
        async for event in cast("Stream[bytes]", stream).noack().events():
            await self._take(event)

    async def _take(self, event: EventT[Any]) -> None:
        message = event.message
        if message.partition not in self.partitions.owned or self._is_stale(event):
            return
        active = self.partitions.of(message.partition)
        if message.offset <= active.fold.offset:
            self.telemetry.replayed.inc()
            if message.offset <= active.fold.place.offset:
                event.ack()
        elif message.offset > active.fold.offset + 1:
            await self._seek_back(message.tp, active)
        else:
            await self._apply(event, active)
            while self.partitions.dirty_rows() > self.max_dirty_rows and not self._is_stale(event):
                await self.flush()

    def _is_stale(self, event: EventT[Any]) -> bool:
        return bool(event.message.generation_id != self.app.consumer_generation_id)

    async def _apply(self, event: EventT[Any], active: Active) -> None:
        message = event.message
        reason = self.poison.get((message.tp, message.offset))
        try:
            chunks = [] if reason else record.decode(message.value or b"")
        except FormatError as error:
            reason = str(error)
        if reason is not None:
            await self.dead_letter(event, reason)
            if self.partitions.active.get(message.partition) is not active:
                return  # the partition moved meanwhile; its next owner puts the record aside again
            chunks = []
        try:
            tally = active.fold.apply(message.offset, int(message.timestamp * 1000), chunks)
        except Exception as error:
            # a bug, met on one record: what it half applied is dropped with the rest of the overlay, and the replay
            # puts this record aside instead
            logger.exception("%s offset %s cannot be folded", message.tp, message.offset)
            self.poison[message.tp, message.offset] = f"fold: {error!r}"
            del self.partitions.active[message.partition]
            await self._seek_back(message.tp, self.partitions.of(message.partition))
            return
        active.pending.append(event)
        self._count(tally)

    async def _seek_back(self, tp: TP, active: Active) -> None:
        """Asks for the next offset again; what retention has deleted before it could be read is reported as lost."""
        wanted = active.fold.offset + 1
        offset, sought_s = self._sought.get(tp, (-1, 0.0))
        if offset == wanted and time.monotonic() - sought_s < SEEK_AGAIN_S:
            return
        self._sought[tp] = wanted, time.monotonic()
        earliest = (await self.app.consumer.earliest_offsets(tp)).get(tp) or 0
        if earliest > wanted:
            logger.error("%s: records %s to %s were deleted by retention before being folded", tp, wanted, earliest - 1)
            self.telemetry.lost.inc(earliest - wanted)
            active.fold.offset = wanted = earliest - 1
        else:
            self.telemetry.holes.inc()
            logger.warning("%s: offset %s was skipped, seeking back", tp, wanted)
        await self.app.consumer.seek(tp, max(wanted, earliest))

    def _count(self, tally: Tally) -> None:
        telemetry = self.telemetry
        telemetry.folded_records.inc()
        telemetry.folded.inc(tally.folded)
        telemetry.late.inc(tally.late)
        telemetry.expired.inc(tally.expired)
        telemetry.duplicate.labels("number").inc(tally.duplicate_numbers)
        telemetry.duplicate.labels("id").inc(tally.duplicate_ids)


async def prove_completeness(app: faust.App, topic: str, partitions: Partitions, telemetry: Telemetry) -> None:
    """Notes for each owned partition whether everything it held a moment ago is folded, and its lag in records."""
    before = time.time()
    tps = {TP(topic, partition) for partition in partitions.owned}
    ends = await app.consumer.highwaters(*tps) if tps else {}
    for tp, end in ends.items():
        if tp.partition not in partitions.owned or end is None:
            continue
        active = partitions.of(tp.partition)
        lag = max(0, end - active.fold.offset - 1)
        telemetry.lag.labels(str(tp.partition)).set(lag)
        if lag == 0:
            active.complete_at = before
