"""Which workers of an installation are ready."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from http import HTTPStatus

import aiohttp

LOOK_S = 0.25
TIMEOUT_S = 2.0


class Readiness:
    """What /readyz of each address said when last looked; `up` is that by address."""

    def __init__(self, session: aiohttp.ClientSession, urls: Iterable[str]) -> None:
        self.up = dict.fromkeys(urls, False)
        self._session = session

    async def until_all(self) -> None:
        """Returns when all are ready."""
        while not await self._look():  # noqa: ASYNC110  another process can set no event of ours
            await asyncio.sleep(LOOK_S)

    async def watch(self, stop: asyncio.Event) -> None:
        """Looks again and again until `stop` is set."""
        while not stop.is_set():
            await self._look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)

    async def _look(self) -> bool:
        found = await asyncio.gather(*(self._is_ready(url) for url in self.up))
        self.up.update(zip(self.up, found, strict=True))
        return all(found)

    async def _is_ready(self, url: str) -> bool:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with self._session.get(f"{url.rstrip('/')}/readyz", timeout=timeout) as reply:
                return reply.status == HTTPStatus.OK
        except (aiohttp.ClientError, TimeoutError):
            return False
