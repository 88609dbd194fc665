"""Questions asked all the time while a fault is on: whether they are answered, and whether an answer ever goes back."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp
import msgspec

from metrics_app.verify.audit import address
from tests.faults.pace import stretched

HOUR_S = 3600
TIMEOUT_S = 3.0  # above the service's own deadline, so that its refusal is seen
INTERVAL_S = 0.1  # between two questions for one key
CLOSED_AGE_H = 2
IN_CLOSED = 7  # values in the closed hour of each key
PROBLEM = "application/problem+json"
FRESH_S = 5.0


class Seen(NamedTuple):
    """One question and what came of it.

    Attributes:
        asked_s: monotonic time.
        took_s: until the answer.
        key, hour: what was asked.
        url: who answered, empty when nobody could be connected to or answered in time.
        status: of the answer, 0 for none.
        proper: whether it is an answer, or a problem document with Retry-After.
        counted, stale, role, as_of: of the answer; -1, False and empty without one.
        said: why there is no answer, as the problem document has it.
    """

    asked_s: float
    took_s: float
    key: str
    hour: int
    url: str
    status: int
    proper: bool
    counted: int = -1
    stale: bool = False
    role: str = ""
    as_of: str = ""
    said: str = ""


class Prober:
    """Asks for the count of each key, of a closed hour and of the open one in turn, ten times a second a key.

    It does as a load balancer: a worker that cannot be connected to, or does not answer in time, is passed over.

    Args:
        ask, tell: base URLs that answer questions and that take samples.
        keys: sampled by somebody else in the open hour.
    """

    def __init__(self, ask: Sequence[str], tell: Sequence[str], keys: Sequence[str]) -> None:
        self.ask = list(ask)
        self.tell = list(tell)
        self.keys = list(keys)
        self.closed = int(time.time()) // HOUR_S - CLOSED_AGE_H
        self.seen: list[Seen] = []

    @asynccontextmanager
    async def asking(self) -> Any:
        """Fills the closed hour, then asks in the background."""
        timeout = aiohttp.ClientTimeout(total=stretched(TIMEOUT_S))
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            await self._fill(session)
            over = asyncio.Event()  # not a cancellation: one that meets a timeout of the client may get lost
            async with asyncio.TaskGroup() as asking:
                for key in self.keys:
                    asking.create_task(self._keep_asking(session, key, over))
                try:
                    yield self
                finally:
                    over.set()

    async def _fill(self, session: aiohttp.ClientSession) -> None:
        at_s = self.closed * HOUR_S + 1800
        items = [(key, 1.0 + number, at_s) for key in self.keys for number in range(IN_CLOSED)]
        async with session.post(f"{self.tell[0]}/samples", json=items) as reply:
            assert reply.status == HTTPStatus.ACCEPTED, await reply.text()
        give_up = time.monotonic() + 30
        for key in self.keys:
            while (await self._one(session, key, self.closed, self.ask)).counted != IN_CLOSED:
                assert time.monotonic() < give_up, f"the closed hour of {key} is not filled"
                await asyncio.sleep(0.1)

    async def _keep_asking(self, session: aiohttp.ClientSession, key: str, over: asyncio.Event) -> None:
        for turn in itertools.count():
            if over.is_set():
                break
            due = time.monotonic() + INTERVAL_S
            hour = int(time.time()) // HOUR_S if turn % 2 else self.closed
            at = turn // 2 % len(self.ask)
            self.seen.append(await self._one(session, key, hour, self.ask[at:] + self.ask[:at]))
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _one(self, session: aiohttp.ClientSession, key: str, hour: int, urls: Iterable[str]) -> Seen:
        asked_s, timeout = time.monotonic(), aiohttp.ClientTimeout(stretched(TIMEOUT_S))
        for url in urls:
            try:
                async with session.get(address(url, key, "count", hour), timeout=timeout) as reply:
                    body = await reply.read()
            except (aiohttp.ClientError, TimeoutError):
                continue
            base = Seen(asked_s, time.monotonic() - asked_s, key, hour, url, reply.status, _is_proper(reply))
            if reply.status != HTTPStatus.OK:
                return base._replace(said=_detail(body))
            told = msgspec.json.decode(body)
            return base._replace(counted=told["count"], stale=told["stale"], role=told["role"], as_of=told["as_of"])
        return Seen(asked_s, time.monotonic() - asked_s, key, hour, "", 0, False)

    def between(self, since_s: float = 0.0, until_s: float = float("inf")) -> list[Seen]:
        """Questions asked in an interval of monotonic time."""
        return [one for one in self.seen if since_s <= one.asked_s < until_s]

    def knows_all(self) -> bool:
        """Whether every key has been answered for its open hour."""
        return {one.key for one in self.seen if one.counted > 0 and one.hour != self.closed} == set(self.keys)

    def answered(self, since_s: float = 0.0, until_s: float = float("inf"), by: str = "") -> float:
        """Share of the questions of an interval that got an answer; "no data" is one, see `wrong`.

        Of an hour that begins while its keys have no owner nothing is counted anywhere: who asks for it before anybody
        was told anything of it may be refused.

        Args:
            by: base URL: only those that this worker answered or refused.
        """
        first: dict[tuple[str, int], float] = {}
        for one in self.seen:
            if _is_told(one) or one.hour == self.closed:
                first.setdefault((one.key, one.hour), one.asked_s)
        asked = [one for one in self.between(since_s, until_s) if not by or one.url == by]
        known = [one for one in asked if one.asked_s >= first.get((one.key, one.hour), float("inf"))]
        return sum(map(_is_told, known)) / len(known)

    def normal_after(self, since_s: float) -> float:
        """Seconds after a moment until every key is answered by its owner and not stale, and stays so."""
        bad = [one.asked_s + one.took_s for one in self.between(since_s) if one.status != HTTPStatus.OK or one.stale]
        return max(bad, default=since_s) - since_s

    def silent_s(self) -> float:
        """Longest time for which a key had no answer."""
        longest = 0.0
        for key in self.keys:
            times = [one.asked_s + one.took_s for one in self.seen if one.key == key and one.status == HTTPStatus.OK]
            longest = max([longest, *(after - before for before, after in itertools.pairwise(times))])
        return longest

    def wrong(self, may_be_silent: Callable[[Seen], bool] = lambda one: False) -> list[str]:
        """A sentence for every answer that breaks a promise.

        The count of a closed hour is what it is. That of an open one never falls but in answers marked stale. What
        exists is never "no data". Who cannot answer says 503, when to ask again, and does it in a problem document.

        Args:
            may_be_silent: whether a question may go without any answer.
        """
        found, highest = [], defaultdict[tuple[str, int], int](int)
        for one in self.seen:
            so_far = highest[one.key, one.hour]
            if one.status == HTTPStatus.OK:
                highest[one.key, one.hour] = max(so_far, one.counted)
                if one.hour == self.closed and one.counted != IN_CLOSED:
                    found.append(f"closed hour: {IN_CLOSED} became {one.counted}: {one}")
                elif one.counted < so_far and not one.stale:
                    found.append(f"{so_far} fell to {one.counted}: {one}")
            elif one.status == HTTPStatus.NOT_FOUND:
                if so_far:
                    found.append(f"{so_far} became no data: {one}")
            elif one.status == HTTPStatus.SERVICE_UNAVAILABLE:
                if not one.proper:
                    found.append(f"a refusal without Retry-After or problem document: {one}")
            elif not may_be_silent(one):
                found.append(f"no answer: {one}")
        return found

    def report(self) -> str:
        """The figures in one line."""
        of = Counter(
            f"{one.status}{' ' + one.role if one.role else ''}{' stale' if one.stale else ''}" for one in self.seen
        )
        slowest = max((one.took_s for one in self.seen), default=0.0)
        return (
            f"{len(self.seen)} questions: {dict(of)}; longest silence {self.silent_s():.1f} s, slowest {slowest:.2f} s"
        )


def _is_told(one: Seen) -> bool:
    return one.status in (HTTPStatus.OK, HTTPStatus.NOT_FOUND)


def _detail(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["detail"])
    except (msgspec.DecodeError, TypeError, KeyError):
        return body[:200].decode(errors="replace")


def _is_proper(reply: aiohttp.ClientResponse) -> bool:
    if reply.status == HTTPStatus.OK:
        return True
    said_when = reply.status != HTTPStatus.SERVICE_UNAVAILABLE or "Retry-After" in reply.headers
    return reply.content_type == PROBLEM and said_when


async def fresh(tell: Sequence[str], ask: Sequence[str], within_s: float = FRESH_S, keys: int = 24) -> float:
    """Seconds from sending until the last of some new keys, one value each, could be queried.

    It asks one address after another, so it says of all of them that they answer.
    """
    names = [f"fresh-{uuid.uuid4().hex[:12]}" for _ in range(keys)]
    at_s = int(time.time())
    started = time.monotonic()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=stretched(TIMEOUT_S))) as session:
        samples = [(name, 1.0, at_s) for name in names]
        while said := await _refusal(session, f"{tell[0]}/samples", samples, names[0]):
            assert time.monotonic() - started < stretched(within_s), said
            await asyncio.sleep(0.05)
        for name, url in zip(names, itertools.cycle(ask)):  # a cycle is longer
            while True:
                async with session.get(address(url, name, "count", at_s // HOUR_S)) as reply:
                    if reply.status == HTTPStatus.OK and (await reply.json())["count"] == 1:
                        break
                    said = f"{reply.status} {await reply.text()}"
                allowed_s = stretched(within_s)
                assert time.monotonic() - started < allowed_s, f"{name} not queryable {allowed_s:.1f} s later: {said}"
                await asyncio.sleep(0.05)
    return time.monotonic() - started


async def _refusal(session: aiohttp.ClientSession, url: str, samples: object, request_id: str) -> str:
    """Why a collector did not take the samples; empty when it did. Repeated it is the same request."""
    async with session.post(url, json=samples, headers={"Idempotency-Key": request_id}) as reply:
        return "" if reply.status == HTTPStatus.ACCEPTED else await reply.text()
