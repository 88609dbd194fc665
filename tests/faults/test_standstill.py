"""Workers that do not get on: ended where a new start helps, left alone where it would not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.faults.installation import Installation
from tests.faults.stalling import DROP, STALL_FILE
from tests.faults.test_state import DAMAGED, Ledger

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

LIMIT_S = 10
IN_ROW = 20


@pytest.fixture(scope="module")
def stall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file is there, Faust does not fetch."""
    return tmp_path_factory.mktemp("stall") / "now"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, stall: Path) -> Iterator[Installation]:
    settings = {
        "METRICS_FLUSH_INTERVAL_S": "0.3",
        "METRICS_SESSION_TIMEOUT_S": "6",
        "METRICS_STALL_TIMEOUT_S": str(LIMIT_S),
        "METRICS_DEAD_LETTERS_IN_ROW": str(IN_ROW),
        STALL_FILE: str(stall),
    }
    installation = Installation(tmp_path_factory.mktemp("standstill"), {"a": "all"}, settings)
    installation.workers["a"].module = "tests.faults.stalling"
    with installation:
        yield installation


@pytest.fixture(scope="module")
def ledger(installation: Installation) -> Ledger:
    return Ledger(installation.workers["a"])


@pytest.mark.slow
def test_a_consumer_that_stops_fetching_ends_the_worker_and_the_next_one_goes_on(
    installation: Installation, ledger: Ledger, stall: Path
) -> None:
    worker = installation.workers["a"]
    ledger.send()
    ledger.assert_exact()
    stall.touch()
    time.sleep(2)  # a fetch under way ends after a second
    ledger.send(5)
    assert worker.wait(60) == 70
    assert "has records and none is folded, for" in worker.tail()
    stall.unlink()
    installation.restart("a")
    ledger.assert_exact()


@pytest.mark.slow
def test_records_that_faust_fetched_and_dropped_are_asked_for_again_though_no_later_one_comes(
    installation: Installation, ledger: Ledger, stall: Path
) -> None:
    starts = installation.workers["a"].starts
    ledger.assert_exact()
    stall.write_text(DROP)
    time.sleep(2)  # a fetch under way ends after a second
    ledger.send(keys=ledger.one_partition())
    ledger.assert_exact()
    assert not stall.exists(), "nothing was dropped"
    assert installation.workers["a"].starts == starts
    assert installation.workers["a"].is_running


@pytest.mark.slow
def test_a_recovery_that_reads_nothing_ends_the_worker_and_the_next_one_recovers(
    installation: Installation, ledger: Ledger, stall: Path
) -> None:
    worker = installation.workers["a"]
    ledger.send()
    ledger.assert_exact()
    worker.stop()
    installation.wipe("a")
    stall.touch()
    worker.start()
    assert worker.wait(60) == 70
    assert "recovery reads nothing from the changelog, for" in worker.tail()
    stall.unlink()
    installation.restart("a")
    ledger.assert_exact()


@pytest.mark.slow
def test_a_worker_without_kafka_goes_on_answering_for_longer_than_the_watchdog_waits(
    installation: Installation, ledger: Ledger
) -> None:
    ledger.assert_exact()
    starts = installation.workers["a"].starts
    installation.kafka.kill()

    async def ask() -> None:
        for _ in range(2 * LIMIT_S):
            assert installation.workers["a"].is_running, installation.workers["a"].tail()
            assert ledger.found() == ledger.counts
            await asyncio.sleep(1)

    asyncio.run(ask())
    installation.kafka.start()
    installation.workers["a"].await_ready()
    ledger.send()
    ledger.assert_exact(60)
    assert installation.workers["a"].starts == starts


@pytest.mark.slow
def test_too_many_dead_letters_in_a_row_stop_their_partition_and_nothing_else(
    installation: Installation, ledger: Ledger
) -> None:
    worker = installation.workers["a"]
    ledger.send()
    ledger.assert_exact()

    async def poison() -> None:
        async with AIOKafkaProducer(bootstrap_servers=installation.kafka.bootstrap) as producer:
            for _ in range(IN_ROW + 5):
                await producer.send_and_wait("samples", b"garbage", partition=DAMAGED)

    asyncio.run(poison())
    while installation.count("metrics_app_stopped_partitions") != 1:
        time.sleep(0.1)
    ledger.send()
    time.sleep(1.5 * LIMIT_S)  # the watchdog sees records that nobody folds, and knows why
    assert worker.is_ready()
    found = ledger.found()
    missing = {key: count - found[key] for key, count in ledger.counts.items() if count != found[key]}
    assert missing == dict.fromkeys(ledger.one_partition(), 1), (
        "what was folded is still answered, and the others go on"
    )
    assert installation.count("metrics_app_dead_lettered_records_total") == IN_ROW
    worker.stop()
    installation.restart("a")
    ledger.assert_exact()
    assert installation.count("metrics_app_dead_lettered_records_total") == 5
