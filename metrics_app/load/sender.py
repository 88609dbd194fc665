"""Sends one request and says what is known of its fate: kept, surely not kept, or unknown.

With `until_kept` a request is sent again, the same body under the same idempotency key, to the next address each time,
until it is acknowledged: its fate is then known, and a service that counts each id once must count it exactly once.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus

import aiohttp
import msgspec

from metrics_app.load.ledger import Outcome

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
        """What is known of the `count` values of the body after the last attempt."""
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
