"""Local state that is damaged, old, foreign or shared, and a samples topic that is another one, on real processes.

One broker and one worker (two where it says so) for all cases. Each leaves every count exact.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import NewTopic

from metrics_app.kafka import topics
from metrics_app.settings import Settings
from metrics_app.wire.metric_key import key_bytes
from metrics_app.wire.partition import partition_of
from tests.faults.installation import Installation
from tests.faults.pace import stretched
from tests.faults.process import Process

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

PARTITIONS = 4
DAMAGED = 1
KEYS = [f"key-{number:02d}" for number in range(40)]
BULK = 400  # values a key and record: tables of several blocks


class Ledger:
    """What was accepted, and what the service says of it."""

    def __init__(self, worker: Process) -> None:
        self.worker = worker
        self.hour = int(time.time()) // 3600
        self.counts: Counter[str] = Counter()

    def send(self, values: int = 1, keys: list[str] = KEYS, name: str = "") -> None:
        """Some values for each key, accepted by Kafka when this returns.

        Args:
            name: idempotency key, under which the same may be sent again when this has raised.
        """
        samples = [
            {"key": key, "value": float(self.counts[key] + number), "timestamp": self.hour * 3600 + 1}
            for key in keys
            for number in range(values)
        ]
        request = urllib.request.Request(f"{self.worker.url}/samples", json.dumps(samples).encode())
        request.add_header("Content-Type", "application/json")
        if name:
            request.add_header("Idempotency-Key", name)
        with urllib.request.urlopen(request, timeout=10) as reply:
            assert reply.status == 202
        self.counts.update(dict.fromkeys(keys, values))

    def one_partition(self) -> list[str]:
        """The keys of one partition."""
        return [key for key in KEYS if partition_of(key_bytes(key), PARTITIONS) == DAMAGED]

    def found(self) -> dict[str, int]:
        """Count of each key; -1 where there is no answer now."""
        return {key: self.count(key) for key in self.counts}

    def count(self, key: str) -> int:
        try:
            return self.ask(key)
        except urllib.error.HTTPError as error:
            return 0 if error.code == 404 else -1

    def ask(self, key: str) -> int:
        """Its count.

        Raises:
            HTTPError: another answer than 200.
        """
        return int(self.answer(key)["count"])

    def answer(self, key: str) -> dict[str, Any]:
        """What the service says of it; raises as `ask`."""
        at = time.gmtime(self.hour * 3600)
        url = f"{self.worker.url}/{key}/count/{time.strftime('%Y-%m-%d', at)}/{at.tm_hour}"
        with urllib.request.urlopen(url, timeout=5) as reply:
            answer: dict[str, Any] = json.load(reply)
            return answer

    def assert_exact(self, within_s: float = 20.0) -> None:
        """Every count is what was accepted, and stays so."""
        give_up = time.monotonic() + stretched(within_s)
        while (found := self.found()) != self.counts:
            wrong = {key: (self.counts[key], found[key]) for key in found if found[key] != self.counts[key]}
            assert time.monotonic() < give_up, f"{len(wrong)} keys are wrong, such as {list(wrong.items())[:3]}"
            time.sleep(0.2)
        time.sleep(0.7)
        assert self.found() == self.counts


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    settings = {
        "METRICS_PARTITIONS": str(PARTITIONS),
        "METRICS_FLUSH_INTERVAL_S": "0.3",
        "METRICS_SESSION_TIMEOUT_S": "6",
    }
    with Installation(tmp_path_factory.mktemp("state"), {"a": "all"}, settings) as running:
        yield running


@pytest.fixture(scope="module")
def ledger(installation: Installation) -> Ledger:
    return Ledger(installation.workers["a"])


def folder(installation: Installation, partition: int) -> Path:
    (found,) = installation.data_dir("a").rglob(f"hours-{partition}.db")
    return found


def rebuilds(installation: Installation, reason: str) -> float:
    return installation.count(f'metrics_app_state_rebuilds_total{{reason="{reason}"}}')


def flip(path: Path, at: int, size: int) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + size] = bytes(byte ^ 0xFF for byte in content[at : at + size])
    path.write_bytes(content)


def largest(path: Path) -> Path:
    return max(path.glob("*.sst"), key=lambda table: table.stat().st_size)


def corrupt_table(path: Path) -> None:
    table = largest(path)
    flip(table, table.stat().st_size - 4096, 4096)


def halve_manifest(path: Path) -> None:
    manifest = path / (path / "CURRENT").read_text().strip()
    os.truncate(manifest, manifest.stat().st_size // 2)


def empty_current(path: Path) -> None:
    os.truncate(path / "CURRENT", 0)


def replace_by_neighbour(path: Path) -> None:
    shutil.rmtree(path)
    shutil.copytree(path.with_name(f"hours-{DAMAGED + 1}.db"), path)


def claim_the_future(path: Path) -> None:
    import rocksdict

    from metrics_app.aggregator.local_copies import options
    from metrics_app.aggregator.store import HourStore

    db = rocksdict.Rdict(str(path), options=options())
    db.put(HourStore.offset_key, b"999999999")
    db.close()


DAMAGES: list[Any] = [
    pytest.param({"corrupt"}, empty_current, marks=pytest.mark.slow),
    pytest.param({"foreign"}, replace_by_neighbour, marks=pytest.mark.slow),
    pytest.param({"ahead"}, claim_the_future, marks=pytest.mark.slow),
    ({"corrupt", "incomplete"}, halve_manifest),  # whichever record of it the middle falls into
    pytest.param(set(), shutil.rmtree, marks=pytest.mark.slow),  # a copy that is not there is not a damaged one
    ({"corrupt"}, corrupt_table),
]


@pytest.mark.parametrize(("reasons", "damage"), DAMAGES)
def test_a_damaged_copy_is_found_counted_and_rebuilt_alone(
    installation: Installation, ledger: Ledger, reasons: set[str], damage: Callable[[Path], None]
) -> None:
    ledger.send(BULK)
    ledger.assert_exact()
    installation.workers["a"].stop()
    damage(folder(installation, DAMAGED))
    installation.restart("a")
    ledger.send()
    ledger.assert_exact()
    expected = 1 if reasons else 0
    assert sum(rebuilds(installation, reason) for reason in reasons) == expected
    assert (
        installation.count("metrics_app_state_rebuilds_total") == expected
    )  # the other partitions were taken as they are
    assert len(list(installation.data_dir("a").rglob("*.bad"))) == 1  # however many there were


@pytest.mark.slow
def test_a_block_damaged_under_a_running_worker_ends_it_and_is_rebuilt_by_the_next(
    installation: Installation, ledger: Ledger
) -> None:
    worker = installation.workers["a"]
    ledger.send(BULK)
    ledger.assert_exact()
    worker.stop()
    table = largest(folder(installation, DAMAGED))
    flip(table, 64, 4096)  # a block of rows: found when it is read
    worker.start()
    for _ in range(2):  # the worker is ended by whoever reads the block first: a query, or the fold
        give_up = time.monotonic() + 30
        while worker.is_running and time.monotonic() < give_up:
            try:
                if worker.is_ready() and ledger.found() == ledger.counts:
                    break
            except OSError:
                pass
            time.sleep(0.1)
        if not worker.is_running:
            assert worker.exit_code == 70, worker.tail()
            assert "it is rebuilt from the changelog at the next start" in worker.tail()
            worker.start()
    worker.await_ready()
    ledger.send()
    ledger.assert_exact()
    assert rebuilds(installation, "unreadable") + rebuilds(installation, "corrupt") == 1
    assert installation.count("metrics_app_dead_lettered_records_total") == 0


@pytest.mark.slow
def test_an_older_copy_of_the_folder_is_brought_up_to_date(installation: Installation, ledger: Ledger) -> None:
    worker = installation.workers["a"]
    ledger.assert_exact()
    worker.stop()
    old = installation.folder / "older-copy"
    shutil.copytree(installation.data_dir("a"), old)
    installation.restart("a")
    ledger.send(50)
    ledger.assert_exact()
    worker.stop()
    installation.wipe("a")
    shutil.copytree(old, installation.data_dir("a"))
    installation.restart("a")
    ledger.send()
    ledger.assert_exact()
    assert installation.count("metrics_app_state_rebuilds_total") == 0


def test_a_second_worker_on_the_folder_says_so_and_leaves_the_first_alone(
    installation: Installation, ledger: Ledger
) -> None:
    installation.data_dir("second").symlink_to(installation.data_dir("a"))
    second = installation.add("second", "all")
    second.start()
    assert second.wait(30) == 3
    assert "give each its own --data-dir" in second.tail()
    assert "opening partition" not in second.log.read_text(), "it has joined the group"
    ledger.send()
    ledger.assert_exact()
    assert installation.workers["a"].is_running


def recreate_samples(installation: Installation) -> None:
    settings = Settings(_env_file=None, partitions=PARTITIONS, kafka=f"127.0.0.1:{installation.kafka.port}")  # type: ignore[call-arg]
    topic = next(topic for topic in topics.topics(settings) if topic.name == settings.samples_topic)

    async def recreate() -> None:
        async with topics.admin_client(settings) as admin:
            await admin.delete_topics([topic.name])
            for _ in range(50):
                await asyncio.sleep(0.2)
                reply = await admin.create_topics([NewTopic(topic.name, PARTITIONS, 1, topic_configs=topic.config)])
                if reply.topic_errors[0][1] == 0:
                    return
        raise AssertionError(reply)

    asyncio.run(recreate())


@pytest.mark.parametrize("longer", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_samples_topic_made_anew_begins_an_epoch_and_counts_from_its_first_record(
    installation: Installation, ledger: Ledger, longer: bool
) -> None:
    """Also when the new one has outgrown the old one before anybody looks: an end offset alone says nothing."""
    worker = installation.workers["a"]
    ledger.send()
    ledger.assert_exact()
    worker.stop()
    recreate_samples(installation)
    collector = installation.add(f"collector-{longer}", "collector")
    collector.start()
    collector.await_ready()
    try:
        other = Ledger(collector)
        for _ in range(60 if longer else 3):
            other.send()
        ledger.counts.update(other.counts)
    finally:
        collector.stop()
    installation.restart("a")
    ledger.send()
    ledger.assert_exact()
    touched = len({partition_of(key_bytes(key), PARTITIONS) for key in KEYS})
    assert installation.count("metrics_app_log_truncated_total") == touched
    worker.stop()
    installation.restart("a")  # a new epoch is kept
    ledger.send()
    ledger.assert_exact()
    assert installation.count("metrics_app_log_truncated_total") == 0
