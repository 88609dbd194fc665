"""A Kafka of three brokers, of which some are killed, frozen or restarted under load: exact counts by the ledger."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from metrics_app.kafka.cluster import EmbeddedCluster
from metrics_app.kafka.embedded import EmbeddedKafka
from tests.faults.installation import Fault, Installation, assert_exact, eventually
from tests.faults.test_full_disk import fill
from tests.kafka.leaders import leaders, until_led_by

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]

SAMPLES = "samples"
SETTINGS = {"METRICS_REPLICATION": "3"}
FOLDED = "metrics_app_folded_values_total"
ACCEPTED = "metrics_app_accepted_values_total"
AGAIN_S = 60.0  # until values are folded again, whoever leads
ACTIVE = re.compile(r"^(\S+) INFO .*Becoming the active controller", re.MULTILINE)


def nodes(installation: Installation) -> EmbeddedCluster:
    assert installation.cluster is not None
    return installation.cluster


def controller(cluster: EmbeddedCluster) -> int:
    """The node that said last that it is the active controller."""
    said = {number: ACTIVE.findall(node.log.read_text(errors="replace")) for number, node in cluster.nodes.items()}
    return max((times[-1], number) for number, times in said.items() if times)[1]


def others(cluster: EmbeddedCluster, gone: int) -> dict[int, EmbeddedKafka]:
    return {number: node for number, node in cluster.nodes.items() if number != gone}


async def goes_on_without(installation: Installation, gone: int) -> None:
    """Waits until others lead, values are folded again, and fresh ones can be queried everywhere."""
    cluster, since_s = nodes(installation), time.monotonic()
    living = others(cluster, gone)
    elected_s = await until_led_by(next(iter(living.values())), SAMPLES, set(living))
    await installation.grows(FOLDED, by=5_000, within_s=AGAIN_S)
    print(f"new leaders after {elected_s - since_s:.1f} s, folding again {time.monotonic() - elected_s:.1f} s later")
    await installation.fresh()


async def kill_the_leader(installation: Installation) -> None:
    cluster = nodes(installation)
    gone = (await leaders(cluster.nodes[1], SAMPLES))[0]
    await asyncio.to_thread(cluster.nodes[gone].kill)
    await goes_on_without(installation, gone)
    await asyncio.to_thread(cluster.nodes[gone].start)
    await installation.fresh()


async def kill_the_controller(installation: Installation) -> None:
    cluster = nodes(installation)
    gone = controller(cluster)
    await asyncio.to_thread(cluster.nodes[gone].kill)
    await goes_on_without(installation, gone)
    assert controller(cluster) != gone
    await asyncio.to_thread(cluster.nodes[gone].start)
    await installation.fresh()


async def kill_two_of_three(installation: Installation) -> None:
    """What is left has no majority: nothing is accepted until one of the two is back."""
    cluster = nodes(installation)
    for gone in (1, 2):
        await asyncio.to_thread(cluster.nodes[gone].kill)
    await asyncio.sleep(8)  # what was on its way when they went is done by now
    before = installation.count(ACCEPTED)
    await asyncio.sleep(4)
    assert installation.count(ACCEPTED) == before, "202 without two in-sync replicas"
    await asyncio.to_thread(cluster.start)
    await installation.grows(FOLDED, by=5_000, within_s=AGAIN_S)
    await installation.fresh()


async def restart_one_after_another(installation: Installation) -> None:
    for number, node in nodes(installation).nodes.items():
        await asyncio.to_thread(node.stop)
        await asyncio.to_thread(node.start)
        await installation.grows(FOLDED, by=5_000, within_s=AGAIN_S)
        print(f"folding again after the restart of node {number}")
    await installation.fresh()


async def lose_a_disk(installation: Installation) -> None:
    """A broker is killed and comes back with nothing: it reads all that it had from the others."""
    cluster = nodes(installation)
    await asyncio.to_thread(cluster.nodes[1].kill)
    shutil.rmtree(cluster.nodes[1].storage.folder)
    await goes_on_without(installation, 1)
    await asyncio.to_thread(cluster.nodes[1].start)
    await installation.fresh()
    for gone in (2, 3):  # what they know is on the new disk too by now, or nothing is accepted
        await asyncio.to_thread(cluster.nodes[gone].kill)
        await goes_on_without(installation, gone)
        await asyncio.to_thread(cluster.nodes[gone].start)
        await installation.fresh()


async def freeze_the_leader(installation: Installation) -> None:
    """SIGSTOP: a broker that is alive to its peers' sockets, and so slow that it answers nobody for 15 s."""
    cluster = nodes(installation)
    gone = (await leaders(cluster.nodes[1], SAMPLES))[0]
    pid = cluster.nodes[gone].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        await goes_on_without(installation, gone)
        await asyncio.sleep(10)
    finally:
        os.kill(pid, signal.SIGCONT)
    await installation.grows(FOLDED, by=5_000, within_s=AGAIN_S)
    await installation.fresh()


@pytest.mark.parametrize(
    "fault",
    [
        kill_the_leader,
        kill_the_controller,
        kill_two_of_three,
        restart_one_after_another,
        lose_a_disk,
        freeze_the_leader,
    ],
    ids=lambda fault: fault.__name__,
)
async def test_nothing_is_lost_or_counted_twice(tmp_path: Path, fault: Fault) -> None:
    workers = {"c": "collector", "a": "aggregator", "b": "aggregator"}
    with Installation(tmp_path, workers, SETTINGS, brokers=3) as installation:
        run = await installation.under_load(fault, installation.plan(rate=2000))
        assert_exact(run)
        assert installation.prober is not None
        assert installation.prober.wrong() == []


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small one of its own for the first broker."""
    folder = tmp_path / "kafka" / "node-1"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root mounts a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_broker_whose_disk_is_full_ends_and_nothing_is_lost_or_counted_twice(
    tmp_path: Path, disk: Path
) -> None:
    async def fill_the_disk(installation: Installation) -> None:
        node = nodes(installation).nodes[1]
        with (disk / "ballast").open("wb") as file:
            fill(file.fileno())
        print(f"ended {await eventually(lambda: node.pid is None, 60):.1f} s after its disk was full")
        await goes_on_without(installation, 1)
        (disk / "ballast").unlink()
        await asyncio.to_thread(node.start)
        await installation.fresh()

    with Installation(tmp_path, {"a": "all", "b": "all"}, SETTINGS, brokers=3) as installation:
        run = await installation.under_load(fill_the_disk, installation.plan(rate=2000))
        assert_exact(run)
