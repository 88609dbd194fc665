"""Topics that are changed underneath running processes: noticed within seconds, said, and mended or refused."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus

import pytest
from aiokafka.admin import NewPartitions

from metrics_app.kafka import topics
from metrics_app.settings import Settings
from tests.faults.installation import Installation
from tests.faults.pace import stretched
from tests.faults.test_state import PARTITIONS, Ledger, recreate_samples

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

SETTINGS = {
    "METRICS_PARTITIONS": str(PARTITIONS),
    "METRICS_FLUSH_INTERVAL_S": "0.3",
    "METRICS_SESSION_TIMEOUT_S": "6",
    "METRICS_TOPICS_CHECK_S": "0.5",
}
NOTICED_S = 15.0  # a look, a second one, a rebalance
NO_FLOOD = 400  # lines of log, of everything that a case makes a process say


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    workers = {"a": "all", "b": "aggregator", "c": "collector"}
    with Installation(tmp_path_factory.mktemp("topics"), workers, SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def ledger(installation: Installation) -> Ledger:
    ledger = Ledger(installation.workers["a"])
    ledger.send(3)
    ledger.assert_exact()
    return ledger


@pytest.fixture(autouse=True)
def bounded_logs(installation: Installation) -> Iterator[None]:
    before = {name: len(worker.tail(1_000_000).splitlines()) for name, worker in installation.workers.items()}
    yield
    for name, worker in installation.workers.items():
        said = worker.tail(1_000_000).splitlines()[before[name] :]
        assert len(said) < NO_FLOOD, (name, said[-20:])


def settings_of(installation: Installation) -> Settings:
    return Settings(_env_file=None, partitions=PARTITIONS, kafka=installation.kafka.bootstrap)  # type: ignore[call-arg]


def delete(installation: Installation, name: str) -> None:
    async def go() -> None:
        async with topics.admin_client(settings_of(installation)) as admin:
            await admin.delete_topics([name])

    asyncio.run(go())


def add_partitions(installation: Installation, name: str, to: int) -> None:
    async def go() -> None:
        async with topics.admin_client(settings_of(installation)) as admin:
            await admin.create_partitions({name: NewPartitions(to)})

    asyncio.run(go())


def rebalances(installation: Installation) -> float:
    return installation.count("metrics_app_rebalances_total")


def noticed(installation: Installation, before: float) -> None:
    """Every aggregator has begun anew, and all are ready again."""
    give_up = time.monotonic() + stretched(NOTICED_S)
    while rebalances(installation) < before + 2:
        assert time.monotonic() < give_up, "nobody has noticed"
        time.sleep(0.1)
    for worker in installation.workers.values():
        worker.await_ready()


def send_each(installation: Installation, ledger: Ledger) -> None:
    """Through each collector, until it takes the values: what is refused is not counted."""
    for name in ("a", "c"):
        via = Ledger(installation.workers[name])
        give_up = time.monotonic() + stretched(NOTICED_S)
        while True:
            try:
                via.send()
                break
            except urllib.error.HTTPError as error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE or b"nothing was kept" not in error.read():
                    raise
            assert time.monotonic() < give_up
            time.sleep(0.2)
        ledger.counts.update(via.counts)


def restart_all(installation: Installation, *, wiped: bool = False) -> None:
    for name in ("a", "b"):
        installation.workers[name].stop()
        if wiped:
            installation.wipe(name)
    for name in ("a", "b"):
        installation.workers[name].start()
    for name in ("a", "b"):
        installation.workers[name].await_ready()


@pytest.mark.parametrize("again", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_samples_topic_deleted_under_running_processes_begins_an_epoch_within_seconds(
    installation: Installation, ledger: Ledger, again: bool
) -> None:
    """Whether people make it anew or we do."""
    before = rebalances(installation)
    if again:
        recreate_samples(installation)
    else:
        delete(installation, settings_of(installation).samples_topic)
    noticed(installation, before)
    send_each(installation, ledger)
    ledger.assert_exact()
    restart_all(installation)
    send_each(installation, ledger)
    ledger.assert_exact()


def test_a_changelog_deleted_under_running_processes_is_made_anew_and_holds_every_row(
    installation: Installation, ledger: Ledger
) -> None:
    before = rebalances(installation)
    delete(installation, settings_of(installation).changelog_topic)
    noticed(installation, before)
    send_each(installation, ledger)
    ledger.assert_exact()
    assert installation.count("metrics_app_state_rebuilds_total") == 0
    restart_all(installation, wiped=True)
    ledger.assert_exact()


def test_partitions_added_to_the_samples_topic_change_nothing(installation: Installation, ledger: Ledger) -> None:
    """Keys stay where their rows are; also for processes that start later."""
    add_partitions(installation, settings_of(installation).samples_topic, 2 * PARTITIONS)
    for _ in range(5):
        send_each(installation, ledger)
        time.sleep(0.5)
    ledger.assert_exact()
    restart_all(installation)
    send_each(installation, ledger)
    ledger.assert_exact()


def test_partitions_added_to_both_topics_end_the_aggregators_and_shut_the_collectors(
    installation: Installation, ledger: Ledger
) -> None:
    """The last of them: nothing shows any more how many there were."""
    settings = settings_of(installation)
    add_partitions(installation, settings.changelog_topic, 2 * PARTITIONS)
    give_up = time.monotonic() + stretched(NOTICED_S)
    while installation.workers["a"].is_running or installation.workers["b"].is_running:
        assert time.monotonic() < give_up
        time.sleep(0.1)
    for name in ("a", "b"):
        assert installation.workers[name].exit_code == 3
        assert (
            f"has {2 * PARTITIONS} partitions, METRICS_PARTITIONS says {PARTITIONS}"
            in installation.workers[name].tail()
        )
    collector = installation.workers["c"]
    assert not collector.is_ready()
    request = urllib.request.Request(f"{collector.url}/samples", json.dumps(["k", 1]).encode())
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)
    assert refused.value.code == HTTPStatus.SERVICE_UNAVAILABLE
    assert b"METRICS_PARTITIONS" in refused.value.read()
    assert collector.is_running
