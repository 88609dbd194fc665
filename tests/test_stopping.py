"""What a worker does between being told to stop and stopping."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

from metrics_app.http.problems import Health
from metrics_app.serving import go_on_unready


def parts(crash: BaseException | None = None, after_s: float = 60.0) -> tuple[Any, asyncio.Task[Any], asyncio.Event]:
    async def crashing() -> BaseException | None:
        await asyncio.sleep(after_s)
        return crash

    asked = asyncio.Event()
    asked.set()
    return SimpleNamespace(health=Health()), asyncio.create_task(crashing()), asked


async def test_it_goes_on_not_ready_for_the_delay() -> None:
    app, crashed, asked = parts()
    started = time.monotonic()
    assert await go_on_unready(app, crashed, asked, 0.2) is None
    assert time.monotonic() - started >= 0.19
    assert app.health.stopping
    crashed.cancel()


async def test_who_asks_again_is_not_kept_waiting() -> None:
    app, crashed, asked = parts()
    asyncio.get_running_loop().call_later(0.05, asked.set)
    started = time.monotonic()
    assert await go_on_unready(app, crashed, asked, 60) is None
    assert time.monotonic() - started < 30
    crashed.cancel()


async def test_a_crash_meanwhile_is_one() -> None:
    app, crashed, asked = parts(ValueError("flusher died"), after_s=0.05)
    assert isinstance(await go_on_unready(app, crashed, asked, 60), ValueError)
