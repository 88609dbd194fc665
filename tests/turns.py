"""Whether others have their turn: an event loop that one task keeps answers nobody and sends no heartbeat."""

from __future__ import annotations

import asyncio


class Others:
    """A task that does nothing but wait for its next turn, within a block.

    Attributes:
        turns: how many it had.
    """

    turns = 0

    async def __aenter__(self) -> Others:
        self._task = asyncio.create_task(self._count())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.turns += 1
