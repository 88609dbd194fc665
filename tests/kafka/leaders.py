"""Who leads which partition, as one node of a cluster says: it is asked itself, not whoever aiokafka would choose."""

from __future__ import annotations

import asyncio
import time

from aiokafka.conn import create_conn
from aiokafka.protocol.metadata import MetadataRequest

from metrics_app.kafka.embedded import EmbeddedKafka
from metrics_app.kafka.ports import HOST
from tests.faults.pace import stretched

LOOK_S = 0.02
Leaders = dict[int, int]


async def leaders(node: EmbeddedKafka, topic: str) -> Leaders:
    """Number of the leading node by partition; -1: none."""
    connection = await create_conn(HOST, node.port)
    try:
        return _of(await connection.send(MetadataRequest([topic])))
    finally:
        connection.close()


async def until_led_by(node: EmbeddedKafka, topic: str, living: set[int], within_s: float = 40.0) -> float:
    """Waits until all partitions are led by some of these nodes; returns when that was seen, by the monotonic clock."""
    deadline = time.monotonic() + stretched(within_s)
    while not set((await leaders(node, topic)).values()) <= living:
        assert time.monotonic() < deadline, await leaders(node, topic)
        await asyncio.sleep(LOOK_S)
    return time.monotonic()


def _of(reply: object) -> Leaders:
    ((_, _, _, partitions),) = reply.topics  # type: ignore[attr-defined] # aiokafka's classes are made at run time
    return {partition: leader for _, partition, leader, *_ in partitions}
