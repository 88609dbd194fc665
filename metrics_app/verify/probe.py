"""Asks questions all through a drill, as a client that knows every address, and notes how they are answered.

Called by `course` and `drill_report`.

Which workers of an installation are ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec

from metrics_app.verify.audit import address
from metrics_app.verify.ledger import KeyHour

INTERVAL_S = 0.1
DEADLINE_S = 3.0  # for an answer, from whichever address; above the service's own deadline for one of them
AT_A_TIME = 16


@dataclass(frozen=True)
class ProbedQuestion:
    """One question: when it was asked, when it was answered (None: in vain), and whether by a copy that may lag."""

    at: float
    answered: float | None
    stale: bool = False


@dataclass(frozen=True)
class Availability:
    """What became of questions. `gap_s`: the longest time in which none was answered."""

    asked: int
    answered: int
    stale: int
    gap_s: float

    @property
    def share(self) -> float:
        """Share of the questions that were answered; 1.0 when none was asked."""
        return self.answered / self.asked if self.asked else 1.0

    @property
    def stale_share(self) -> float:
        """Share of the answers that were stale."""
        return self.stale / self.answered if self.answered else 0.0


def availability_of(asked: Sequence[ProbedQuestion]) -> Availability:
    """Sums up how the questions were answered; they may come in any order."""
    if not asked:
        return Availability(0, 0, 0, 0.0)
    answered = [each.answered for each in asked if each.answered is not None]
    moments = sorted([min(each.at for each in asked), max(each.at for each in asked), *answered])
    gap_s = max(after - before for before, after in itertools.pairwise(moments))
    return Availability(len(asked), len(answered), sum(each.stale for each in asked), gap_s)


class Probe:
    """Questions for the counts of keys and hours, one every `INTERVAL_S` whether or not the last one was answered.

    Attributes:
        counted: the highest count seen, by key and hour.
        wrong: a sentence for each answer, not marked stale, that says less than was answered before it was asked.
    """

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        self.counted: dict[KeyHour, int] = {}
        self.wrong: list[str] = []
        self._asked: list[ProbedQuestion] = []
        self._session = session
        self._urls = [url.rstrip("/") for url in urls]
        self._turn = itertools.count()
        self._gate = asyncio.Semaphore(AT_A_TIME)

    async def run(self, key_hours: Callable[[], Iterable[KeyHour]], stop: asyncio.Event) -> None:
        """Asks for each of `key_hours` in turn until `stop` is set; returns when the last is answered or given up."""
        waiting: list[KeyHour] = []
        async with asyncio.TaskGroup() as questions:
            while not stop.is_set():
                waiting = waiting or list(key_hours())
                if waiting:
                    questions.create_task(self._probe(waiting.pop()))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), INTERVAL_S)

    async def counts(self, key_hours: Iterable[KeyHour]) -> dict[KeyHour, int]:
        """The counts of the owners now; a key is left out when only a stale copy, or no worker, answers."""
        wanted = list(key_hours)
        found = await asyncio.gather(*(self._sure_count(each) for each in wanted))
        return {each: count for each, count in zip(wanted, found, strict=True) if count is not None}

    def availability(self, since: float = 0.0, until: float = float("inf")) -> Availability:
        """How the questions asked between two monotonic times were answered."""
        return availability_of([each for each in self._asked if since <= each.at <= until])

    async def _probe(self, of: KeyHour) -> None:
        at = time.monotonic()
        document = await self._question(of)
        answered = None if document is None else time.monotonic()
        self._asked.append(ProbedQuestion(at, answered, bool(document and document["stale"])))

    async def _sure_count(self, of: KeyHour) -> int | None:
        async with self._gate:
            document = await self._question(of)
        return None if document is None or document["stale"] else int(document["count"])

    async def _question(self, of: KeyHour) -> dict[str, Any] | None:
        before = self.counted.get(of, 0)
        document = await self._answer(of)
        if document is not None:
            if document["count"] < before and not document["stale"]:
                self.wrong.append(f"{of[0]}: counted {document['count']:,} after {before:,}, and not marked stale")
            self.counted[of] = max(self.counted.get(of, 0), document["count"])
        return document

    async def _answer(self, of: KeyHour) -> dict[str, Any] | None:
        """The first answer that an address gives, None when there is none; nothing recorded is a count of 0."""
        first = next(self._turn)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE_S):
                for number in range(len(self._urls)):
                    status, body = await self._get(self._urls[(first + number) % len(self._urls)], *of)
                    if status == HTTPStatus.OK:
                        document: dict[str, Any] = msgspec.json.decode(body)
                        return document
                    if status == HTTPStatus.NOT_FOUND:
                        return {"count": 0, "stale": False}
        return None

    async def _get(self, base: str, key: str, hour: int) -> tuple[int, bytes]:
        try:
            async with self._session.get(address(base, key, "count", hour)) as reply:
                return reply.status, await reply.read()
        except aiohttp.ClientError:
            return 0, b""


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
