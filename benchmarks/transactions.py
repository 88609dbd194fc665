"""What a transaction for each flush and partition would cost (docs/adr/0004): `python -m benchmarks.transactions`.

Today one idempotent producer writes the rows of all partitions, then their checkpoints. The other way is a producer
with a `transactional_id` for each partition, which the broker fences.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from metrics_app.kafka.embedded import EmbeddedKafka

TOPIC, VALUE, FLUSHES, WARM_UP = "changelog", b"v" * 200, 20, 3
OPTIONS: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "compression_type": "lz4",
    "max_batch_size": 1 << 19,
}


async def send(producer: AIOKafkaProducer, partition: int, rows: int) -> list[asyncio.Future[Any]]:
    """Sends rows of one partition in batches, as the flusher does; returns their acks."""
    acks, at = [], 0
    while at < rows:
        batch = producer.create_batch()
        while at < rows and batch.append(timestamp=None, key=b"key-%08d" % at, value=VALUE):
            at += 1
        batch.close()
        acks.append(await producer.send_batch(batch, TOPIC, partition=partition))
    return acks


async def as_today(producer: AIOKafkaProducer, partitions: int, rows: int) -> None:
    """One flush: the rows of all partitions, then their checkpoints."""
    for count in (rows, 1):
        await asyncio.gather(*[ack for at in range(partitions) for ack in await send(producer, at, count)])


async def in_transactions(producers: list[AIOKafkaProducer], rows: int) -> None:
    """One flush: a transaction for each partition, all at once."""

    async def one(partition: int, producer: AIOKafkaProducer) -> None:
        async with producer.transaction():
            for count in (rows, 1):
                await asyncio.gather(*await send(producer, partition, count))

    await asyncio.gather(*(one(*each) for each in enumerate(producers)))


async def median_of(flush: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """Milliseconds a flush: by the clock, and of CPU in this process."""
    taken: list[tuple[float, float]] = []
    for _ in range(WARM_UP + FLUSHES):
        started, cpu = time.perf_counter(), time.process_time()
        await flush()
        taken.append((time.perf_counter() - started, time.process_time() - cpu))
    clock, cpu_s = zip(*taken[WARM_UP:], strict=True)
    return statistics.median(clock) * 1000, statistics.median(cpu_s) * 1000


async def compare(bootstrap: str) -> None:
    """Measures both ways and prints a line for each size of a flush."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 16, 1)])
    await admin.close()
    print("partitions  rows a flush   as today: ms, CPU ms   in transactions: ms, CPU ms   times as long, as much CPU")
    for partitions in (4, 16):
        plain = AIOKafkaProducer(bootstrap_servers=bootstrap, **OPTIONS)
        fenced = [
            AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{partitions}-{at}", **OPTIONS)
            for at in range(partitions)
        ]
        await asyncio.gather(*(producer.start() for producer in (plain, *fenced)))
        for rows in (1, 100, 5000):
            each = max(1, rows // partitions)
            ms, cpu = await median_of(partial(as_today, plain, partitions, each))
            tx_ms, tx_cpu = await median_of(partial(in_transactions, fenced, each))
            ratios = f"{tx_ms / ms:14.1f} {tx_cpu / cpu:14.1f}"
            print(f"{partitions:10} {rows:13} {ms:14.1f} {cpu:8.1f} {tx_ms:20.1f} {tx_cpu:8.1f} {ratios}")
        await asyncio.gather(*(producer.stop() for producer in (plain, *fenced)))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder) / "kafka", port=0) as kafka:
        asyncio.run(compare(kafka.bootstrap))
