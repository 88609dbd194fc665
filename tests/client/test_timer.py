from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any

import pytest

from metrics_app.client.timer import Timer


class Ledger:
    def __init__(self) -> None:
        self.taken: list[tuple[str, float]] = []

    def record(self, key: str, ms: float) -> None:
        self.taken.append((key, ms))


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def took(ledger: Ledger) -> list[bool]:
    """Whether each took about the 30 ms it slept; a loaded machine may take longer."""
    return [key == "k" and 29 < ms < 5000 for key, ms in ledger.taken]


def fail() -> None:
    time.sleep(0.03)
    raise KeyError


def test_a_block_is_timed_also_when_it_raises(ledger: Ledger) -> None:
    with Timer(ledger, "k"):
        time.sleep(0.03)
    with pytest.raises(KeyError), Timer(ledger, "k"):
        fail()
    assert took(ledger) == [True, True]


def test_a_function_is_timed_at_each_call_also_when_it_raises(ledger: Ledger) -> None:
    @Timer(ledger, "k")
    def work(a: int, *, b: int = 0) -> int:
        """Adds."""
        time.sleep(0.03)
        return a // b

    assert (work(6, b=3), work.__name__, work.__doc__) == (2, "work", "Adds.")
    with pytest.raises(ZeroDivisionError):
        work(1)
    assert took(ledger) == [True, True]


async def test_a_coroutine_function_is_timed_until_it_is_over_many_at_once(ledger: Ledger) -> None:
    @Timer(ledger, "k")
    async def work(a: int) -> int:
        await asyncio.sleep(0.03)
        return a

    assert inspect.iscoroutinefunction(work)
    assert await asyncio.gather(*map(work, range(5))) == [0, 1, 2, 3, 4]
    assert took(ledger) == [True] * 5


async def test_an_async_block_is_timed_also_when_it_is_cancelled(ledger: Ledger) -> None:
    async def work() -> None:
        async with Timer(ledger, "k"):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.03)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(ledger.taken) == 1


def test_methods_are_timed(ledger: Ledger) -> None:
    class Shop:
        @Timer(ledger, "k")
        def work(self, what: Any) -> Any:
            return what

    assert Shop().work(7) == 7
    assert len(ledger.taken) == 1
