"""Shares the event loop: long work goes in slices, at most one slice in each turn of the loop.

Called by `collector.publisher`, `collector.lane`, `aggregator.agent`, `aggregator.flusher`, `aggregator.replica` and
`query`.

Whatever is short, such as a question, a health check or the header of a request, is done in every turn, so it waits for
one slice and not for all the work that is queued. Two busy tasks share the slices equally. `asyncio.sleep(0)` does not
do this: with it every busy task has a slice in every turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter
from weakref import WeakKeyDictionary

SLICE_S = 0.002

_waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, deque[asyncio.Future[None]]] = WeakKeyDictionary()


class Slice:
    """The slices of one task. It begins with one, and asks for the next one when that is over."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = perf_counter() + SLICE_S

    @property
    def is_over(self) -> bool:
        """Whether the others are to have their turn now."""
        return perf_counter() >= self._end

    async def rest(self) -> None:
        """Returns with a new slice, at once when the last one is not over."""
        if self.is_over:
            await turn()
            self._end = perf_counter() + SLICE_S


async def turn() -> None:
    """Returns in a turn of the event loop in which no other slice begins."""
    loop = asyncio.get_running_loop()
    waiting = _waiting.setdefault(loop, deque())
    granted: asyncio.Future[None] = loop.create_future()
    waiting.append(granted)
    if len(waiting) == 1:
        loop.call_soon(_grant, loop, waiting)
    await granted


def _grant(loop: asyncio.AbstractEventLoop, waiting: deque[asyncio.Future[None]]) -> None:
    while waiting and waiting[0].done():  # cancelled
        waiting.popleft()
    if waiting:
        waiting[0].set_result(None)
        loop.call_soon(_grant, loop, waiting)  # which takes it away in the next turn of the loop
