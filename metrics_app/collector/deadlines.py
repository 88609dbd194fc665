"""One timer for all requests that wait, in place of one for each."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class Deadlines:
    """Ends what has waited for `limit_s`; as all wait equally long, the first to come is the first to be ended."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, outcome: asyncio.Future[Any]) -> None:
        """Fails the future with TimeoutError if it is not done in time. It is kept until then."""
        loop = outcome.get_loop()
        self._waiting.append((loop.time() + self._limit_s, outcome))
        if self._timer is None:
            self._timer = loop.call_later(self._limit_s, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        while self._waiting:
            due, outcome = self._waiting[0]
            if not outcome.done():
                if due > loop.time():
                    self._timer = loop.call_at(due, self._sweep, loop)
                    return
                outcome.set_exception(TimeoutError())
            self._waiting.popleft()
