"""Time that stands still until the story moves it."""

from __future__ import annotations

import asyncio
from typing import Any


class SimLoop(asyncio.SelectorEventLoop):
    """An event loop on simulated time; its deadlines and sleeps pass only when `now_s` is moved."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s
        super().__init__()
        self.set_exception_handler(lambda _loop, _context: None)  # futures of crashed workers are nobody's business

    def time(self) -> float:
        """Simulated epoch seconds."""
        return self.now_s

    def settle(self) -> None:
        """Runs everything that can run without time passing."""
        inside: Any = self
        while True:
            self.call_soon(self.stop)
            self.run_forever()
            due = inside._scheduled and inside._scheduled[0]._when < self.now_s
            if not inside._ready and not due:
                return


class Clock:
    """Stands in for the `time` module in what is simulated."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        """Simulated seconds."""
        return self._loop.now_s

    def time(self) -> float:
        """Simulated epoch seconds."""
        return self._loop.now_s

    def thread_time(self) -> float:
        """No CPU is spent in a simulation."""
        return 0.0
