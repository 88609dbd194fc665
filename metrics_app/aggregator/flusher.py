"""Makes folded rows durable: changelog first, then the local store, then the place, which is what gets committed.

The order is what a crash between any two steps leaves repairable: rows in the changelog carry the offset up to which
they are complete, so a replay skips them; the place row, sent only after all rows are acknowledged, says from where on
a replay is needed at all; the local store is never ahead of the changelog (docs/adr/0002).

A Kafka that does not acknowledge is waited for, and what was taken is given back. Whatever else is raised in a flush
leaves it open what was taken and what was written, so the process ends at once, without another flush: no place may
pass a row that was not written.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import mode
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.types import TP

from metrics_app.aggregator import fencing
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.dead_letters import LEFT_OUT
from metrics_app.aggregator.fencing import Gap, ReadChangelog, Records, Slice, Span
from metrics_app.aggregator.fold import Flush, Tally
from metrics_app.aggregator.origin import Reached
from metrics_app.aggregator.partitions import Active, Partitions
from metrics_app.aggregator.table import HourlyTable
from metrics_app.faust_runtime.producer import abandon
from metrics_app.process import EXIT_CRASHED, leave
from metrics_app.telemetry import Telemetry

logger = logging.getLogger(__name__)

PLACE_INTERVAL_S = 5.0  # an idle partition still says this often how far it is: standbys and recovery rely on it
RETRY_S = 0.5
READ_AGAIN_S = 10.0  # a gap that could not be read waits so long; the flushes that wait for it do not

Sent = tuple[int, asyncio.Future[Any]]  # how many records a batch has, and its ack


class Taken(NamedTuple):
    """What one flush takes from one partition.

    Attributes:
        again: rows, as they are stored, to be written once more: their hour has closed, or an older state came last.
    """

    partition: int
    active: Active
    flush: Flush
    tally: Tally
    seal: Slice
    again: Records


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
        self._last_place_s: dict[int, float] = {}

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
        for one in taken:
            self._settle(one, sent[one.partition])
        await self._read_gaps(taken)
        self.failing_since = None
        self.telemetry.flush_latency.observe(time.monotonic() - started)
        self.telemetry.flushes.inc()
        self.telemetry.rows_in_memory.set(self.partitions.cached_rows())

    async def _acknowledged(self, taken: list[Taken]) -> dict[int, list[Span]] | None:
        """The changelog offsets that each partition's records got; None, and all is given back, if Kafka failed."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self.deadline_s):
                return await self._replicate(taken)
        except (KafkaError, TimeoutError, OSError) as error:
            logger.warning("a flush was not acknowledged, its rows stay for the next one: %r", error)
            self._give_back(taken)
            self.failing_since = self.failing_since or started
        except BaseException:  # cancelled with the agent that waits for it; the last flush of the worker is to come
            self._give_back(taken)
            raise
        await self._drop_producer()
        await asyncio.sleep(RETRY_S)
        return None

    def _is_due(self, partition: int, active: Active) -> bool:
        fold = active.fold
        idle_s = time.monotonic() - self._last_place_s.get(partition, 0.0)
        is_due = bool(fold.dirty) or fold.offset != fold.place.offset or idle_s >= PLACE_INTERVAL_S
        return is_due or fencing.is_due(active) or bool(self.table.store.outvoted[partition])

    def _take_all(self) -> list[Taken]:
        taken, room = [], fencing.MOST_ROWS
        for partition, active in self.partitions.active.items():
            if self._is_due(partition, active):
                taken.append(self._take(partition, active, room))
                room -= len(taken[-1].again)
        return taken

    def _take(self, partition: int, active: Active, room: int) -> Taken:
        sealing = fencing.next_slice(self.table.store, partition, active, room)
        stored = dict([*sealing.rows, *self._outvoted(partition, room - len(sealing.rows))])
        flush = active.fold.take(active.as_of(self.partitions.clocks.now().own_s))
        tally, active.tally = active.tally, Tally()
        # what goes out in this flush anyway is newer than what the store has
        again = [(row_key, value) for row_key, value in stored.items() if row_key not in flush.taken]
        flush = flush._replace(place=flush.place._replace(sealed=sealing.sealed))
        return Taken(partition, active, flush, tally, sealing, again)

    def _outvoted(self, partition: int, most: int) -> Records:
        store = self.table.store
        found = {
            row_key: store.read(partition, row_key) for row_key in sorted(store.outvoted[partition])[: max(0, most)]
        }
        store.outvoted[partition] -= {row_key for row_key, value in found.items() if value is None}  # expired
        return [(row_key, value) for row_key, value in found.items() if value is not None]

    def _give_back(self, taken: list[Taken]) -> None:
        for one in taken:
            one.active.fold.failed(one.flush)
            one.active.tally.add(one.tally)

    async def _replicate(self, taken: list[Taken]) -> dict[int, list[Span]]:
        """Sends rows, awaits their acks, then the places; returns the changelog offsets that each partition's got."""
        producer = await self._connected()
        written = {one.partition: [*one.again, *one.flush.rows] for one in taken}
        places = {one.partition: [(rows.PLACE_KEY, rows.encode_place(one.flush.place))] for one in taken}
        sent = await self._send(producer, written)
        for partition, spans in (await self._send(producer, places)).items():
            sent[partition] += spans
        return sent

    async def _send(self, producer: AIOKafkaProducer, records: dict[int, Records]) -> dict[int, list[Span]]:
        """Sends records to their partitions and returns, once all are acknowledged, the offsets they got."""
        begun = self.partitions.clocks.now()
        sent = {partition: await self._batches(producer, partition, those) for partition, those in records.items()}
        await asyncio.gather(*(ack for batches in sent.values() for _, ack in batches))
        spans = {
            partition: [Span(ack.result().offset, count, ack.result().timestamp) for count, ack in batches]
            for partition, batches in sent.items()
        }
        for partition, those in spans.items():
            if those:
                self.partitions.clocks.appended(partition, those[-1].appended_ms, begun)
        return spans

    async def _batches(self, producer: AIOKafkaProducer, partition: int, records: Records) -> list[Sent]:
        """Sends records in batches made here: a `send`, and a future, for each would cost ten times as much."""
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

    def _reached(self, changelog_tp: TP, active: Active, sent: list[Span]) -> Reached | None:
        """How far in the changelog the local copy has everything; None when that stays what it was.

        Between our records may lie some of others, with newer states than ours (`gaps`). Before what we have nothing
        can come: then it is another changelog, and what is to become of the copy is for the next assignment to find.
        """
        start = self.table.store.reached(changelog_tp).offset + 1
        first, stop = min(span.first for span in sent), max(span.stop for span in sent)
        ended = Reached(stop - 1, max(span.appended_ms for span in sent))
        if first < start:
            self.distrust(f"{changelog_tp} gives offsets from {first} on, and had given those up to {start - 1}")
            return None
        if active.gap is None and (first, stop - first) == (start, sum(span.records for span in sent)):
            return ended
        active.gap = active.gap or Gap(start, stop)
        active.gap.stop, active.gap.stop_ms = stop, ended.appended_ms
        return None

    async def _read_gaps(self, taken: list[Taken]) -> None:
        for one in taken:
            gap, changelog_tp = one.active.gap, self.table.changelog_tp(one.partition)
            if gap is None or self.should_stop or time.monotonic() < gap.not_before:
                continue
            try:
                records = await self.read_changelog(changelog_tp, gap.start, gap.stop)
            except (KafkaError, TimeoutError, OSError) as error:
                logger.warning("%s: could not read from %s to %s: %r", changelog_tp, gap.start, gap.stop, error)
                gap.not_before = time.monotonic() + READ_AGAIN_S
                continue
            if self.partitions.active.get(one.partition) is one.active:
                gap.take(self.table.store, one.partition, records)
                self._close(changelog_tp, one.active, gap)

    def _close(self, changelog_tp: TP, active: Active, gap: Gap) -> None:
        """Claims the offset up to which a gap was read, once our own place has passed all that was in it."""
        place = active.fold.place
        if gap.newest <= (place.epoch, place.offset):
            self.table.store.write(changelog_tp, [], gap.stop - 1, gap.stop_ms)
            active.gap = None

    def _settle(self, taken: Taken, sent: list[Span]) -> None:
        self._count(taken.tally)
        if self.partitions.active.get(taken.partition) is not taken.active:
            return  # moved while the acks were on their way: the changelog has the rows, whoever owns it replays
        place_row = (rows.PLACE_KEY, rows.encode_place(taken.flush.place))
        changelog_tp = self.table.changelog_tp(taken.partition)
        reached = self._reached(changelog_tp, taken.active, sent)
        written = [*taken.flush.rows, place_row]
        self.table.store.write(changelog_tp, written, *(reached or (None, 0)))
        self.table.store.outvoted[taken.partition] -= {row_key for row_key, _ in [*taken.again, *taken.flush.rows]}
        taken.active.fold.flushed(taken.flush)
        taken.active.seal_from = taken.seal.go_on_from
        self.telemetry.flushed_rows.inc(len(taken.flush.rows))
        self.telemetry.sealed_rows.inc(len(taken.again))
        self._last_place_s[taken.partition] = time.monotonic()
        # the clock as of the flush: what was folded meanwhile is not durable, and its replay needs what it needed
        self.partitions.expire(taken.partition, taken.flush.place)

    def _count(self, tally: Tally) -> None:
        """Counts values once they are durable; what a rebalance drops from memory is folded, and counted, elsewhere."""
        telemetry = self.telemetry
        telemetry.folded.inc(tally.folded)
        telemetry.late.inc(tally.late)
        telemetry.unfenced.inc(tally.unfenced)
        telemetry.expired.inc(tally.expired)
        telemetry.overfull.inc(tally.overfull)
        telemetry.ahead.inc(tally.ahead)
        telemetry.duplicate.labels("number").inc(tally.duplicate_numbers)
        telemetry.duplicate.labels("id").inc(tally.duplicate_ids)
        telemetry.duplicate.labels("overlap").inc(tally.overlapping)

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
