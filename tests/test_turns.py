"""Long work shares the event loop: one slice in each turn, whoever else is busy."""

from __future__ import annotations

import asyncio

import pytest

from metrics_app import turns
from metrics_app.turns import Slice, turn
from tests.turns import Others


async def test_busy_tasks_have_one_slice_in_a_turn_of_the_loop_and_others_have_every_turn(monkeypatch):
    monkeypatch.setattr(turns, "SLICE_S", 0.0)
    slices: list[str] = []

    async def busy(name: str) -> None:
        a_slice = Slice()
        for _ in range(10):
            await a_slice.rest()
            slices.append(name)

    async with Others() as others:
        await asyncio.gather(*(busy(name) for name in "abcd"))
    assert slices[:8] == [*"abcdabcd"], "in turn"
    assert others.turns >= len(slices) - 1, "a turn for others between any two slices"


async def test_a_slice_that_is_not_over_costs_no_turn():
    async with Others() as others:
        await Slice().rest()
    assert others.turns == 0


async def test_a_task_that_is_cancelled_while_it_waits_holds_nobody_up():
    first, second, third = (asyncio.create_task(turn()) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    async with asyncio.timeout(1):
        await third
        await turn()
    with pytest.raises(asyncio.CancelledError):
        await first


def test_each_event_loop_has_turns_of_its_own():
    async def abandoned() -> None:
        asyncio.get_running_loop().create_task(turn())

    asyncio.run(abandoned())
    asyncio.run(asyncio.wait_for(turn(), 1))
