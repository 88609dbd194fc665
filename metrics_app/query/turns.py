"""Long questions take turns: a month of hours is read for half a second, and thirty such at once would all be late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from metrics_app.errors import OwnerUnavailableError
from metrics_app.query.question import Window

LONG_HOURS = 24  # what is longer is a long question
AT_ONCE = 2


class Turns:
    """The turns of a worker.

    Attributes:
        patience_s: longest wait for one.
        free: those that nobody has.
    """

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self.free = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def take(self, window: Window) -> AsyncIterator[None]:
        """Within it, a window may be read.

        Raises:
            OwnerUnavailableError: it is a long one, and others were before it for too long.
        """
        if window.end - window.first <= LONG_HOURS:
            yield
            return
        try:
            async with asyncio.timeout(self.patience_s):
                await self.free.acquire()
        except TimeoutError:
            raise OwnerUnavailableError("other long questions are being answered here") from None
        try:
            yield
        finally:
            self.free.release()
