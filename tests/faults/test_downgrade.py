"""A worker meets rows of a newer release: it must not go on, and must not touch them."""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from metrics_app.aggregator import row as rows
from metrics_app.kafka import connections
from metrics_app.settings import Settings
from tests.faults.installation import Installation, eventually
from tests.faults.process import Process
from tests.faults.test_state import PARTITIONS, Ledger

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(240)]

CHANGELOG = "metrics-aggregator-hours-changelog"


async def test_rows_of_a_newer_release_end_a_worker_with_code_3_and_stay_as_they_are(tmp_path: Path) -> None:
    """As after a downgrade."""
    with Installation(tmp_path, {"a": "all"}) as installation:
        worker, kafka = installation.workers["a"], installation.kafka.bootstrap
        _, before = await counted_and_stopped(worker, kafka)
        partition, row_key = next(checkpoint for checkpoint in before if checkpoint[1] != rows.CHECKPOINT_KEY)
        value = before[partition, row_key]
        newer = resealed(value[:1] + bytes([rows.VERSION + 1]) + value[2:])
        async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            await producer.send_and_wait(CHANGELOG, newer, row_key, partition)

        worker.start()
        took_s = await eventually(lambda: not worker.is_running, 30)
        print(f"ended after {took_s:.1f} s")
        assert worker.exit_code == 3
        assert "has rows of a newer release" in worker.said
        assert await last_rows(kafka) == {**before, (partition, row_key): newer}


async def counted_and_stopped(worker: Process, kafka: str) -> tuple[Ledger, dict[tuple[int, bytes], bytes]]:
    """Some values and the rows that they have made, of a worker that has stopped after it had counted them."""
    ledger = Ledger(worker)
    ledger.send()
    await asyncio.to_thread(ledger.assert_exact)
    assert await asyncio.to_thread(worker.stop) == 0
    return ledger, await last_rows(kafka)


def resealed(value: bytes) -> bytes:
    """The value with the checksum it should have."""
    return value[:-4] + zlib.crc32(value[:-4]).to_bytes(4, "little")


async def last_rows(bootstrap: str) -> dict[tuple[int, bytes], bytes]:
    """The newest state of each row in the changelog."""
    settings = Settings(_env_file=None, kafka=bootstrap)  # type: ignore[call-arg]  # pydantic's own
    records = await connections.everything(settings, CHANGELOG, range(PARTITIONS))
    return {(record.partition, record.key): record.value for record in records}
