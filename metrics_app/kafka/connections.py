"""Connects this process to Kafka, in the forms that aiokafka and Faust want.

Called by `topics`, `aggregator`, `archive`, `app`, `cli.dlq` and `collector.producer`.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from faust import SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT
from yarl import URL

from metrics_app.errors import BrokerError, MetricsError
from metrics_app.faust_runtime import connecting, ending, records, silence
from metrics_app.faust_runtime.consumer import FETCH_WAIT_MS
from metrics_app.settings import Settings

MAX_REQUEST_BYTES = 1 << 20
READ_AHEAD_BYTES = 4 << 20
POLL_MS = 500
FIRST_RECORD_S = 5.0
# a request may take less than the silence after which its sender's partitions move: a late ack ends the sender first
REQUEST_SHARE = 0.8
# request deadlines without an ack after which a collector gives its producer up; a slow broker is not a lost one
PATIENCE = 2

records.bound()  # before the first consumer is made


class LargeTopicError(MetricsError):
    """A topic holds more bytes than may be read into this process."""

    status = 409
    title = "Too much to be read at once"

    def __init__(self, topic: str, most_bytes: int) -> None:
        super().__init__(f"{topic} holds more than {most_bytes:,} bytes; `metrics-app dlq` reads it without a bound")


def client_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for any aiokafka client: servers, protocol, TLS and credentials."""
    options: dict[str, Any] = {
        "bootstrap_servers": servers(settings),
        "security_protocol": settings.kafka_protocol,
        "ssl_context": _tls(settings),
    }
    if settings.kafka_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.kafka_mechanism
        options["sasl_plain_username"] = settings.kafka_username
        options["sasl_plain_password"] = settings.kafka_password.get_secret_value()
    return options


def servers(settings: Settings) -> list[str]:
    """The bootstrap servers, "host:port" each."""
    return [server.strip() for server in settings.kafka.split(",") if server.strip()]


def faust_broker(settings: Settings) -> tuple[list[URL], CredentialsT | None]:
    """The `broker` and `broker_credentials` of a Faust app."""
    return [URL(f"kafka://{server}") for server in servers(settings)], _credentials(settings)


def producer(settings: Settings, **options: Any) -> AIOKafkaProducer:
    """An idempotent producer that waits for all replicas; options win. To be made inside the running event loop.

    An idempotent aiokafka producer retries a batch without end: `request_timeout_ms` bounds one attempt, not the batch.
    Whoever must not be late waits for the future with a deadline of its own, and gives the producer up past it.
    """
    defaults: dict[str, Any] = {
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": "lz4",
        "linger_ms": 0,  # the collector gathers, and a flush comes whole
        "max_batch_size": settings.max_record_bytes,
        "max_request_size": MAX_REQUEST_BYTES,
        "request_timeout_ms": round(REQUEST_SHARE * settings.session_timeout_s * 1000),
    }
    made = AIOKafkaProducer(**(client_options(settings) | defaults | options))
    connecting.bounded(made.client)
    return made


def reader(settings: Settings) -> AIOKafkaConsumer:
    """A consumer that belongs to no group and reads what it is told to. To be made inside the running event loop."""
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=READ_AHEAD_BYTES,
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    return ending.certain(silence.bounded(consumer, settings.session_timeout_s))


async def everything(
    settings: Settings, topic: str, partitions: Iterable[int], most_bytes: float = math.inf
) -> list[ConsumerRecord]:
    """The records that partitions of a topic hold now, in the order of each.

    Raises:
        LargeTopicError: their values have more bytes than that.
    """
    tps = [TopicPartition(topic, partition) for partition in partitions]
    found: list[ConsumerRecord] = []
    size = 0
    async with reader(settings) as consumer:
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                found += batch
                size += sum(len(each.value or b"") for each in batch)
            if size > most_bytes:
                raise LargeTopicError(topic, int(most_bytes))
    return found


async def first_record(settings: Settings, topic: str, partition: int, offset: int) -> int:
    """The offset of the first record from an offset on; where there is none, the end of the log.

    Not every offset has a record: the markers of transactions take some, and compaction removes others.

    Raises:
        KafkaError, OSError, TimeoutError: Kafka did not say.
    """
    tp = TopicPartition(topic, partition)
    consumer = reader(settings)
    try:
        async with asyncio.timeout(FIRST_RECORD_S):
            await consumer.start()
            consumer.assign([tp])
            consumer.seek(tp, offset)
            end: int = (await consumer.end_offsets([tp]))[tp]
            while (at := await consumer.position(tp)) < end:
                for record in (await consumer.getmany(tp, timeout_ms=POLL_MS, max_records=1)).get(tp, ()):
                    return int(record.offset)
            return max(int(at), end)
    finally:
        await consumer.stop()


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.kafka_protocol.endswith("SSL"):
        return None
    try:
        return _trusting(settings.kafka_ca_file)
    except OSError as error:
        raise BrokerError(f"METRICS_KAFKA_CA_FILE {settings.kafka_ca_file} cannot be read: {error}") from error


@cache
def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    """Read once: connections are made every few seconds, also when no descriptor is left to open a file with."""
    return ssl.create_default_context(cafile=ca_file)


def _credentials(settings: Settings) -> CredentialsT | None:
    context = _tls(settings)
    if settings.kafka_protocol.startswith("SASL"):
        return SASLCredentials(
            username=settings.kafka_username,
            password=settings.kafka_password.get_secret_value(),
            mechanism=settings.kafka_mechanism,
            ssl_context=context,
        )
    return SSLCredentials(context) if context else None
