"""What a broker with a wrong clock writes, on one whose clock is right: records with another append time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

SETTLE_S = 0.5  # until each partition goes by a new setting of its topic


class Stamped(NamedTuple):
    """A record, and the append time it is to have."""

    partition: int
    value: bytes
    at_s: float
    key: bytes | None = None


async def append(bootstrap: str, topic: str, records: Iterable[Stamped]) -> None:
    """Appends records with these append times; what others append meanwhile has the time of its sender."""
    async with _sender_time(bootstrap, topic), AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for each in records:
            await producer.send_and_wait(
                topic, each.value, each.key, partition=each.partition, timestamp_ms=int(each.at_s * 1000)
            )


@contextlib.asynccontextmanager
async def _sender_time(bootstrap: str, topic: str) -> AsyncIterator[None]:
    await _stamp(bootstrap, topic, "CreateTime")
    try:
        yield
    finally:
        await _stamp(bootstrap, topic, "LogAppendTime")


async def _stamp(bootstrap: str, topic: str, kind: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        (reply,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        own = {each[0]: each[1] for each in reply.resources[0][4] if each[3] == 1}
        own["message.timestamp.type"] = kind
        own |= {f"message.timestamp.{side}.max.ms": str(2**62) for side in ("before", "after")}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, own)])
        await asyncio.sleep(SETTLE_S)
    finally:
        await admin.close()
