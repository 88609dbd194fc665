"""All workers are restarted one after another behind the front proxy, as a deployment does, and nobody notices."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from pathlib import Path

import pytest

from tests.faults.front import haproxy
from tests.faults.installation import Installation, assert_exact, assert_none_failed, eventually

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (shutil.which("haproxy") or Path("/usr/sbin/haproxy").exists()),
        reason="needs HAProxy: apt-get install haproxy",
    ),
]

WORKERS = {
    "collector-1": "collector",
    "collector-2": "collector",
    "aggregator-1": "aggregator",
    "aggregator-2": "aggregator",
}
# a restart takes a few seconds, within which a named worker's partitions wait for it
SETTINGS = {"METRICS_SESSION_TIMEOUT_S": "60", "METRICS_STOP_DELAY_S": "2"}


async def test_a_rolling_restart_fails_no_request_and_no_question(tmp_path: Path) -> None:
    installation = Installation(tmp_path, WORKERS, SETTINGS)
    for name, worker in installation.workers.items():
        worker.settings = {**worker.settings, "METRICS_INSTANCE_ID": name}

    async def restart_all(installation: Installation) -> None:
        assert installation.prober is not None
        await eventually(installation.prober.knows_all, 25)
        await asyncio.sleep(2)  # as long as a standby may be behind
        for name, worker in installation.workers.items():
            assert await asyncio.to_thread(worker.stop) == 0
            worker.start()
            print(f"{name} ready again after {await asyncio.to_thread(worker.await_ready):.1f} s")
            await asyncio.sleep(3)

    with installation, haproxy(tmp_path, {name: worker.url for name, worker in installation.workers.items()}) as front:
        plan = dataclasses.replace(installation.plan(), urls=(front,), query_urls=(front,))
        run = await installation.under_load(restart_all, plan)
        assert_exact(run)
        assert_none_failed(run)
        assert installation.prober is not None
        assert installation.prober.answered() == 1.0
        assert installation.prober.wrong() == []
