"""Two workers killed in turn under load: every value counts once, and again when rebuilt from the changelog alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from metrics_app.verify.plan import Form
from metrics_app.verify.run import read_back
from tests.faults.installation import Fault, Installation, assert_exact, assert_right

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


def kill_each(times: int) -> Fault:
    """Kills both workers in turn, each so many times."""

    async def kill_in_turn(installation: Installation) -> None:
        await asyncio.sleep(1)
        for name in tuple(installation.workers) * times:
            installation.workers[name].kill()
            await asyncio.sleep(1)
            await asyncio.to_thread(installation.restart, name)
            await asyncio.sleep(2)

    return kill_in_turn


@pytest.mark.parametrize(
    ("form", "times"),
    [
        (Form.JSON, 1),
        pytest.param(Form.JSON, 4, marks=pytest.mark.slow),
        pytest.param(Form.MSGPACK, 4, marks=pytest.mark.slow),
    ],
)
async def test_killed_in_turn_under_load_and_rebuilt_from_nothing_every_value_counts_once(
    tmp_path: Path, form: Form, times: int
):
    """JSON is fenced by idempotency keys, msgpack columns by the numbers of their senders."""
    with Installation(tmp_path, {"a": "all", "b": "all"}) as installation:
        plan = installation.plan(form=form)
        run = await installation.under_load(kill_each(times), plan)
        assert_exact(run)
        assert [worker.starts for worker in installation.workers.values()] == [times + 1] * 2
        assert installation.prober is not None
        assert installation.prober.wrong() == []

        await installation.rebuild()
        assert_right(await read_back(plan, run.ledger))
