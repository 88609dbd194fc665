"""A changelog with records that are no rows, and local copies that meet a changelog that is not theirs."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.row import Row
from metrics_app.kafka import connections
from metrics_app.settings import Settings
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.chunk import Chunk
from metrics_app.wire.partition import partition_of
from metrics_app.wire.record import encode
from tests.faults.installation import Installation
from tests.faults.pace import stretched
from tests.faults.test_state import KEYS, PARTITIONS, Ledger

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

CHANGELOG = "metrics-aggregator-hours-changelog"
SETTINGS = {
    "METRICS_PARTITIONS": str(PARTITIONS),
    "METRICS_FLUSH_INTERVAL_S": "0.3",
    "METRICS_SESSION_TIMEOUT_S": "6",
}
NEVER_SENT = "never-sent"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("changelog"), {"a": "all"}, SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def ledger(installation: Installation) -> Ledger:
    return Ledger(installation.workers["a"])


def status(ledger: Ledger, key: str) -> int:
    try:
        ledger.ask(key)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def claiming(value: bytes, stamp: int) -> bytes:
    """With another stamp in the header, and the checksum it had."""
    return value[:8] + stamp.to_bytes(8, "little") + value[16:]


async def spoil(installation: Installation, hour: int) -> int:
    """Writes damaged records behind the rows of all keys, and others that have no business there; says how many."""
    bootstrap = installation.kafka.bootstrap
    settings = Settings(_env_file=None, kafka=bootstrap)  # type: ignore[call-arg]  # pydantic's own
    last = {
        (record.partition, record.key): record.value
        for record in await connections.everything(settings, CHANGELOG, range(PARTITIONS))
    }
    home = partition_of(NEVER_SENT.encode(), PARTITIONS)
    empty = rows.encode_row(Row(HourlySummary(), 0, 0))
    written = [(partition, key, value[:-6] + b"\xff\xff" + value[-4:]) for (partition, key), value in last.items()]
    written += [(partition, key, claiming(value, 1 << 40)) for (partition, key), value in last.items()]
    written += [
        (home, rows.hour_key(hour, NEVER_SENT.encode()), empty[:-1] + b"\xff"),
        ((home + 1) % PARTITIONS, rows.hour_key(hour, NEVER_SENT.encode()), empty),
        (0, b"\x99?", b"junk"),
        (1, rows.CHECKPOINT_KEY, os.urandom(40)),
    ]
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for partition, key, value in written:
            await producer.send_and_wait(CHANGELOG, value, key, partition)
    return len(written)


def test_damaged_changelog_records_change_no_count_and_end_no_worker(
    installation: Installation, ledger: Ledger
) -> None:
    """While it runs, after kill -9, and built anew from the changelog; where nothing good is left, 503 and no 404."""
    worker = installation.workers["a"]
    ledger.send(20)
    ledger.assert_exact()
    asyncio.run(spoil(installation, ledger.hour))
    worker.kill()  # the damaged ones are last, and newer than all it has
    installation.restart("a")
    ledger.send()
    ledger.assert_exact()
    assert installation.count("metrics_app_bad_changelog_records_total") > len(ledger.counts)
    assert status(ledger, NEVER_SENT) == 503
    ledger.send(keys=[NEVER_SENT])  # no loop of crashes, and no answer with less than there may have been
    del ledger.counts[NEVER_SENT]
    asyncio.run(spoil(installation, ledger.hour))  # under a worker that runs
    ledger.send()
    ledger.assert_exact()
    assert status(ledger, NEVER_SENT) == 503
    assert worker.starts == 2
    worker.stop()
    installation.wipe("a")
    installation.restart("a")
    ledger.send()
    ledger.assert_exact()
    assert status(ledger, NEVER_SENT) == 503
    assert installation.count("metrics_app_dead_lettered_records_total") == 0


async def in_transactions(installation: Installation, ledger: Ledger) -> None:
    """A value for each key in a transaction of its own, whose marker takes an offset of the samples topic; the same
    for the changelog.
    """
    bootstrap = installation.kafka.bootstrap
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="somebody") as producer:
        for key in KEYS[:8]:
            partition = partition_of(key.encode(), PARTITIONS)
            chunk = Chunk(key.encode(), ledger.hour, np.array([1.0]).tobytes())
            async with producer.transaction():
                await producer.send_and_wait("samples", encode([chunk]), partition=partition)
                await producer.send_and_wait(CHANGELOG, b"junk", b"\x99?", partition)
            ledger.counts[key] += 1


def test_markers_of_transactions_are_stepped_over(installation: Installation, ledger: Ledger) -> None:
    """Between records and at the end of the log: they are never delivered, and were sought back for ever."""
    asyncio.run(in_transactions(installation, ledger))
    ledger.assert_exact(within_s=40)
    give_up = time.monotonic() + stretched(40)
    while installation.count("metrics_app_lag_records") > 0:
        assert time.monotonic() < give_up
        time.sleep(0.2)
    ledger.send()
    ledger.assert_exact()
    installation.workers["a"].stop()
    installation.wipe("a")  # the changelog ends with a marker too
    installation.restart("a")
    ledger.assert_exact()
    assert installation.count("metrics_app_lag_records") == 0


def copies(installation: Installation) -> Path:
    """The folder with the local copies of worker a."""
    return next(installation.data_dir("a").rglob("hours-0.db")).parent


def exchange(installation: Installation, kept: Path) -> None:
    """Puts other local copies in place of those of worker a."""
    checkpoint = copies(installation)
    for path in checkpoint.glob("hours-*"):
        shutil.rmtree(path)
    shutil.copytree(kept, checkpoint, dirs_exist_ok=True)


@pytest.mark.parametrize("records", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_a_folder_that_met_another_kafka_answers_nothing_of_it(
    installation: Installation, ledger: Ledger, tmp_path: Path, records: int
) -> None:
    """Whether it leads further there or less far."""
    ledger.send()
    ledger.assert_exact()
    with Installation(tmp_path / "other", {"a": "all"}, SETTINGS) as other:
        theirs = Ledger(other.workers["a"])
        for _ in range(records):
            theirs.send(keys=[f"foreign-{number}" for number in range(24)])
        theirs.assert_exact()
        other.workers["a"].stop()
        shutil.copytree(copies(other), tmp_path / "theirs")
    installation.workers["a"].stop()
    exchange(installation, tmp_path / "theirs")
    installation.restart("a")
    ledger.assert_exact()
    assert {status(ledger, f"foreign-{number}") for number in range(24)} == {404}
    rebuilt = installation.count('metrics_app_state_rebuilds_total{reason="foreign"}')
    assert rebuilt == PARTITIONS


def test_a_broker_put_back_from_a_backup_is_what_is_answered_from(
    installation: Installation, ledger: Ledger, tmp_path: Path
) -> None:
    """Also when it has gone on, with other records, beyond what a copy of later had reached."""
    worker, kafka = installation.workers["a"], installation.kafka
    ledger.send()
    ledger.assert_exact()
    worker.stop()
    kafka.stop()
    shutil.copytree(installation.folder / "kafka", tmp_path / "backup")
    kafka.start()
    installation.restart("a")
    later = Ledger(worker)
    later.send(keys=[f"later-{number}" for number in range(24)])
    later.assert_exact()
    worker.stop()
    shutil.copytree(copies(installation), tmp_path / "later")
    kafka.stop()
    shutil.rmtree(installation.folder / "kafka")
    shutil.copytree(tmp_path / "backup", installation.folder / "kafka")
    kafka.start()
    installation.wipe("a")
    installation.restart("a")
    for _ in range(15):
        ledger.send()
    ledger.assert_exact()
    worker.stop()
    exchange(installation, tmp_path / "later")
    installation.restart("a")
    ledger.send()
    ledger.assert_exact()
    assert {status(later, key) for key in later.counts} == {404}
    assert installation.count('metrics_app_state_rebuilds_total{reason="diverged"}') > 0
