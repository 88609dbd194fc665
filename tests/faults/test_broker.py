"""Kafka killed, frozen, absent or set up otherwise."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.faults.installation import Installation, assert_exact, eventually
from tests.faults.pace import stretched
from tests.faults.probe import PROBLEM

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

REFUSED_WITHIN_S = 2.0
ROUNDING_S = 0.3  # of a clock in a process that shares two cores with all the others


@pytest.mark.parametrize(("times", "down_s"), [(1, 12.0), pytest.param(3, 30.0, marks=pytest.mark.slow)])
async def test_while_kafka_is_down_nothing_is_acknowledged_and_everything_can_be_asked(
    tmp_path: Path, times: int, down_s: float
):
    """Kill -9 of the broker."""

    async def kill_kafka(installation: Installation) -> None:
        prober = installation.prober
        assert prober is not None
        for _ in range(times):
            killed_s = time.monotonic()
            await asyncio.to_thread(installation.kafka.kill)
            answers = await refusals(installation, until_s=killed_s + down_s)
            accepted = [took_s for status, took_s, _ in answers if status == HTTPStatus.ACCEPTED]
            slowest_s = max(took_s for _, took_s, _ in answers)
            share = prober.answered(killed_s, killed_s + down_s)
            await asyncio.to_thread(installation.kafka.start)
            back_s = time.monotonic()
            print(
                f"down {down_s:g} s: {len(answers)} posts refused within {slowest_s:.2f} s, {share:.2%} of questions ok"
            )
            assert not accepted, "202 without a broker"
            assert all(proper for _, _, proper in answers), "503, Retry-After and a problem document"
            assert slowest_s <= stretched(REFUSED_WITHIN_S) + ROUNDING_S
            assert share >= 0.99
            await installation.grows("metrics_app_folded_values_total", by=10_000, within_s=60)
            print(f"folding again {time.monotonic() - back_s:.1f} s after Kafka was back")
        for worker in installation.workers.values():
            await asyncio.to_thread(worker.await_ready)
        await eventually(lambda: installation.count("metrics_app_lag_records") == 0, 60)
        print(f"lag 0 {time.monotonic() - back_s:.1f} s after Kafka was back")
        await installation.fresh()

    with Installation(tmp_path, {"a": "all", "b": "all"}) as installation:
        run = await installation.under_load(kill_kafka, installation.plan())
        assert_exact(run)
        assert run.reasons.get("status 503", 0) > 0
        assert installation.prober is not None
        assert installation.prober.wrong() == []


async def refusals(installation: Installation, until_s: float) -> list[tuple[int, float, bool]]:
    """Single posts one after the other: status, seconds until the answer, and whether a refusal is a proper one."""
    found = []
    timeout = aiohttp.ClientTimeout(total=stretched(10))
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while time.monotonic() < until_s:
            for url in installation.tell:
                started = time.monotonic()
                async with session.post(f"{url}/samples", json=["never-kept", 1.0]) as reply:
                    proper = reply.status == 503 and "Retry-After" in reply.headers and reply.content_type == PROBLEM
                    found.append((reply.status, time.monotonic() - started, proper))
            await asyncio.sleep(0.2)
    return found


@pytest.mark.slow
async def test_a_freeze_shorter_than_the_session_moves_no_partition(tmp_path: Path):
    """SIGSTOP for 5 s of collector, aggregator and broker in turn."""

    async def freeze_each(installation: Installation) -> None:
        before = installation.counts("metrics_app_rebalances_total")
        for name in ("c", "a", "b"):
            installation.workers[name].pause()
            await asyncio.sleep(5)
            installation.workers[name].resume()
            await asyncio.sleep(5)
        pid = installation.kafka.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(5)
        os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(8)
        assert installation.counts("metrics_app_rebalances_total") == before, "a partition moved"
        await installation.fresh()

    with Installation(tmp_path, {"c": "collector", "a": "aggregator", "b": "aggregator"}) as installation:
        run = await installation.under_load(freeze_each, installation.plan())
        assert_exact(run)
        assert run.loop.latency_s, "nothing was sent"
        assert max(run.loop.latency_s) > 4, "nothing was held up"
        assert installation.prober is not None
        assert installation.prober.wrong(lambda one: one.took_s > 2) == []


@pytest.mark.slow
def test_a_worker_that_starts_before_kafka_says_what_it_waits_for_and_goes_on(tmp_path: Path):
    installation = Installation(tmp_path, {"a": "all"})
    worker = installation.workers["a"]
    try:
        worker.start()
        while "waiting for Kafka at" not in worker.tail(40):
            assert worker.is_running, worker.tail()
            time.sleep(0.1)
        assert urllib.request.urlopen(f"{worker.url}/livez", timeout=2).status == HTTPStatus.OK
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"{worker.url}/readyz", timeout=2)
        installation.kafka.start()
        print(f"ready {worker.await_ready():.1f} s after Kafka")
    finally:
        installation.__exit__(*sys.exc_info())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("topic", "partitions", "policy", "said"),
    [
        ("samples", 3, "delete", "has 3 partitions, METRICS_PARTITIONS says 4"),
        ("metrics-aggregator-hours-changelog", 4, "delete", "has cleanup.policy=delete"),
        ("samples", 4, "compact", "has cleanup.policy=compact"),
    ],
)
async def test_topics_set_up_otherwise_end_the_worker_with_one_clear_line(
    tmp_path: Path, topic: str, partitions: int, policy: str, said: str
):
    """Exit code 3 within 10 s."""
    installation = Installation(tmp_path, {"a": "aggregator"})
    worker = installation.workers["a"]
    try:
        installation.kafka.start()
        admin = AIOKafkaAdminClient(bootstrap_servers=installation.kafka.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs={"cleanup.policy": policy})])
        await admin.close()
        worker.start()
        took_s = await eventually(lambda: not worker.is_running, 20)
        print(f"ended after {took_s:.1f} s")
        assert worker.exit_code == 3
        assert [line for line in worker.tail(50).splitlines() if said in line], worker.tail()
        assert "Traceback" not in worker.tail(50)
    finally:
        installation.__exit__(*sys.exc_info())
