"""Faust's consumer, changed: it hands samples on in runs and commits how far they are folded.

Called by `app`, `aggregator` and `kafka.connections`.

Faust spends a third of a millisecond on every message it hands on: four tasks, a queue, two locks. So what a fetch has
brought of a partition travels as one message, a run, whose value is the list of its records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka
from faust.types import TP

from metrics_app.faust_runtime import silence
from metrics_app.faust_runtime.last_records import LastRecords

# A fetch that waits for partitions without anything new holds up the others, for a broker is asked one thing at a time.
# This is less than what a fetch brings takes to be folded; an idle consumer asks 20 times a second.
FETCH_WAIT_MS = 50
REJOIN_S = 10.0
RUN_BYTES = (
    512 << 10
)  # of record values, after which a run ends; the size of the largest record, as a run has at least one


class Record(Protocol):
    """A record as aiokafka has it.

    Attributes:
        timestamp: log-append time, epoch milliseconds.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes | None


def runs(records: Iterable[Any]) -> list[Any]:
    """The records as runs: each a record with the offset of its first one and, as its value, the list of all."""
    found: list[list[Any]] = []
    room = 0
    for record in records:
        size = len(record.value or b"")
        if not found or size > room:
            found.append([])
            room = RUN_BYTES
        room -= size
        found[-1].append(record)
    return [replace(run[0], value=run) for run in found]


class ReadOffsets(dict[TP, int | None]):
    """Faust's note of the last record it handed on, by partition; it drops every record below.

    A seek sets it back, and records fetched before the seek took effect set it forward again: the records that were
    sought would be dropped, time after time while there is load. So from a seek until the sought record comes
    there is no note, and nothing is dropped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sought: dict[TP, int] = {}

    def __getitem__(self, tp: TP) -> int | None:
        return None if tp in self.sought else self.get(tp)

    def __setitem__(self, tp: TP, offset: int | None) -> None:
        super().__setitem__(tp, offset)
        if offset is not None and self.sought.get(tp) == offset:
            del self.sought[tp]

    def pop(self, tp: TP, default: Any = None) -> Any:
        """Takes the note away, together with the partition."""
        self.sought.pop(tp, None)
        return super().pop(tp, default)


class _Thread(aiokafka.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # Faust has 1.5 s, and no setting for it
        return silence.bounded(consumer, self.consumer.app.conf.broker_session_timeout, LastRecords(consumer).ask_again)


class RunConsumer(aiokafka.Consumer):
    """The consumer of an app that folds one topic.

    Nothing is acknowledged to it: a partition's committed offset is its durable place, or what it was.

    Attributes:
        topic: handed on in runs; records of other topics, the changelog's, one by one.
        committable: the offset to commit of a partition of it, None for one without.
    """

    topic: str
    committable: Callable[[int], int | None]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._read_offset = ReadOffsets()

    async def deliver_from(self, tp: TP, offset: int) -> None:
        """Has the records from an offset on delivered again, whatever is on its way from Kafka."""
        await self.seek(tp, offset)
        cast(ReadOffsets, self._read_offset).sought[tp] = offset

    def began_at(self, tp: TP) -> int:
        """The offset from which Faust began to read; 0 when the group had committed none."""
        return self._committed_offset.get(tp) or 0

    async def offsets_for_times(self, appended_ms: Mapping[TP, int]) -> dict[TP, int | None]:
        """The first offset of each partition appended at a time (epoch milliseconds) or later; None if there is none.

        Raises:
            KafkaError, TimeoutError: Kafka did not say.
        """
        thread = cast(Any, self)._thread  # Faust does not hand this question through
        found = await thread.call_thread(thread._ensure_consumer().offsets_for_times, dict(appended_ms))
        return {tp: found[tp] and found[tp].offset for tp in appended_ms}

    async def rejoin(self) -> None:
        """Looks the topics up again and has the group assign its partitions once more.

        Raises:
            ConsumerNotStarted: it is not in the group.
            KafkaError, TimeoutError: it could not be asked.
        """
        thread = cast(Any, self)._thread
        kafka = thread._ensure_consumer()

        async def ask() -> None:
            await kafka._client.force_metadata_update()
            kafka._coordinator.request_rejoin()

        async with asyncio.timeout(REJOIN_S):
            await thread.call_thread(ask)

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109  # Faust's
        fetched: Any = await super()._getmany(active_partitions, timeout)
        return {tp: runs(those) if tp.topic == self.topic else those for tp, those in fetched.items()}

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Does nothing: a run begins beyond the first offset of the run before it, and that is no gap."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        try:
            return (tp for tp in self.assignment() if tp.topic == self.topic)
        except ConsumerNotStarted:  # the worker ends before it has begun
            return iter(())

    def _new_offset(self, tp: TP) -> int | None:
        return self.committable(tp.partition)
