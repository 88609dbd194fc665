"""Takes the samples topic in: which partitions are ours, which delivered record is the next one, and into the fold.

Faust delivers records of an older generation after a revoke, and around a rebalance delivers one offset twice and skips
another. So nothing is applied but the next offset of a partition that this worker owns in the current generation: lower
offsets are replays, a higher one is a hole, which is sought back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import faust
from faust.streams import Stream
from faust.types import TP, EventT, StreamT

from metrics_app.aggregator.dead_letters import StopRule
from metrics_app.aggregator.partitions import Active, Partitions
from metrics_app.aggregator.source_log import SourceLog, seek
from metrics_app.errors import FormatError
from metrics_app.telemetry import Telemetry
from metrics_app.wire import record

logger = logging.getLogger(__name__)

SEEK_AGAIN_S = 2.0  # a seek takes effect within a fetch; until then the records behind the hole are still delivered


DeadLetter = Callable[[EventT[Any], str], Awaitable[None]]


class Folding:
    """The agent of the samples topic.

    Args:
        dead_letter: puts a record aside, with the reason, and returns when that is durable.
        flush: makes room by flushing.
        stop_rule: says when so many records are put aside that it must be our fault; then nothing more is taken.
    """

    def __init__(
        self,
        app: faust.App,
        partitions: Partitions,
        telemetry: Telemetry,
        max_dirty_rows: int,
        dead_letter: DeadLetter,
        flush: Callable[[], Awaitable[None]],
        stop_rule: StopRule | None = None,
    ) -> None:
        self.app = app
        self.partitions = partitions
        self.telemetry = telemetry
        self.max_dirty_rows = max_dirty_rows
        self.dead_letter = dead_letter
        self.flush = flush
        self.stop_rule = stop_rule or StopRule()
        self.poison: dict[tuple[TP, int], str] = {}
        self._sought: dict[TP, tuple[int, float]] = {}

    async def consume(self, stream: StreamT[Any]) -> None:
        """Body of the agent; never returns and never raises because of a record."""
        async for event in cast("Stream[bytes]", stream).noack().events():
            await self._take(event)
            if self.stop_rule.broken:
                logger.critical("no more records are taken: %s", self.stop_rule.broken)
                await asyncio.Event().wait()

    async def _take(self, event: EventT[Any]) -> None:
        message = event.message
        await self.partitions.all_compared.wait()
        if message.partition not in self.partitions.owned or self._is_stale(event):
            return
        active = self.partitions.of(message.partition)
        if message.offset <= active.fold.offset:
            if _log_ms(event) > active.fold.now_ms:  # appended later than all that was folded: it is of another log
                self.partitions.doubt(message.partition)
                return
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
            with self.partitions.table.store.sound(message.partition):  # no good record is put aside for a bad row
                tally = active.fold.apply(message.offset, _log_ms(event), chunks)
        except Exception as error:
            # a bug, met on one record: what it half applied is dropped with the rest of the overlay, and the replay
            # puts this record aside instead
            logger.exception("%s offset %s cannot be folded", message.tp, message.offset)
            self.poison[message.tp, message.offset] = f"fold: {error!r}"
            del self.partitions.active[message.partition]
            await self._seek_back(message.tp, self.partitions.of(message.partition))
            return
        self.stop_rule.note(reason)
        active.pending.append(event)
        active.tally.add(tally)
        self.telemetry.folded_records.inc()

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
        await seek(self.app.consumer, tp, max(wanted, earliest))


def _log_ms(event: EventT[Any]) -> int:
    """When the broker took the record in, in epoch milliseconds."""
    return round(event.message.timestamp * 1000)


async def prove_completeness(log: SourceLog, partitions: Partitions, telemetry: Telemetry) -> dict[int, int]:
    """Notes for each owned partition whether everything it held a moment ago is folded; returns its lag in records."""
    before = time.time()
    ends = await log.ends(partitions.places)
    lags = {}
    for partition, end in ends.items():
        if partition not in partitions.places:
            continue
        active = partitions.of(partition)
        if end <= active.fold.offset:
            partitions.doubt(partition)
            continue
        lag = lags[partition] = end - active.fold.offset - 1
        telemetry.lag.labels(str(partition)).set(lag)
        if lag == 0:
            active.complete_at = before
        elif active.fold.offset + 1 >= active.asked[0]:
            # under load something is always on its way: what counts is that the end of last time has been reached
            active.complete_at = max(active.complete_at, active.asked[1])
        else:
            continue
        active.asked = end, before
    return lags
