"""Keeps a producer connected to Kafka, and connects a new one when it fails.

Called by `publisher`.

One whose acks stay away, or that failed for good, is thrown away with all it holds, and another made. An idempotent
aiokafka producer left alone would retry for ever, and deliver after an outage what was refused, and sent again, long
ago; and one of whose batches failed for good fails every later one, for a gap in its sequence numbers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

import mode
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from metrics_app.clocks import Clocks
from metrics_app.errors import BrokerError
from metrics_app.faust_runtime.producer import abandon
from metrics_app.kafka import connections, reaching, topics
from metrics_app.settings import Settings
from metrics_app.telemetry import Telemetry
from metrics_app.wire.record import encode

logger = logging.getLogger(__name__)

CONNECT_S = 5.0
ASK_AGAIN_S = 5.0
LOG_APPEND_TIME = 1
PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0)  # between the beginnings of attempts to connect; the last one stays
MIN_PAUSE_S = 0.1


class Connection(mode.Service):
    """Kafka's samples topic, as long as it is there; never holds up its own start."""

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        super().__init__()
        self._settings = settings
        self._telemetry = telemetry
        self.clocks = Clocks(settings.clock_tolerance_s, telemetry, "collector")
        self._producer: Any = None
        self._reason = "not connected yet"
        self._lost = asyncio.Event()
        self._topics_checked = False

    def problem(self) -> str | None:
        """Why nothing can be sent now; None: Kafka is connected."""
        return None if self._producer is not None else f"Kafka at {self._settings.kafka}: {self._reason}"

    async def send(self, partition: int, record: bytes) -> str | None:
        """None when Kafka has acknowledged the record, else why it is not known to be there."""
        producer, started = self._producer, time.perf_counter()
        try:
            async with asyncio.timeout(connections.PATIENCE * self._settings.request_deadline_s):
                await self._append(producer, partition, record)
        except (KafkaError, TimeoutError) as error:
            self._telemetry.unacknowledged.inc()
            self._lose(producer, error)
            return f"Kafka at {self._settings.kafka}: {self._reason}"
        self._telemetry.produced.inc()
        self._telemetry.ack_latency.observe(time.perf_counter() - started)
        return None

    async def on_stop(self) -> None:
        """Disconnects; what is still being sent fails."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await abandon(producer)

    @mode.Service.task
    async def _stay_connected(self) -> None:
        attempt = 0
        while not self.should_stop:
            began = time.monotonic()
            try:
                producer = await self._connect()
            except (KafkaError, BrokerError, OSError, TimeoutError) as error:
                self._say(error)
            else:
                logger.info("connected to Kafka at %s", self._settings.kafka)
                self._lost.clear()
                self._producer, attempt = producer, 0
                await self._lost.wait()
                await abandon(producer)
            # an attempt that took its time was pause enough: what Kafka does meanwhile is to be seen at once
            await self.sleep(max(MIN_PAUSE_S, began + PAUSES_S[min(attempt, len(PAUSES_S) - 1)] - time.monotonic()))
            attempt += 1

    async def _connect(self) -> Any:
        producer = None
        try:
            async with asyncio.timeout(CONNECT_S):
                # of several brokers, one that has just answered: another may be down without a word
                server = await reaching.meet(self._settings)
                # response times as float64 hardly shrink: compressing them was half of a worker's CPU
                producer = connections.producer(self._settings, compression_type=None, bootstrap_servers=[server])
                await producer.start()
            if not self._topics_checked:
                await topics.ensure(self._settings)
                self._topics_checked = True
            async with asyncio.timeout(CONNECT_S):
                self.clocks.keep(())  # there may be other brokers now
                await self._ask_the_time(producer)
        except BaseException:
            if producer is not None:
                await abandon(producer)
            raise
        return producer

    async def _append(self, producer: Any, partition: int, record: bytes) -> None:
        sent = self.clocks.now()
        kept = await producer.send_and_wait(self._settings.samples_topic, record, partition=partition)
        if kept.timestamp_type == LOG_APPEND_TIME:  # the clock is that of the broker, whatever the partition
            leader = producer.client.cluster.leader_for_partition(TopicPartition(kept.topic, partition))
            self.clocks.appended(-1 if leader is None else leader, kept.timestamp, sent)

    async def _ask_the_time(self, producer: Any) -> None:
        """Appends a record without samples to one partition of each broker: its stamp is what that broker says."""
        topic = self._settings.samples_topic
        partitions = await producer.partitions_for(topic)
        cluster = producer.client.cluster
        leaders = {cluster.leader_for_partition(TopicPartition(topic, each)): each for each in sorted(partitions)}
        await asyncio.gather(*(self._append(producer, partition, encode([])) for partition in leaders.values()))

    @mode.Service.task
    async def _watch_the_clock(self) -> None:
        while not self.should_stop:
            await self.sleep(ASK_AGAIN_S)
            if self._producer is not None and self.clocks.disputed:
                with suppress(KafkaError, TimeoutError):  # whether it is connected is seen elsewhere
                    async with asyncio.timeout(CONNECT_S):
                        await self._ask_the_time(self._producer)

    def _lose(self, producer: Any, error: Exception) -> None:
        if producer is self._producer:
            self._say(error)
            self._producer = None
            self._lost.set()

    def _say(self, error: Exception) -> None:
        reason = "it does not answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        if reason != self._reason or self._producer is not None:
            logger.warning("Kafka at %s: %s", self._settings.kafka, reason)
        self._reason = reason
