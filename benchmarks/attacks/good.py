"""The good client: 100 values and 10 questions a second, and a look at /livez, whatever else goes on.

Called by `run`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp

A_SECOND = 10
VALUES = 10
TIMEOUT_S = 10.0
KEY = "good"


@dataclass
class Times:
    """What became of the requests of one kind: seconds of those that did well, and how the others ended."""

    took_s: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def p(self, share: float) -> float:
        """A quantile of the times in milliseconds; -1 when nothing did well."""
        ordered = sorted(self.took_s)
        return round(1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)], 1) if ordered else -1.0

    def to_json(self) -> dict[str, Any]:
        """The figures."""
        return {
            "p50_ms": self.p(0.5),
            "p99_ms": self.p(0.99),
            "max_ms": self.p(1.0),
            "ok": len(self.took_s),
            "failed": dict(self.failed),
        }


class GoodClient:
    """Sends what was not answered 202 once more at the end, as the same requests: each value is to count once.

    Attributes:
        accepted: values answered 202, by hour.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.accepted: Counter[int] = Counter()
        self._unsure: dict[str, tuple[list[list[Any]], int]] = {}

    async def work(self, seconds: float) -> dict[str, Times]:
        """Posts, asks and looks for so long; the times of each."""
        kinds = {"post": Times(), "question": Times(), "livez": Times()}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True)) as fresh,
            asyncio.TaskGroup() as tasks,
        ):
            end = time.monotonic() + seconds
            while (now := time.monotonic()) < end:
                tasks.create_task(self._post(session, kinds["post"]))
                tasks.create_task(self._get(session, self._question(), kinds["question"]))
                tasks.create_task(self._get(fresh, f"{self.url}/livez", kinds["livez"]))
                await asyncio.sleep(max(0.0, now + 1 / A_SECOND - time.monotonic()))
        return kinds

    def _question(self) -> str:
        at = datetime.now(UTC)
        return f"{self.url}/{KEY}/p99/{at:%Y-%m-%d}/{at.hour}"

    async def _post(self, session: aiohttp.ClientSession, times: Times) -> None:
        at = int(time.time())
        body = [[KEY, float(number), at] for number in range(VALUES)]
        name, started = uuid.uuid4().hex, time.monotonic()
        self._unsure[name] = body, at // 3600
        try:
            self._note(times, started, await self._send(session, name), {202})
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            times.failed[type(error).__name__] += 1

    async def _send(self, session: aiohttp.ClientSession, name: str) -> int:
        body, hour = self._unsure[name]
        async with session.post(f"{self.url}/samples", json=body, headers={"Idempotency-Key": name}) as reply:
            await reply.read()
            if reply.status == 202:
                del self._unsure[name]
                self.accepted[hour] += VALUES
            return reply.status

    async def _get(self, session: aiohttp.ClientSession, url: str, times: Times) -> None:
        started = time.monotonic()
        try:
            async with session.get(url) as reply:
                await reply.read()
                self._note(times, started, reply.status, {200, 404})
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            times.failed[type(error).__name__] += 1

    @staticmethod
    def _note(times: Times, started: float, status: int, good: set[int]) -> None:
        if status in good:
            times.took_s.append(time.monotonic() - started)
        else:
            times.failed[str(status)] += 1

    async def counted(self) -> dict[int, int]:
        """What the service counts, of each hour with accepted values."""
        found = {}
        async with aiohttp.ClientSession() as session:
            while self._unsure:
                await self._send(session, next(iter(self._unsure)))
            await asyncio.sleep(2.0)
            for hour in self.accepted:
                at = datetime.fromtimestamp(hour * 3600, UTC)
                async with session.get(f"{self.url}/{KEY}/count/{at:%Y-%m-%d}/{at.hour}") as reply:
                    found[hour] = (await reply.json()).get("count", 0) if reply.status == 200 else 0
        return found
