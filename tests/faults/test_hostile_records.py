"""Records with a valid checksum that no collector writes, and steps that raise: the values of others are counted.

One broker and one worker for all cases; a step raises while a file says so (`failing.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import struct
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk
from metrics_app.wire.partition import partition_of
from tests.faults import failing
from tests.faults.installation import Installation, eventually
from tests.faults.test_state import DAMAGED, PARTITIONS, Ledger

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

HOSTILE = "hostile"
DEAD = "metrics_app_dead_lettered_records_total"


@pytest.fixture(scope="module")
def fail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names the step that raises, and how often."""
    return tmp_path_factory.mktemp("fail") / "now"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, fail: Path) -> Iterator[Installation]:
    settings = {"METRICS_FLUSH_INTERVAL_S": "0.3", "METRICS_SESSION_TIMEOUT_S": "6", failing.FAIL_FILE: str(fail)}
    installation = Installation(tmp_path_factory.mktemp("hostile"), {"a": "all"}, settings)
    installation.workers["a"].module = "tests.faults.failing"
    with installation:
        yield installation


@pytest.fixture(scope="module")
def ledger(installation: Installation) -> Ledger:
    return Ledger(installation.workers["a"])


def chunk(key: str = HOSTILE, count: int = 1, **members: Any) -> Chunk:
    hour = int(time.time()) // 3600
    return Chunk(key.encode(), hour, struct.pack(f"<{count}d", *range(count)))._replace(**members)


def produce(installation: Installation, *values: bytes, partition: int = partition_of(HOSTILE.encode(), PARTITIONS)):
    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=installation.kafka.bootstrap) as producer:
            for value in values:
                await producer.send_and_wait("samples", value, partition=partition)

    asyncio.run(send())


def put_aside(installation: Installation, count: int) -> None:
    asyncio.run(eventually(lambda: installation.count(DEAD) >= count, 20))
    assert installation.count(DEAD) == count


def test_a_record_that_makes_a_row_which_no_flush_can_write_costs_nobody_anything(
    installation: Installation, ledger: Ledger
) -> None:
    worker = installation.workers["a"]
    ledger.send(10)
    ledger.assert_exact()
    produce(installation, record.encode([chunk(count=2, sender=b"s" * 16, first=2**64 - 1)]))
    ledger.send(15)
    put_aside(installation, 1)
    ledger.assert_exact()
    assert worker.stop() == 0
    installation.restart("a")
    ledger.assert_exact()


@pytest.mark.parametrize("step", [failing.ENCODE, failing.WRITE, failing.SEAL])
def test_a_flush_that_raises_ends_the_worker_without_another_flush(
    installation: Installation, ledger: Ledger, fail: Path, step: str
) -> None:
    """In the middle: some partitions are taken, or written, and others are not."""
    worker = installation.workers["a"]
    ledger.send(3)
    ledger.assert_exact()
    fail.write_text(f"{step} {15 if step == failing.ENCODE else 2}")
    is_kept = False
    with contextlib.suppress(OSError, http.client.HTTPException):  # it may end before it has replied
        ledger.send(7, name=step)
        is_kept = True
    assert worker.wait(30) == 70
    assert "a flush failed: " in worker.tail()
    assert not fail.exists()
    installation.restart("a")
    if not is_kept:
        ledger.send(7, name=step)
    ledger.assert_exact()


def test_a_row_that_cannot_be_read_for_once_buries_nothing(
    installation: Installation, ledger: Ledger, fail: Path
) -> None:
    starts, dead = installation.workers["a"].starts, installation.count(DEAD)
    ledger.assert_exact()
    fail.write_text(f"{failing.READ} 1")
    ledger.send(7, keys=["read-for-the-first-time"])
    ledger.assert_exact()
    assert not fail.exists()
    assert (installation.workers["a"].starts, installation.count(DEAD)) == (starts, dead)


def test_garbage_stops_its_partition_alone_and_what_is_accepted_meanwhile_is_not_yet_instead_of_nothing(
    installation: Installation, ledger: Ledger
) -> None:
    worker, partition = installation.workers["a"], DAMAGED
    ledger.assert_exact()
    produce(installation, *[b"garbage"] * 101, partition=partition)
    asyncio.run(eventually(lambda: installation.count("metrics_app_stopped_partitions") == 1, 20))
    new = {number: f"new-{number}" for number in range(40)}
    stopped = [key for key in new.values() if partition_of(key.encode(), PARTITIONS) == partition]
    others = [key for key in new.values() if key not in stopped]
    assert worker.is_ready(), "the others are still folded"
    ledger.send(keys=[*stopped, *others])
    asyncio.run(eventually(lambda: all(ledger.count(key) == 1 for key in others), 20))
    with pytest.raises(urllib.error.HTTPError) as refused:
        ledger.ask(stopped[0])
    assert (refused.value.code, refused.value.headers["Retry-After"]) == (503, "1")
    assert b"100 records in a row could not be folded" in refused.value.read()
    known = next(key for key in ledger.one_partition() if key not in stopped)
    assert ledger.answer(known)["stale"]
    assert worker.stop() == 0
    installation.restart("a")
    ledger.assert_exact()
