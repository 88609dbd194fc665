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
from faust.types import TP, Message, StreamT

from metrics_app.aggregator.consumer import Record
from metrics_app.aggregator.dead_letters import StopRule
from metrics_app.aggregator.partitions import Active, Partitions
from metrics_app.aggregator.source_log import SourceLog, seek
from metrics_app.errors import FormatError
from metrics_app.telemetry import Telemetry
from metrics_app.wire import record as wire

logger = logging.getLogger(__name__)

SEEK_AGAIN_S = 2.0  # a seek takes effect within a fetch; until then the records behind the hole are still delivered
STRETCH_BYTES = 64 << 10  # folded before queries and heartbeats have their turn


DeadLetter = Callable[[Record, str], Awaitable[None]]


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
        self.taken = 0  # runs, from the start of the process
        self._stream: Any = None
        self._taking = False

    @property
    def is_busy(self) -> bool:
        """Whether runs have come that are not folded yet, of whatever partition."""
        return self._taking or (self._stream is not None and not self._stream.channel.queue.empty())

    async def consume(self, stream: StreamT[Any]) -> None:
        """Body of the agent; never returns and never raises because of a record."""
        self._stream, self._taking = stream, False
        async for event in cast("Stream[Any]", stream).noack().events():
            self._taking = True
            await self._take(event.message)
            self._taking = False
            self.taken += 1
            if self.stop_rule.broken:
                logger.critical("no more records are taken: %s", self.stop_rule.broken)
                await asyncio.Event().wait()

    async def _take(self, run: Message) -> None:
        """Folds a run, of which some records may be known or not ours any more, and the first ones may be missing."""
        stretch = 0
        for record in cast("list[Record]", run.value):
            await self.partitions.all_compared.wait()
            if run.partition not in self.partitions.owned or self._is_stale(run) or self.stop_rule.broken:
                return
            active = self.partitions.of(run.partition)
            if record.offset > active.fold.offset + 1:
                await self._seek_back(run.tp, active)
                return
            if record.offset <= active.fold.offset:
                if record.timestamp > active.fold.now_ms:  # appended later than all that was folded: of another log
                    self.partitions.doubt(run.partition)
                    return
                self.telemetry.replayed.inc()
                continue
            await self._apply(record, active)
            while self.partitions.dirty_rows() > self.max_dirty_rows and not self._is_stale(run):
                await self.flush()
            stretch += len(record.value or b"")
            if stretch >= STRETCH_BYTES:
                stretch = 0
                await asyncio.sleep(0)

    def _is_stale(self, run: Message) -> bool:
        return bool(run.generation_id != self.app.consumer_generation_id)

    async def _apply(self, record: Record, active: Active) -> None:
        tp = TP(record.topic, record.partition)
        reason = self.poison.get((tp, record.offset))
        try:
            chunks = [] if reason else wire.decode(record.value or b"")
        except FormatError as error:
            reason = str(error)
        if reason is not None:
            await self.dead_letter(record, reason)
            if self.partitions.active.get(tp.partition) is not active:
                return  # the partition moved meanwhile; its next owner puts the record aside again
            chunks = []
        try:
            with self.partitions.table.store.sound(tp.partition):  # no good record is put aside for a bad row
                tally = active.fold.apply(record.offset, record.timestamp, chunks)
        except Exception as error:
            # a bug, met on one record: what it half applied is dropped with the rest of the overlay, and the replay
            # puts this record aside instead
            logger.exception("%s offset %s cannot be folded", tp, record.offset)
            self.poison[tp, record.offset] = f"fold: {error!r}"
            del self.partitions.active[tp.partition]
            await self._seek_back(tp, self.partitions.of(tp.partition))
            return
        self.stop_rule.note(reason)
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
