"""Bodies are taken apart in turns, so that the event loop goes on turning whatever comes at once.

A body of 100,000 keys takes a second. So large ones, and those of which nobody knows how large they are once inflated,
go one by one to a thread; of small ones so many bytes are taken apart in one turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import NamedTuple

from metrics_app.errors import OverloadedError
from metrics_app.wire import bodies

SMALL_BYTES = 64 << 10
TURN_BYTES = 128 << 10


class Body(NamedTuple):
    """A body as it was sent, and what its header said of it."""

    sent: bytes
    content_type: str
    gzipped: bool
    request_id: bytes


class Parsing:
    """Takes bodies apart.

    Args:
        limits: bounds on samples and their times.
        max_inflated_bytes: of a gzipped body.
        patience_s: longest wait of a large body for those before it.
    """

    def __init__(self, limits: bodies.Limits, max_inflated_bytes: int, patience_s: float) -> None:
        self._limits = limits
        self._max_inflated_bytes = max_inflated_bytes
        self._patience_s = patience_s
        self._thread = ThreadPoolExecutor(1, "bodies")
        self._one_at_a_time = asyncio.Lock()
        self._taken = 0  # bytes, in this turn of the loop

    async def parse(self, body: Body, now_s: float) -> tuple[bytes, bodies.Parsed]:
        """The body inflated, and what it holds.

        Raises:
            InvalidBodyError: nothing in it can be told apart as an item, or it is too large, or no gzip.
            OverloadedError: too many others are before it.
        """
        if body.gzipped or len(body.sent) > SMALL_BYTES:
            async with self._turn():
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._parse, body, now_s)
        while self._taken and self._taken + len(body.sent) > TURN_BYTES:  # noqa: ASYNC110  each turn lets some go on
            await asyncio.sleep(0)
        if not self._taken:
            asyncio.get_running_loop().call_soon(self._begin_turn)
        self._taken += len(body.sent)
        return self._parse(body, now_s)

    def _begin_turn(self) -> None:
        self._taken = 0

    def _parse(self, body: Body, now_s: float) -> tuple[bytes, bodies.Parsed]:
        inflated = bodies.inflate(body.sent, self._max_inflated_bytes) if body.gzipped else body.sent
        return inflated, bodies.parse(inflated, body.content_type, now_s, self._limits, body.request_id)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._one_at_a_time.acquire()
        except TimeoutError:
            detail = (
                f"too many large bodies wait to be read, for {self._patience_s:g} s; nothing was kept, send it again"
            )
            raise OverloadedError(detail, reason="busy", nothing_kept=True) from None
        try:
            yield
        finally:
            self._one_at_a_time.release()
