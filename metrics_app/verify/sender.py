"""Sends one request and says what is known of its fate: kept, surely not kept, or unknown.

Called by `audit` and `run`.

With `until_kept` a request is sent again, the same body under the same idempotency key, to the next address each time,
until it is acknowledged: its fate is then known, and a service that counts each id once must count it exactly once.

An open loop: requests start when the schedule says so, whether or not the earlier ones have been answered.

A closed loop would wait with the service and so hide its stalls. Latency is counted from the scheduled moment.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

import aiohttp
import msgspec

from metrics_app.verify.ledger import Outcome

TIMEOUT_S = 5.0  # of one attempt; above the service's own deadline, so that its answer is seen
FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 2.0
# answered before anything is kept; every other error may come after Kafka has it
SURELY_REFUSED = range(400, 500)


class Sender:
    """Requests to POST /samples of one or more addresses, taken in turn, by requests and by attempts of each.

    Attributes:
        reasons: attempts that did not succeed, by kind.
        attempts: requests by the number of attempts they took.

    Args:
        session: open client session, with room for as many connections as requests are in flight.
        urls: base URLs.
        content_type: of every body.
        until_kept: how long a request is sent again until it is acknowledged, in seconds; 0: sent once.
        with_key: send an idempotency key; needless where the values are numbered.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        urls: Sequence[str],
        content_type: str = "application/json",
        until_kept: float = 0.0,
        with_key: bool = False,
    ) -> None:
        self._session = session
        self._addresses = [f"{url.rstrip('/')}/samples" for url in urls]
        self._turn = itertools.count()
        self._content_type = content_type
        self._until_kept = until_kept
        self._with_key = with_key
        self.reasons: dict[str, int] = {}
        self.attempts: Counter[int] = Counter()

    async def send(self, body: bytes, count: int) -> Outcome:
        """Sends the body, again if need be, and returns what is known of its `count` values after the last attempt."""
        headers = {"Content-Type": self._content_type}
        if self._with_key:
            headers["Idempotency-Key"] = str(uuid.uuid4())
        give_up = time.monotonic() + self._until_kept
        pause_s, worst, turn = FIRST_PAUSE_S, Outcome.FAIL, next(self._turn)
        for attempt in itertools.count():
            address = self._addresses[(turn + attempt) % len(self._addresses)]
            outcome = await self._attempt(address, body, headers, count)
            if outcome is Outcome.UNKNOWN or outcome is Outcome.OK:
                worst = outcome
            if outcome is Outcome.OK or time.monotonic() + pause_s > give_up:
                break
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_PAUSE_S)
        self.attempts[attempt + 1] += 1
        return worst

    async def _attempt(self, address: str, body: bytes, headers: dict[str, str], count: int) -> Outcome:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with self._session.post(address, data=body, headers=headers, timeout=timeout) as reply:
                return self._judge(reply.status, await reply.read(), count)
        except aiohttp.ClientConnectorError as error:  # never connected, so nothing was sent
            return self._note(type(error).__name__, Outcome.FAIL)
        except (aiohttp.ClientError, TimeoutError) as error:
            return self._note(type(error).__name__, Outcome.UNKNOWN)

    def _judge(self, status: int, reply: bytes, count: int) -> Outcome:
        if status == HTTPStatus.ACCEPTED:
            if msgspec.json.decode(reply)["accepted"] == count:
                return Outcome.OK
            return self._note("accepted in part", Outcome.UNKNOWN)
        return self._note(f"status {status}", Outcome.FAIL if status in SURELY_REFUSED else Outcome.UNKNOWN)

    def _note(self, reason: str, outcome: Outcome) -> Outcome:
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        return outcome


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
        """Whether at most 1 % of the requests started late."""
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
