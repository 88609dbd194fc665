"""Everything that strangers tried, at random and for long, under load; afterwards every accepted value counts once."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from tests.faults.crashing import CRASH_FILE
from tests.faults.installation import Installation, assert_right, eventually
from tests.faults.strangers import HOUR_S, Strangers, supervise

SOAK_S = float(os.environ.get("SOAK_S", "60"))
QUIET_S = (0.5, 4.0)  # between two incidents

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(SOAK_S + 900)]


async def test_whatever_strangers_do_every_accepted_value_counts_once(tmp_path: Path) -> None:
    """Two aggregators and three collectors; SOAK_S seconds of incidents, 60 unless said otherwise (`make soak`)."""
    roles = {"a": "aggregator", "b": "aggregator", "c": "collector", "d": "collector", "e": "collector"}
    with Installation(tmp_path, roles) as installation:
        for name, worker in installation.workers.items():  # from its next start on it can be made to raise
            worker.module = "tests.faults.crashing"
            worker.settings[CRASH_FILE] = str(tmp_path / f"crash-{name}")
        strangers = Strangers(installation)

        async def disturb(_: Installation) -> None:
            over = asyncio.Event()
            async with asyncio.TaskGroup() as together:
                together.create_task(supervise(installation, over))
                until = time.monotonic() + SOAK_S
                while time.monotonic() < until:
                    await strangers.happen()
                    await asyncio.sleep(installation.random.uniform(*QUIET_S))
                for worker in installation.workers.values():
                    await eventually(worker.is_ready, 120)
                over.set()
            await installation.fresh()

        run = await installation.under_load(disturb, installation.plan(rate=2000))
        print(f"incidents {dict(strangers.done)}")
        print(f"values of strangers {sum(strangers.accepted.values())}")
        assert_right(run.verdict)
        await counts(installation, strangers)
        await installation.rebuild()
        await counts(installation, strangers)


async def counts(installation: Installation, strangers: Strangers) -> None:
    """Asserts that the values of strangers count once."""
    for (key, hour), accepted in strangers.accepted.items():
        assert await count(installation.ask[0], key, hour) == accepted, f"{key} in hour {hour}"


async def count(url: str, key: str, hour: int) -> int:
    at = datetime.fromtimestamp(hour * HOUR_S, UTC)
    give_up = time.monotonic() + 60
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/{key}/count/{at:%Y-%m-%d}/{at.hour}") as reply:
                if reply.status == 200:
                    return int((await reply.json())["value"])
                assert reply.status == 503, await reply.text()
                assert time.monotonic() < give_up, await reply.text()
            await asyncio.sleep(0.3)
