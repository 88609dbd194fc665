"""Reads the changelog into the local store: to its end before a partition is folded, and continuously as a standby.

Called by Faust's recovery (`faust_runtime.tables`), which decides when. Faust's own reading hands on one record after
another, a third of a millisecond each. The newest hours of a partition have a record for every flush of a row: reading
them would take minutes, and a standby could not follow a worker that flushes some thousand rows a second. So a consumer
outside the group takes whole fetches, and "at the end" means its position: compaction may have removed the last record.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from typing import Any

import mode
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from faust.types import TP

from metrics_app.aggregator.origin import AskIdentity, Matching
from metrics_app.aggregator.store import HourStore, rewrite
from metrics_app.aggregator.table import HourlyTable
from metrics_app.errors import Progress
from metrics_app.turns import turn

logger = logging.getLogger(__name__)

FETCH_MS = 250  # longest wait for records; a standby lags at least so much
MOST_RECORDS = 1000  # taken in together; a query waits for so many at most
PORTION_ROWS = 200  # each is checked and compared with the one in the store
PORTION_BYTES = 256 << 10  # taken in before others have their turn: a row of ids has thousands, each an entry
SAY_INTERVAL_S = 5.0
AGAIN_S = 1.0
NO_ANSWER = (KafkaError, OSError, TimeoutError)

Reached = Callable[[TP, int], None]


class Replica(mode.Service):
    """The local copies of one worker, as far as the changelog is concerned.

    Args:
        new_consumer: makes a consumer without a group.
        new_producer: makes an idempotent producer with acks=all.
        ask: which Kafka this is.
    Attributes:
        is_recovering: whether Faust recovers owned partitions now; standbys wait for that.
        standbys: changelog partitions to follow.
        current: standby partitions whose copies have had all there was since they were assigned.
        progress: of the owned partitions that are being recovered.
        positions: of each owned partition the offset that recovery has reached.
        written: rows written to a changelog that was made anew, of each partition.
    """

    def __init__(
        self,
        table: HourlyTable,
        new_consumer: Callable[[], AIOKafkaConsumer],
        new_producer: Callable[[], AIOKafkaProducer],
        ask: AskIdentity,
    ) -> None:
        super().__init__()
        self.table, self.new_consumer, self.new_producer, self.ask = table, new_consumer, new_producer, ask
        self.is_recovering: Callable[[], bool] = lambda: False
        self.standbys: frozenset[TP] = frozenset()
        self.current: set[int] = set()
        self.progress: dict[int, Progress] = {}
        self.positions: dict[int, int] = {}
        self.written: dict[int, int] = {}
        self._era = object()  # a new one after each revoke: records read before must not be written any more

    @property
    def _store(self) -> HourStore:
        return self.table.store

    def revoke(self) -> None:
        """Writes no more, until the next assignment."""
        self._era = object()
        self.standbys = frozenset()
        self.current.clear()
        self.progress.clear()

    def follow(self, tp: TP) -> None:
        """Keeps the copy of a standby partition up to date from now on."""
        self.standbys |= {tp}

    async def recover(self, tps: frozenset[TP], reached: Reached) -> None:
        """Returns when the copies of these partitions have everything up to the end of the changelog.

        Args:
            reached: told the offset that a copy has reached, and in the end that of the changelog.
        """

        def noted(tp: TP, offset: int) -> None:
            self.positions[tp.partition] = offset
            reached(tp, offset)

        era = self._era
        while True:
            try:
                async with self._reader(tps, tps | self.standbys) as reader:
                    await self._read_to_end(reader, era, noted)
                    if await self._write_again(tps, era):
                        await self._read_to_end(
                            reader, era, noted
                        )  # reads what was written, so that the copies lead to its end
                return
            except NO_ANSWER as error:
                logger.warning("recovery cannot read the changelog, trying again: %r", error)
                await asyncio.sleep(AGAIN_S)

    async def _read_to_end(self, reader: AIOKafkaConsumer, era: object, reached: Reached) -> None:
        ends = await reader.end_offsets(reader.assignment())
        begun = {tp: await reader.position(tp) for tp in ends}
        started = time.monotonic()
        behind = {tp for tp in ends if begun[tp] < ends[tp]}
        for tp in ends.keys() - behind:
            self._arrived(tp, ends[tp], reached)
        while behind:
            for tp, position in (await self._read(reader, era)).items():
                if tp in behind:
                    reached(tp, position - 1)
                    done, total = position - begun[tp], ends[tp] - begun[tp]
                    self.progress[tp.partition] = _progress(tp, done, total, time.monotonic() - started)
                    if position >= ends[tp]:
                        behind.discard(tp)
                        self._arrived(tp, ends[tp], reached)

    def _arrived(self, tp: TP, end: int, reached: Reached) -> None:
        reached(tp, end - 1)
        self.progress.pop(tp.partition, None)
        self._store.settle_doubts(tp.partition)
        self._store.note_whole(tp.partition)

    async def _write_again(self, tps: Collection[TP], era: object) -> bool:
        """Writes copies to a changelog that was made anew and so lacks their rows; whether there were any."""
        detached = [tp for tp in sorted(tps) if self._store.is_detached(tp.partition)]
        if not detached:
            return False
        async with self.new_producer() as producer:
            for tp in detached:
                await rewrite(self._store, tp, producer, lambda: self._era is era, self._note_written)
        return True

    def _note_written(self, tp: TP, rows: int) -> None:
        self.written[tp.partition] = rows

    @mode.Service.task
    async def _follow(self) -> None:
        while not self.should_stop:
            standbys, era = self.standbys, self._era
            if not standbys or self.is_recovering():
                await self.sleep(FETCH_MS / 1000)
                continue
            try:
                async with self._reader(standbys, standbys) as reader:
                    await self._read_on(reader, standbys, era)
            except NO_ANSWER as error:
                logger.warning("standbys cannot read the changelog, trying again: %r", error)
                await self.sleep(AGAIN_S)

    async def _read_on(self, reader: AIOKafkaConsumer, standbys: frozenset[TP], era: object) -> None:
        ends = await reader.end_offsets(standbys)
        while self.standbys is standbys and not self.should_stop:
            for tp, position in (await self._read(reader, era)).items():
                if position >= ends[tp] and tp.partition not in self.current:
                    self._store.note_whole(tp.partition)
                    self.current.add(tp.partition)

    async def _read(self, reader: AIOKafkaConsumer, era: object) -> dict[TP, int]:
        """One fetch into the store; where each partition will be read on. Nothing, when partitions were revoked."""
        fetched = await reader.getmany(timeout_ms=FETCH_MS, max_records=MOST_RECORDS)
        positions = {tp: await reader.position(tp) for tp in reader.assignment()}
        if self._era is not era:
            await self.sleep(FETCH_MS / 1000)
            return {}
        for tp, records in fetched.items():
            for those, reached in _portions(records, positions[tp] - 1):
                if self._era is not era:
                    return {}
                self._store.merge(TP(*tp), those, reached)
                await turn()  # records fetched ahead come without a wait, so other tasks would get no turn
        return {TP(*tp): position for tp, position in positions.items()}

    @asynccontextmanager
    async def _reader(self, tps: Collection[TP], copies: Collection[TP]) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer of these partitions, each from where its copy ends, once the copies match the changelog."""
        reader = self.new_consumer()
        try:
            await reader.start()
            await asyncio.sleep(0)  # its tasks begin: cancelled before that, by stop(), they would cancel us
            reader.assign(list(tps))
            self.table.rebuild_expired_early(copies)
            await Matching(self._store, self.ask).match(reader, copies)
            reader.assign(list(tps))
            for tp in tps:
                reader.seek(tp, self._store.reached(tp).offset + 1)
            yield reader
        finally:
            await reader.stop()

    @mode.Service.task
    async def _say_progress(self) -> None:
        while not self.should_stop:
            await self.sleep(SAY_INTERVAL_S)
            for progress in self.progress.values():
                logger.info("%s", progress)


def _portions(records: list[Any], reached: int) -> Iterator[tuple[list[Any], int]]:
    """Records in portions of about `PORTION_BYTES`, each with the offset they lead to: `reached` for the last one."""
    start = size = 0
    for at, record in enumerate(records[:-1]):
        size += len(record.value or b"")
        if size >= PORTION_BYTES or at - start >= PORTION_ROWS:
            yield records[start : at + 1], record.offset
            start, size = at + 1, 0
    yield records[start:], reached


def _progress(tp: TP, done: int, total: int, took_s: float) -> Progress:
    eta_s = round(took_s * (total - done) / done, 1) if done > 0 else None
    return Progress(tp.partition, done, total, eta_s)
