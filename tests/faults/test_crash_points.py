"""A worker ends at each step of a value's way, from the parsing of a body to recovery and expiry."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from metrics_app.verify.run import read_back
from tests.faults import points
from tests.faults.crashing import CRASH_FILE, CRASHED
from tests.faults.installation import MUTANT, Installation, assert_exact, assert_right, eventually
from tests.faults.process import Process

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(1500)]

BITES_S = 20.0


class Crashing:
    """Two workers of all roles, the first of which can be made to end at a point."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.file = installation.folder / "crash"
        self.worker: Process = installation.workers["a"]
        self.crashes = 0
        for worker in installation.workers.values():
            worker.module = "tests.faults.mutants" if MUTANT in os.environ else "tests.faults.crashing"
            worker.settings[CRASH_FILE] = str(installation.folder / f"never-{worker.name}")
        self.worker.settings[CRASH_FILE] = str(self.file)

    async def at(self, point: str) -> None:
        """Has the worker end at a point, and start again."""
        passes = 1 if point in points.STARTING else self.installation.random.randint(1, 8)
        if point in points.STARTING:
            self.worker.kill()
            if point == points.RESTORING:
                self.installation.wipe("a")
            self.file.write_text(f"{point} {passes}")
            self.worker.start()
        else:
            self.file.write_text(f"{point} {passes}")
        await eventually(lambda: not self.worker.is_running, BITES_S + 40 * (point in points.STARTING))
        assert self.worker.exit_code == CRASHED, self.worker.tail()
        assert f"crash at {point}" in self.worker.tail(3)
        self.file.unlink()
        self.crashes += 1
        self.worker.start()
        await asyncio.to_thread(self.worker.await_ready)
        await asyncio.sleep(1)


@pytest.mark.parametrize(
    "where",
    [
        pytest.param(points.TELLING, id="short", marks=pytest.mark.slow),  # tests/sim does it at every step, faster
        *[pytest.param(points.RUNNING + points.STARTING, id=f"all-{turn}", marks=pytest.mark.slow) for turn in "abc"],
    ],
)
async def test_a_crash_between_any_two_steps_neither_loses_nor_doubles(tmp_path: Path, where: tuple[str, ...]):
    """os._exit at the point, under load, and exact again from the changelog alone."""
    installation = Installation(tmp_path, {"a": "all", "b": "all"})
    crashing = Crashing(installation)

    async def crash_everywhere(_: Installation) -> None:
        for point in where:
            await crashing.at(point)
        await installation.fresh()

    with installation:
        plan = installation.plan()
        run = await installation.under_load(crash_everywhere, plan)
        print(f"{crashing.crashes} crashes")
        assert_exact(run)
        assert installation.prober is not None
        assert installation.prober.wrong() == []
        await installation.rebuild()
        assert_right(await read_back(plan, run.ledger))
