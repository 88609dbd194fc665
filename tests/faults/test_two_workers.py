"""Two workers under load, killed in turn: every value counts once, from the local state and from the changelog alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from metrics_app.cli.plan import Form
from tests.faults.installation import Installation, assert_exact

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

KILLS_EACH = 4


async def kill_each_in_turn(installation: Installation) -> None:
    await asyncio.sleep(3)
    for _ in range(KILLS_EACH):
        for name in installation.workers:
            installation.workers[name].kill()
            await asyncio.sleep(1)
            await asyncio.to_thread(installation.restart, name)
            await asyncio.sleep(2)


@pytest.mark.parametrize("form", [Form.JSON])
async def test_two_workers_killed_in_turn_under_load_count_every_value_once(tmp_path: Path, form: Form) -> None:
    with Installation(tmp_path, {"a": "all", "b": "all"}) as installation:
        run = await installation.under_load(kill_each_in_turn, form=form)
        assert_exact(run)
        assert all(worker.starts == KILLS_EACH + 1 for worker in installation.workers.values())
