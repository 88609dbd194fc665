"""An open loop: requests start when the schedule says so, whether or not the earlier ones have been answered.

A closed loop would wait with the service and so hide its stalls. Latency is counted from the scheduled moment.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Awaitable, Callable

LATE_S = 0.1  # a start this much behind its schedule is late
LATE_SHARE = 0.01  # more late starts than this, and the rate was not the one asked for


class OpenLoop:
    """A fixed schedule of `total` requests, one every `interval_s`, at most `in_flight` unanswered at a time.

    When that many are unanswered the schedule waits, and the starts after that are late: `is_held` tells.

    Attributes:
        behind_s: how far behind its schedule each request started.
        latency_s: time from each scheduled moment to its answer; only where the request was kept.
    """

    def __init__(self, total: int, interval_s: float, in_flight: int) -> None:
        self.total = total
        self.interval_s = interval_s
        self.behind_s = array("d")
        self.latency_s = array("d")
        self._free = list(range(in_flight))
        self._freed = asyncio.Event()

    async def run(self, send: Callable[[int, int], Awaitable[bool]], until: asyncio.Event | None = None) -> float:
        """Calls `send(number, lane)` for every number below `total`; the calls of one lane follow each other.

        `send` says whether the request was kept. When `until` is set no more are started. Returns the time from the
        first start to the last, in seconds.
        """
        start = time.monotonic()
        async with asyncio.TaskGroup() as requests:
            for number in range(self.total):
                if until is not None and until.is_set():
                    break
                due = start + number * self.interval_s
                if (ahead_s := due - time.monotonic()) > 0:
                    await asyncio.sleep(ahead_s)
                lane = await self._lane()
                self.behind_s.append(time.monotonic() - due)
                requests.create_task(self._one(send, number, lane, due))
            return time.monotonic() - start

    @property
    def is_held(self) -> bool:
        """Whether the requests started on time, but for 1 %."""
        return self.late <= LATE_SHARE * len(self.behind_s)

    @property
    def late(self) -> int:
        """Number of requests that started more than `LATE_S` behind the schedule."""
        return sum(behind > LATE_S for behind in self.behind_s)

    async def _lane(self) -> int:
        # the lane freed last is taken first, so that as few lanes as possible are in use
        while not self._free:
            self._freed.clear()
            await self._freed.wait()
        return self._free.pop()

    async def _one(self, send: Callable[[int, int], Awaitable[bool]], number: int, lane: int, due: float) -> None:
        try:
            if await send(number, lane):
                self.latency_s.append(time.monotonic() - due)
        finally:
            self._free.append(lane)
            self._freed.set()
