"""Takes records of the samples topic and folds each one once, in the order of offsets.

Called by Faust, as the agent of that topic.

Faust delivers records of an older generation after a revoke. Around a rebalance it delivers some offsets twice and
skips others. So only the next offset of a partition that this worker owns in the current generation is applied. A lower
offset is a replay. A higher one shows a hole, and the missing records are asked for again.

A record is put aside as a dead letter only for what is in it. Anything else that goes wrong, such as a disk that cannot
be read, is tried again from the last checkpoint.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, cast

import faust
from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.streams import Stream
from faust.types import TP, Message, StreamT

from metrics_app.aggregator.active import ActivePartition
from metrics_app.aggregator.dead_letters import StopRule
from metrics_app.aggregator.fold import HOUR_MS
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.source_log import Witness
from metrics_app.aggregator.tally import Notices
from metrics_app.errors import FormatError
from metrics_app.faust_runtime.consumer import Record, RunConsumer
from metrics_app.process import EXIT_CRASHED, leave
from metrics_app.telemetry import Telemetry
from metrics_app.turns import Slice
from metrics_app.wire import record as wire
from metrics_app.wire.chunk import Chunk

logger = logging.getLogger(__name__)

SEEK_AGAIN_S = 2.0  # a seek takes effect within a fetch; until then the records behind the hole are still delivered
FOREVER_S = float("inf")
RETRY_S = 0.5
PATIENCE_S = 20.0  # of trouble with the machine, after which a new process is the better try
TRIES = 2  # of a record on which the fold fails; a state of this process that it meets once may be to blame
AHEAD_HOURS = 366 * 24  # further than any clock may be wrong


FirstRecord = Callable[[int, int], Awaitable[int]]
DeadLetter = Callable[[Record, str], Awaitable[None]]
TROUBLE = (OSError, MemoryError)  # never the fault of a record; `ReadError` of the fold is an OSError


async def _every_offset(_partition: int, offset: int) -> int:
    return offset


class Folding:
    """The agent of the samples topic.

    Args:
        dead_letter: puts a record aside, with the reason, and returns when that is durable.
        flush: makes room by flushing.
        new_rule: says of one partition when so many records are put aside that it must be our fault; then nothing more
            is taken from it.
        give_up: ends the process, with that sentence.
    Attributes:
        first_record: the offset of the first record that a partition holds from an offset on, or its end.
    """

    first_record: FirstRecord = staticmethod(_every_offset)

    def __init__(
        self,
        app: faust.App,
        partitions: Partitions,
        telemetry: Telemetry,
        max_dirty_rows: int,
        dead_letter: DeadLetter,
        flush: Callable[[], Awaitable[None]],
        new_rule: Callable[[], StopRule] = StopRule,
        give_up: Callable[[str], NoReturn] = lambda why: leave(EXIT_CRASHED, why),
    ) -> None:
        self.app = app
        self.partitions = partitions
        self.telemetry = telemetry
        self.max_dirty_rows = max_dirty_rows
        self.dead_letter = dead_letter
        self.flush = flush
        self.give_up = give_up
        self.notices = Notices()
        self.taken = 0  # runs, from the start of the process
        self._rules: defaultdict[int, StopRule] = defaultdict(new_rule)
        self._failures: Counter[tuple[TP, int, int, int]] = Counter()
        self._trouble_since: dict[int, float] = {}
        self._sought: dict[TP, tuple[int, float]] = {}
        self._stream: Any = None
        self._taking = False
        self._slice = Slice()

    @property
    def is_busy(self) -> bool:
        """Whether runs of any partition have come that are not folded yet."""
        return self._taking or (self._stream is not None and not self._stream.channel.queue.empty())

    async def consume(self, stream: StreamT[Any]) -> None:
        """Body of the agent; never returns and never raises because of a record."""
        self._stream, self._taking = stream, False
        async for event in cast("Stream[Any]", stream).noack().events():
            self._taking = True
            await self._take(event.message)
            self._taking = False
            self.taken += 1

    async def _take(self, run: Message) -> None:
        """Folds a run, of which some records may be known or not ours any more, and the first ones may be missing."""
        try:
            await self._fold(run)
        except TROUBLE as error:
            await self._begin_again(run.tp, error)

    async def _fold(self, run: Message) -> None:
        witness = self.partitions.witness()  # all in the run was appended before
        for record in cast("list[Record]", run.value):
            await self.partitions.all_compared.wait()
            if not self._is_ours(run):
                return
            active = self.partitions.of(run.partition)
            if record.offset > active.fold.offset + 1:
                await self._seek_back(run.tp, active, record.timestamp / 1000)
                return
            if record.offset <= active.fold.offset:
                if (
                    record.timestamp > active.fold.clock.newest_ms
                ):  # appended later than all that was folded: of another log
                    self.partitions.doubt(run.partition)
                    return
                self.telemetry.replayed.inc()
                continue
            await self._apply(record, active, witness)
            while self.partitions.dirty_rows() > self.max_dirty_rows and not self._is_stale(run):
                await self.flush()
            await self._slice.rest()

    def _is_ours(self, run: Message) -> bool:
        is_open = run.partition in self.partitions.owned and run.partition not in self.partitions.stopped
        return is_open and not self._is_stale(run)

    def _is_stale(self, run: Message) -> bool:
        return bool(run.generation_id != self.app.consumer_generation_id)

    async def _apply(self, record: Record, active: ActivePartition, witness: Witness) -> None:
        tp = TP(record.topic, record.partition)
        began_s = time.thread_time()
        chunks, reason = self._read(record)
        if reason is not None:
            await self.dead_letter(record, reason)
            began_s = time.thread_time()
            if self.partitions.active.get(tp.partition) is not active:
                return  # the partition moved meanwhile; its next owner puts the record aside again
        try:
            with self.partitions.table.store.sound(tp.partition):  # no good record is put aside for a bad row
                tally = active.fold.apply(
                    record.offset, record.timestamp, chunks, self._compared(record, active, witness)
                )
        except BaseException as error:
            del self.partitions.active[tp.partition]  # it may hold half of the record
            if isinstance(error, TROUBLE) or not isinstance(error, Exception):
                raise
            # a bug, met on one record, which is put aside when it is met again
            logger.exception("%s offset %s cannot be folded", tp, record.offset)
            self._failures[_identity(record)] += 1
            await self._seek_back(tp, self.partitions.of(tp.partition), record.timestamp / 1000)
            return
        self._trouble_since.pop(tp.partition, None)
        self._note(tp.partition, reason)
        active.tally.add(tally)
        self.notices.folded(tp.partition, record.offset, tally)
        self.telemetry.folded_records.inc()
        self.telemetry.fold_time.inc(time.thread_time() - began_s)
        self.telemetry.freshness.observe(max(0.0, time.time() - record.timestamp / 1000))

    def _read(self, record: Record) -> tuple[list[Chunk], str | None]:
        """The chunks of a record; or none, and the reason to put it aside."""
        if self._failures and self._failures[_identity(record)] >= TRIES:
            return [], "fold: it raises an exception each time, see the log"
        newest_hour = max(record.timestamp // HOUR_MS, int(time.time()) // 3600) + AHEAD_HOURS
        source = wire.RecordSource(record.partition, self.partitions.table.partitions or 1, newest_hour)
        try:
            return wire.decode(record.value or b"", source), None
        except FormatError as error:
            return [], str(error)

    def _note(self, partition: int, reason: str | None) -> None:
        rule = self._rules[partition]
        rule.note(reason)
        if rule.broken and partition not in self.partitions.stopped:
            self.partitions.stopped[partition] = f"partition {partition}: {rule.broken}"
            self.telemetry.stopped.set(len(self.partitions.stopped))
            logger.critical("no more records are taken: %s", self.partitions.stopped[partition])

    async def _begin_again(self, tp: TP, error: BaseException) -> None:
        """Has a partition read again from its checkpoint, after trouble that may pass."""
        since = self._trouble_since.setdefault(tp.partition, time.monotonic())
        if time.monotonic() - since > PATIENCE_S:
            self.give_up(f"{tp} cannot be folded for {PATIENCE_S:g} s: {error!r}; a new process is to try it")
        logger.error("%s: trying again from the last place, nothing is lost: %r", tp, error)
        self.partitions.active.pop(tp.partition, None)
        await asyncio.sleep(RETRY_S)

    def _compared(self, record: Record, active: ActivePartition, witness: Witness) -> Witness:
        """The witness, after the record's stamp was compared with our clock."""
        after = active.completeness.asked_before(record.offset)
        is_odd = self.partitions.clocks.met(record.partition, record.offset, record.timestamp, after)
        return witness._replace(disputed=True) if is_odd else witness

    async def _seek_back(self, tp: TP, active: ActivePartition, before_s: float) -> None:
        """Asks for the next offset again; what retention has deleted before it could be read is noted as lost.

        Args:
            before_s: stamp of a record behind it, in epoch seconds.
        """
        wanted = active.fold.offset + 1
        offset, sought_s = self._sought.get(tp, (-1, 0.0))
        if offset == wanted and time.monotonic() - sought_s < SEEK_AGAIN_S:
            return
        try:
            await self._seek(tp, active, wanted, before_s)
        except (KafkaError, OSError, TimeoutError, ConsumerNotStarted) as error:
            logger.warning("%s: could not seek back to offset %s, trying again soon: %r", tp, wanted, error)

    async def _seek(self, tp: TP, active: ActivePartition, wanted: int, before_s: float) -> None:
        self._sought[tp] = wanted, time.monotonic()
        is_gone = await self.step_over(tp, active, before_s)
        if self.partitions.active.get(tp.partition) is not active:
            return  # the partition moved meanwhile
        if not is_gone:
            self.telemetry.holes.inc()
            logger.warning("%s: offset %s was skipped, seeking back", tp, wanted)
        await cast(RunConsumer, self.app.consumer).deliver_from(tp, active.fold.offset + 1)

    async def step_over(self, tp: TP, active: ActivePartition, before_s: float = FOREVER_S) -> bool:
        """Skips offsets that never come, because they hold no record or it is lost; returns whether there were any.

        Args:
            before_s: stamp of a record behind them, in epoch seconds.

        Raises:
            KafkaError, OSError, TimeoutError: Kafka did not say.
        """
        wanted = active.fold.offset + 1
        earliest = (await self.app.consumer.earliest_offsets(tp)).get(tp) or 0
        if earliest > wanted and self.partitions.active.get(tp.partition) is active:
            self.partitions.lose(tp.partition, earliest, before_s)
            return True
        first = await self.first_record(tp.partition, wanted)
        if first <= wanted or active.fold.offset + 1 != wanted:
            return False
        logger.warning("%s: offsets %s to %s hold no records, going on behind them", tp, wanted, first - 1)
        active.fold.offset = first - 1
        return True


def _identity(record: Record) -> tuple[TP, int, int, int]:
    """Identifies a record, also among those of a topic that was made anew and gives its offsets out again."""
    return TP(record.topic, record.partition), record.offset, record.timestamp, zlib.crc32(record.value or b"")
