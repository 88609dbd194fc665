"""Makes folded rows durable: first in the changelog, then in the local store, then as the checkpoint that is committed.

Called by `role`, which starts it; `agent` asks for a flush when too many rows have changed, and for dead letters.

A crash between any two steps can be repaired (docs/adr/0002). A row in the changelog carries the offset up to which it
is complete, so a replay skips what is in it. The checkpoint is sent after all rows are acknowledged, and says from
where a replay is needed. The local store is never ahead of the changelog.

If Kafka does not acknowledge a flush, it is given back and goes out with the next one. Any other exception leaves it
open what was taken and what was written. Then the process ends at once, without another flush: no checkpoint may pass a
row that was not written.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, NoReturn

import mode
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from metrics_app.aggregator import fencing
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.active import ActivePartition, FlushPart
from metrics_app.aggregator.dead_letters import LEFT_OUT
from metrics_app.aggregator.fencing import Acknowledged, DistrustError, Fence, ReadChangelog, Records
from metrics_app.aggregator.origin import Reached
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.table import HourlyTable
from metrics_app.aggregator.tally import Tally
from metrics_app.faust_runtime.producer import abandon
from metrics_app.process import EXIT_CRASHED, leave
from metrics_app.telemetry import Telemetry
from metrics_app.turns import Slice, turn

logger = logging.getLogger(__name__)

CHECKPOINT_INTERVAL_S = 5.0  # an idle partition still says this often how far it is: standbys and recovery rely on it
RETRY_S = 0.5

Sent = tuple[int, asyncio.Future[Any]]  # how many records a batch has, and its ack


class Flusher(mode.Service):
    """Flushes all owned partitions every `interval_s`, or at once on request, one flush at a time.

    Args:
        deadline_s: longest wait for the acks of a flush, below the session timeout: a worker presumed dead must not
            write any more.
        new_producer: makes an idempotent producer with acks=all; used again after a failure.
        read_changelog: reads what others wrote between our records.
        give_up: ends the process, with that sentence.
    Attributes:
        distrust: told why when the changelog cannot be the one that the local copies are of.
        failing_since: monotonic time of the first failure since the last flush that succeeded; None when it did.
    """

    def __init__(
        self,
        table: HourlyTable,
        partitions: Partitions,
        telemetry: Telemetry,
        interval_s: float,
        deadline_s: float,
        new_producer: Callable[[], AIOKafkaProducer],
        read_changelog: ReadChangelog,
        give_up: Callable[[str], NoReturn] = lambda why: leave(EXIT_CRASHED, why),
    ) -> None:
        super().__init__()
        self.table = table
        self.partitions = partitions
        self.telemetry = telemetry
        self.interval_s = interval_s
        self.deadline_s = deadline_s
        self.new_producer = new_producer
        self.read_changelog = read_changelog
        self.give_up = give_up
        self.producer: AIOKafkaProducer | None = None
        self.distrust: Callable[[str], None] = logger.error
        self.failing_since: float | None = None
        self._one_at_a_time = asyncio.Lock()
        self._one_producer = asyncio.Lock()
        self._last_checkpoint_s: dict[int, float] = {}

    @mode.Service.task
    async def _flush_regularly(self) -> None:
        while not self.should_stop:
            await self.sleep(self.interval_s)
            if not self.should_stop:
                await self.flush()

    async def on_stop(self) -> None:
        """Flushes what is left."""
        await self.flush()
        await self._drop_producer()

    async def flush(self) -> None:
        """One flush of everything that changed; after a failure of Kafka the changes stay for the next one."""
        async with self._one_at_a_time:
            try:
                await self._flush()
            except Exception as error:
                logger.exception("a flush failed")
                self.give_up(f"a flush failed: {error!r}; what was not flushed is replayed by the next process")

    async def _flush(self) -> None:
        started = time.monotonic()
        taken = self._take_all()
        sent = await self._acknowledged(taken) if taken else None
        if sent is None:
            return
        await self._settle_all(taken, sent)
        await self._read_gaps(taken)
        self.failing_since = None
        self.telemetry.flush_latency.observe(time.monotonic() - started)
        self.telemetry.flushes.inc()
        self.telemetry.rows_in_memory.set(self.partitions.cached_rows())

    async def _acknowledged(self, taken: list[FlushPart]) -> dict[int, list[Acknowledged]] | None:
        """Where the changelog has the records of each partition; None if Kafka failed, and then all is given back."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self.deadline_s):
                return await self._replicate(taken)
        except (KafkaError, TimeoutError, OSError) as error:
            logger.warning("a flush was not acknowledged, its rows stay for the next one: %r", error)
            self._give_back(taken)
            self.telemetry.flush_failures.inc()
            self.failing_since = self.failing_since or started
        except (
            BaseException
        ):  # cancelled together with the agent that waits for it; the worker's last flush comes later
            self._give_back(taken)
            raise
        await self._drop_producer()
        await asyncio.sleep(RETRY_S)
        return None

    def _is_due(self, active: ActivePartition) -> bool:
        idle_s = time.monotonic() - self._last_checkpoint_s.get(active.number, 0.0)
        return active.is_changed or idle_s >= CHECKPOINT_INTERVAL_S or active.fence.is_due(active.fold)

    def _take_all(self) -> list[FlushPart]:
        taken, room = [], fencing.MOST_ROWS
        own_s = self.partitions.clocks.now().own_s
        for active in self.partitions.active.values():
            if self._is_due(active):
                taken.append(active.take(own_s, room))
                room -= len(taken[-1].repeat.rows)
        return taken

    def _give_back(self, taken: list[FlushPart]) -> None:
        for one in taken:
            one.active.give_back(one)

    async def _replicate(self, taken: list[FlushPart]) -> dict[int, list[Acknowledged]]:
        """Sends rows, awaits their acks, then sends the checkpoints; returns where each partition has its records."""
        producer = await self._connected()
        await _encode(taken)
        written = {one.active.number: one.rows for one in taken}
        checkpoints = {
            one.active.number: [(rows.CHECKPOINT_KEY, rows.encode_checkpoint(one.flush.checkpoint))] for one in taken
        }
        sent = await self._send(producer, written)
        for partition, spans in (await self._send(producer, checkpoints)).items():
            sent[partition] += spans
        return sent

    async def _send(self, producer: AIOKafkaProducer, records: dict[int, Records]) -> dict[int, list[Acknowledged]]:
        """Sends records to their partitions and returns, once all are acknowledged, the offsets they got."""
        begun = self.partitions.clocks.now()
        sent = {partition: await self._batches(producer, partition, those) for partition, those in records.items()}
        await asyncio.gather(*(ack for batches in sent.values() for _, ack in batches))
        spans = {
            partition: [Acknowledged(ack.result().offset, count, ack.result().timestamp) for count, ack in batches]
            for partition, batches in sent.items()
        }
        for partition, those in spans.items():
            if those:
                self.partitions.clocks.appended(partition, those[-1].appended_ms, begun)
        return spans

    async def _batches(self, producer: AIOKafkaProducer, partition: int, records: Records) -> list[Sent]:
        """Sends records in batches made here: a `send` and a future for each record would cost ten times as much."""
        sent: list[Sent] = []
        at = 0
        while at < len(records):
            batch, start = producer.create_batch(), at
            while at < len(records) and batch.append(timestamp=None, key=records[at][0], value=records[at][1]):
                at += 1
            batch.close()
            ack = await producer.send_batch(batch, self.table.changelog_topic_name, partition=partition)
            sent.append((at - start, ack))
        return sent

    async def _read_gaps(self, taken: list[FlushPart]) -> None:
        for active in (one.active for one in taken):
            fence, gap = active.fence, active.fence.gap_to_read()
            if gap is None or self.should_stop:
                continue
            try:
                records = await self.read_changelog(fence.tp, gap.start, gap.stop)
            except (KafkaError, TimeoutError, OSError) as error:
                logger.warning("%s: could not read from %s to %s: %r", fence.tp, gap.start, gap.stop, error)
                fence.unreadable(gap)
                continue
            if self._is_ours(active):
                fence.close(gap, records, active.fold.checkpoint.version)

    def _is_ours(self, active: ActivePartition) -> bool:
        return self.partitions.active.get(active.number) is active

    async def _settle_all(self, taken: list[FlushPart], sent: dict[int, list[Acknowledged]]) -> None:
        """Notes of each partition that its part is in the changelog, also when it is cancelled meanwhile."""
        left = [*taken]
        try:
            while left:
                one = left.pop()
                self._settle(one, sent[one.active.number])
                await turn()
        finally:
            for one in left:
                self._settle(one, sent[one.active.number])

    def _settle(self, taken: FlushPart, sent: list[Acknowledged]) -> None:
        self._count(taken.tally)
        active, checkpoint = taken.active, taken.flush.checkpoint
        self.telemetry.folded_by_partition.labels(str(active.number)).inc(taken.tally.folded)
        if not self._is_ours(active):
            return  # moved while the acks were on their way: the changelog has the rows, whoever owns it replays
        written = [*taken.flush.rows, (rows.CHECKPOINT_KEY, rows.encode_checkpoint(checkpoint))]
        self.table.store.write(active.fence.tp, written, *(self._reached(active.fence, sent) or (None, 0)))
        active.settle(taken)
        self.telemetry.flushed_rows.inc(len(taken.flush.rows))
        self.telemetry.sealed_rows.inc(len(taken.repeat.rows))
        self._last_checkpoint_s[active.number] = time.monotonic()
        # by the clock of this flush: records folded since are not durable, and their replay needs the same rows again
        self.partitions.expire(active.number, checkpoint)

    def _reached(self, fence: Fence, sent: list[Acknowledged]) -> Reached | None:
        try:
            return fence.reached(sent)
        except DistrustError as error:
            self.distrust(str(error))
            return None

    def _count(self, tally: Tally) -> None:
        """Counts values that are durable; what a rebalance drops from memory is counted by the next owner."""
        tally.count(self.telemetry)

    async def _connected(self) -> AIOKafkaProducer:
        async with self._one_producer:
            if self.producer is None:
                producer = self.new_producer()
                try:
                    await producer.start()
                except BaseException:
                    await abandon(producer)
                    raise
                self.producer = producer
            return self.producer

    async def dead_letter(self, topic: str, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        """Puts a record aside; returns once that is durable, and keeps trying until then.

        A record that is too large for the topic is left out of its letter, which still says where it was.
        """
        while not self.should_stop:
            try:
                producer = await self._connected()
                await producer.send_and_wait(topic, value, headers=headers)
                return
            except (KafkaError, TimeoutError, OSError) as error:
                logger.warning("a dead letter was not acknowledged, trying again: %r", error)
                if isinstance(error, MessageSizeTooLargeError) and value:
                    value, headers = b"", [*headers, (LEFT_OUT, str(len(value)).encode())]
                await self._drop_producer()
                await asyncio.sleep(RETRY_S)
        await asyncio.Event().wait()  # the worker stops; whoever gets the partition next puts the record aside

    async def _drop_producer(self) -> None:
        producer, self.producer = self.producer, None
        if producer is not None:
            await abandon(producer)


async def _encode(taken: list[FlushPart]) -> None:
    a_slice = Slice()
    for one in taken:
        for _ in one.flush.encoding():
            if a_slice.is_over:
                await a_slice.rest()
