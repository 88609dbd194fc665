"""The end of an ASGI app's lifespan, whatever server it runs on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from metrics_app import AsyncMetricsClient, Options
from metrics_app.client.asgi import TimingMiddleware

from .collector import Collector

STARTUP, SHUTDOWN = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}


async def live(app: Any, client: Any) -> list[str]:
    """A server that starts an app, has it record, and ends it; what the app said."""
    said: list[str] = []
    messages = iter([STARTUP, SHUTDOWN])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        said.append(message["type"])

    await TimingMiddleware(app, client)({"type": "lifespan"}, receive, send)
    return said


async def takes_part(scope: Any, receive: Any, send: Any) -> None:
    for phase in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{phase}.complete"})


async def raises(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("only http")


async def returns(scope: Any, receive: Any, send: Any) -> None:
    pass


@pytest.mark.parametrize("app", [takes_part, raises, returns])
async def test_what_was_recorded_is_sent_before_the_lifespan_is_over(collector: Collector, app: Any) -> None:
    async with AsyncMetricsClient(collector.url, Options(interval_s=60)) as client:
        client.record("a", 1.0)
        assert await live(app, client) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert collector.counted("a") == 1
        client.record("a", 1.0)  # it is not closed: another app may use it
    assert collector.counted("a") == 2


async def test_an_app_that_cannot_start_says_so_itself(collector: Collector) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise RuntimeError("no database")

    async with AsyncMetricsClient(collector.url) as client:
        with pytest.raises(RuntimeError, match="no database"):
            await live(fails, client)


async def test_a_loop_is_not_blocked_meanwhile(collector: Collector) -> None:
    collector.mode = "slow"
    async with AsyncMetricsClient(collector.url, Options(interval_s=60)) as client:
        client.record("a", 1.0)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        await live(takes_part, client)
        ticking.cancel()
    assert ticks > 10
