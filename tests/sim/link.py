"""The way from a worker to the broker: a producer whose records arrive late, arrive without an ack, or never arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaConnectionError

SESSION_S = 10.0
DEADLINE_S = 8.0
LATE_S = SESSION_S + DEADLINE_S  # the product's bound: later than that no worker presumed dead writes any more

Append = Callable[[str, int, bytes, bytes], int]


BATCH_RECORDS = 2  # few, so that a flush takes several


class Batch:
    """Records that arrive together or not at all."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes]] = []

    def append(self, *, timestamp: int | None, key: bytes, value: bytes) -> bool:  # as aiokafka's
        """False when the batch is full."""
        is_room = len(self.records) < BATCH_RECORDS
        if is_room:
            self.records.append((key, value))
        return is_room

    def close(self) -> None:
        """Nothing more comes."""


@dataclass(eq=False)
class Sent:
    """A batch on its way; `offset`, of its first record, and Kafka's stamp, once it is in the log."""

    topic: str
    partition: int
    records: list[tuple[bytes, bytes]]
    acked: asyncio.Future[Any]
    offset: int | None = None
    stamp_ms: int = 0


@dataclass(eq=False)
class Link:
    """One worker's connection to the broker.

    Attributes:
        now_s: the broker's clock.
        mode: "fast" (lands and is acknowledged at once), "slow" (each step is told), "down".
        wire: batches sent and not acknowledged, oldest first.
        lost: left behind by producers given up or crashed, with the time from which on they cannot arrive any more.
    """

    append: Append
    now_s: Callable[[], float]
    mode: str = "fast"
    wire: list[Sent] = field(default_factory=list)
    lost: list[tuple[float, Sent]] = field(default_factory=list)

    def producer(self) -> Producer:
        """A new producer over this link."""
        return Producer(self)

    def land(self, count: int, *, ack: bool) -> None:
        """The broker takes the oldest batches in, and says so or not; acks of those it took before come first."""
        for sent in self.wire[:count]:
            self._land(sent)
            if ack and not sent.acked.done():
                sent.acked.set_result(SimpleNamespace(offset=sent.offset, timestamp=sent.stamp_ms))
        if ack:
            del self.wire[:count]

    def land_lost(self, count: int) -> None:
        """Records nobody waits for arrive after all."""
        for _, sent in self.lost[:count]:
            self._land(sent)
        del self.lost[:count]

    def _land(self, sent: Sent) -> None:
        if sent.offset is None:
            sent.stamp_ms = int(self.now_s() * 1000)
            sent.offset, *_ = [self.append(sent.topic, sent.partition, *each) for each in sent.records]

    def give_up(self, until_s: float) -> None:
        """What is on the wire is left to itself."""
        for sent in self.wire:
            if not sent.acked.done():
                sent.acked.set_exception(KafkaConnectionError("given up"))
            if sent.offset is None:
                self.lost.append((until_s, sent))
        self.wire = []

    def forget(self, now_s: float) -> None:
        """What has not arrived by now never will."""
        self.lost = [(until_s, sent) for until_s, sent in self.lost if until_s > now_s]


class OneRun:
    """A stream as Faust gives it to an agent, with one run of records in it."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.channel = SimpleNamespace(queue=SimpleNamespace(empty=lambda: True))

    def noack(self) -> OneRun:
        """As Faust's."""
        return self

    async def events(self) -> AsyncIterator[Any]:
        """As Faust's."""
        yield SimpleNamespace(message=self.run)


class Producer:
    """What the flusher uses of AIOKafkaProducer, and what `producer.abandon` touches inside it."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._sender = SimpleNamespace(sender_task=None)
        self._message_accumulator = self

    async def start(self) -> None:
        """Connects."""
        if self.link.mode == "down":
            raise KafkaConnectionError("down")

    async def stop(self) -> None:
        """Ends."""

    def create_batch(self) -> Batch:
        """An empty one."""
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        """A future of the ack."""
        if self.link.mode == "down":
            raise KafkaConnectionError("down")
        sent = Sent(topic, partition, batch.records, asyncio.get_running_loop().create_future())
        self.link.wire.append(sent)
        if self.link.mode == "fast":
            self.link.land(len(self.link.wire), ack=True)
        return sent.acked

    async def send_and_wait(self, topic: str, value: bytes, **_headers: Any) -> Any:
        """The ack of one record."""
        batch = Batch()
        batch.append(timestamp=None, key=b"", value=value)
        return await (await self.send_batch(batch, topic, partition=0))

    def fail_all(self, _error: BaseException) -> None:
        """Called by `producer.abandon`."""
        self.link.give_up(asyncio.get_running_loop().time() + LATE_S)
