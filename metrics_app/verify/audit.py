"""Reads aggregates back from a running service, and measures how soon an accepted sample can be queried.

Called by `probe` and `run`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from metrics_app.errors import ClientError
from metrics_app.verify.ledger import Expected, KeyHour, Outcome
from metrics_app.verify.sender import Sender
from metrics_app.verify.traffic import HOUR_S
from metrics_app.verify.verdict import ServiceAnswer

IN_FLIGHT = 16
TIMEOUT_S = 5.0
RETRY_S = 0.2
DRAIN_INTERVAL_S = 0.25
SETTLE_S = 1.0  # a doubled value may follow the last expected one
PROBE_INTERVAL_S = 0.5
POLL_S = 0.02
POLL_SHARE = 0.1  # of a probe's age between two looks: those that wait for long must not become the load themselves


def address(base: str, key: str, stat: str, hour: int) -> URL:
    """The URL of a statistic of a key and hour; `base` has no trailing slash."""
    at = datetime.fromtimestamp(hour * HOUR_S, UTC)
    return URL(f"{base}/{quote(key, safe='')}/{stat}/{at:%Y-%m-%d}/{at.hour}", encoded=True)


class Reader:
    """Queries to one or more addresses, taken in turn; a service that cannot answer is asked again for `patience_s`."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str], patience_s: float) -> None:
        self.patience_s = patience_s
        self._session = session
        self._bases = itertools.cycle([url.rstrip("/") for url in urls])
        self._gate = asyncio.Semaphore(IN_FLIGHT)

    async def ask(self, key: str, stat: str, hour: int) -> dict[str, Any] | None:
        """Asks for a statistic and returns the document; None when there is no data.

        Raises:
            ClientError: no answer within `patience_s`.
        """
        give_up = time.monotonic() + self.patience_s
        while True:
            status, body = await self._get(key, stat, hour)
            if status == HTTPStatus.OK:
                document: dict[str, Any] = msgspec.json.decode(body)
                return document
            if status == HTTPStatus.NOT_FOUND:
                return None
            if time.monotonic() > give_up:
                raise ClientError(f"{key}/{stat}: no answer in {self.patience_s:g} s, at last: {body.decode()[:200]}")
            await asyncio.sleep(RETRY_S)

    async def answers(self, key_hours: Iterable[KeyHour]) -> dict[KeyHour, ServiceAnswer | None]:
        """All aggregates of each key and hour."""
        wanted = list(key_hours)
        return dict(zip(wanted, await asyncio.gather(*(self._answer(*each) for each in wanted)), strict=True))

    async def _answer(self, key: str, hour: int) -> ServiceAnswer | None:
        document = await self.ask(key, "summary", hour)
        if document is None:
            return None
        return ServiceAnswer(document["count"], document["values"], document["error_bound"])

    async def _get(self, key: str, stat: str, hour: int) -> tuple[int, bytes]:
        url = address(next(self._bases), key, stat, hour)
        try:
            async with self._gate, self._session.get(url, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as reply:
                return reply.status, await reply.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            return 0, repr(error).encode()


async def drained(
    reader: Reader, expected: Mapping[KeyHour, Expected], within_s: float, on_left: Callable[[int], None]
) -> dict[KeyHour, ServiceAnswer | None]:
    """Asks until everything accepted is counted or `within_s` have passed, and returns all answers.

    Args:
        on_left: told the number of keys and hours still waited for.
    """
    give_up = time.monotonic() + within_s
    settle_s = min(SETTLE_S, within_s)
    left = set(expected)
    while left:
        found = await reader.answers(left)
        left = {each for each in left if _counted(found[each]) < expected[each].ok.count}
        on_left(len(left))
        if time.monotonic() > give_up:
            break
        await asyncio.sleep(DRAIN_INTERVAL_S if left else settle_s)
    return await reader.answers(expected)


def _counted(answer: ServiceAnswer | None) -> int:
    return answer.counted if answer else 0


class Freshness:
    """Sends single samples, each with a key of its own, and polls until each can be queried.

    Attributes:
        seen_s: time from the reply 202 to the first answer, a sample each; 20 ms too long at most, or a tenth of it.
        never: samples accepted that did not show in the reader's patience, or showed with another count than 1.
    """

    def __init__(self, sender: Sender, reader: Reader, prefix: str) -> None:
        self._sender = sender
        self._reader = reader
        self._prefix = prefix
        self.seen_s: list[float] = []
        self.never = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Starts a probe every `PROBE_INTERVAL_S` until `stop` is set; returns when all have ended.

        Raises:
            ClientError: the service did not answer a query.
        """
        async with asyncio.TaskGroup() as probes:
            for number in itertools.count():
                probes.create_task(self._probe(f"{self._prefix}-{number}"))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), PROBE_INTERVAL_S)
                if stop.is_set():
                    return

    async def _probe(self, key: str) -> None:
        at_s = int(time.time())
        if await self._sender.send(msgspec.json.encode([(key, 1.0, at_s)]), 1) is not Outcome.OK:
            return
        accepted = time.monotonic()
        while (answer := await self._reader.ask(key, "count", at_s // HOUR_S)) is None:
            waited_s = time.monotonic() - accepted
            if waited_s > self._reader.patience_s:
                break
            await asyncio.sleep(max(POLL_S, POLL_SHARE * waited_s))
        if answer is None or answer["value"] != 1:
            self.never += 1
        else:
            self.seen_s.append(time.monotonic() - accepted)
