"""From an earlier release to this one under load and worker by worker, and back, which is refused where rows are newer.

The earlier release is really installed: a wheel built from its commit, in an environment of its own.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.installation import Installation, assert_exact, eventually
from tests.faults.test_downgrade import counted_and_stopped, last_rows
from tests.installed.earlier import OLDER_ROWS, installed, previous_release

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]

# aggregators first: they read what collectors of the release before write, and not always the other way round
IN_TURN = {
    "aggregator-1": "aggregator",
    "aggregator-2": "aggregator",
    "collector-1": "collector",
    "collector-2": "collector",
}


async def test_worker_by_worker_to_this_release_under_load_every_value_counts_once(tmp_path: Path) -> None:
    earlier = installed(previous_release(), tmp_path / "earlier")
    installation = Installation(tmp_path, IN_TURN)
    now = {name: worker.interpreter for name, worker in installation.workers.items()}
    for worker in installation.workers.values():
        worker.interpreter = earlier

    async def upgrade(installation: Installation) -> None:
        for name, worker in installation.workers.items():
            assert str(tmp_path / "earlier") in worker.command[0]
            assert await asyncio.to_thread(worker.stop) == 0
            worker.interpreter = now[name]
            await asyncio.to_thread(installation.restart, name)
            await installation.fresh()

    with installation:
        run = await installation.under_load(upgrade, installation.plan(rate=2000))
        assert_exact(run)
        assert not [worker for worker in installation.workers.values() if "earlier" in worker.command[0]]


async def test_back_to_a_release_that_does_not_know_these_rows_is_refused_and_they_stay_as_they_are(
    tmp_path: Path,
) -> None:
    earlier = installed(OLDER_ROWS, tmp_path / "earlier")
    with Installation(tmp_path, {"a": "all"}) as installation:
        worker, kafka = installation.workers["a"], installation.kafka.bootstrap
        ledger, before = await counted_and_stopped(worker, kafka)
        now, worker.interpreter = worker.interpreter, earlier

        worker.start()
        print(f"ended after {await eventually(lambda: not worker.is_running, 60):.1f} s")
        assert worker.exit_code == 3
        assert "rows of a newer release" in worker.said
        assert await last_rows(kafka) == before

        worker.interpreter = now
        await asyncio.to_thread(installation.restart, "a")
        await asyncio.to_thread(ledger.assert_exact)
