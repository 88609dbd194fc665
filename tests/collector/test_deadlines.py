"""One timer ends all that wait too long, each at its own time, and keeps nothing beyond that."""

from __future__ import annotations

import asyncio
import weakref

import pytest

from metrics_app.collector.publisher import Deadlines


async def test_what_is_not_done_in_time_fails_and_what_is_does_not():
    deadlines, loop = Deadlines(0.05), asyncio.get_running_loop()
    first, done, cancelled = loop.create_future(), loop.create_future(), loop.create_future()
    for outcome in (first, done, cancelled):
        deadlines.watch(outcome)
    done.set_result(None)
    cancelled.cancel()
    await asyncio.sleep(0.03)
    assert not first.done()
    second = loop.create_future()
    deadlines.watch(second)
    with pytest.raises(TimeoutError):
        await first
    assert not second.done()
    with pytest.raises(TimeoutError):
        await second
    assert done.result() is None


async def test_nothing_is_kept_once_its_time_is_over():
    deadlines, loop = Deadlines(0.01), asyncio.get_running_loop()
    kept = weakref.WeakSet[asyncio.Future[None]]()
    for _ in range(100):
        outcome = loop.create_future()
        kept.add(outcome)
        deadlines.watch(outcome)
        outcome.set_result(None)
    del outcome
    assert len(kept) == 100
    await asyncio.sleep(0.05)
    assert not kept
    last = loop.create_future()
    deadlines.watch(last)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(last, 5)
