"""A query finds a worker that holds its partition: this one, else ONE forward to the owner, else to a standby.

Promises: an answer or a 503 within the deadline whatever other workers do; a forwarded request is never forwarded
again, so no two workers can play ping-pong with it; only URLs that `Owners` gives are contacted, redirects are not
followed; an answer is taken over byte for byte, and only if it comes from a worker that holds the partition.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    TCPConnector,
    web,
)
from mode import Service
from yarl import URL

from metrics_app.errors import OwnerUnavailableError
from metrics_app.holdings import ACTIVE, Owners, SummaryReader
from metrics_app.telemetry import Telemetry

logger = logging.getLogger(__name__)

HOP = "X-Metrics-Hop"
ROLE = "X-Metrics-Role"

# headers that are passed on; everything else is between two neighbours
TO_WORKER = ("Accept", "If-None-Match")
TO_CLIENT = frozenset({"content-type", "etag", "cache-control", "retry-after", "last-modified", "vary", "link"})
OURS = "x-metrics-"

ANSWERS = frozenset({200, 304, 404})
REFUSALS = frozenset({502, 503})

AVOID_S = 2.0
MAX_CONNECTIONS = 1024
MAX_ANSWER_BYTES = 8 << 20

Local = Callable[[], Awaitable[web.Response]]


class _NoAnswerError(Exception):
    """A reply that is not the answer of a worker that holds the partition; `outcome` is how it is counted."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


class Router(Service):
    """Answers through whoever holds the partition; owns the connections to the other workers.

    A forward is counted as answered, refused (503: not held there), unusable (something else came back), unreachable,
    timeout or broken; after the last three the worker is asked last for AVOID_S.

    Args:
        deadline_s: longest time for one answer, shared fairly among the workers still to be asked.
        connect_s: longest time to connect to one of them.
    """

    session: ClientSession | None = None

    def __init__(
        self,
        reader: SummaryReader,
        owners: Owners,
        telemetry: Telemetry,
        *,
        deadline_s: float,
        connect_s: float,
        **service: Any,
    ) -> None:
        super().__init__(**service)
        self.reader = reader
        self.owners = owners
        self.telemetry = telemetry
        self.deadline_s = deadline_s
        self.connect_s = connect_s
        self.avoided: dict[str, float] = {}

    async def on_start(self) -> None:
        """Open the shared client session."""
        self.session = ClientSession(
            connector=TCPConnector(limit=MAX_CONNECTIONS),
            # the deadline of an attempt is set where the attempt is made
            timeout=ClientTimeout(total=None, sock_connect=self.connect_s),
            cookie_jar=DummyCookieJar(),
            skip_auto_headers=("User-Agent",),
            auto_decompress=False,
        )

    async def on_stop(self) -> None:
        """Close it, with what is still under way."""
        if self.session is not None:
            await self.session.close()

    async def answer(self, request: web.Request, partition: int, local: Local) -> web.Response:
        """What `local` gives if this worker is the owner, or was asked by another one; else what a holder answers.

        Raises:
            OwnerUnavailableError: nobody who holds the partition answered in time.
        """
        if HOP in request.headers:
            return await local()
        clock = asyncio.get_running_loop().time
        end, urls = clock() + self.deadline_s, self._candidates(partition, clock())
        for nth, url in enumerate(urls):
            share = (end - clock()) / (len(urls) - nth)
            reply = await self._try(local) if url == self.owners.url else await self._ask(url, request, share)
            if reply is not None:
                return reply
        raise OwnerUnavailableError(f"none of the {len(urls)} workers known to hold this key can answer now")

    def _candidates(self, partition: int, now: float) -> list[str]:
        held, ours = self.reader.holds(partition), self.owners.url
        listed = self.owners.owners(partition)
        if held == ACTIVE:
            listed = [ours, *listed]
        elif held:
            listed = [*listed, ours]
        # one that failed a moment ago is asked last, not never: it may be the only one that has the key
        return sorted(dict.fromkeys(listed), key=lambda url: self.avoided.get(url, now) > now)

    @staticmethod
    async def _try(local: Local) -> web.Response | None:
        try:
            return await local()
        except OwnerUnavailableError:
            return None

    async def _ask(self, url: str, request: web.Request, share_s: float) -> web.Response | None:
        outcome, reply = "answered", None
        try:
            async with asyncio.timeout(share_s):
                reply = await self._forward(url, request)
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            outcome = self._avoid(url, "unreachable", error)
        except TimeoutError as error:
            outcome = self._avoid(url, "timeout", error)
        except (ClientError, OSError, ValueError) as error:
            outcome = self._avoid(url, "broken", error)
        except _NoAnswerError as error:
            outcome = error.outcome
            logger.debug("worker %s gave no answer: %s", url, error)
        self.telemetry.forwards.labels(outcome).inc()
        return reply

    def _avoid(self, url: str, outcome: str, error: Exception) -> str:
        now = asyncio.get_running_loop().time()
        if self.avoided.get(url, now) <= now:
            logger.warning("worker %s is asked last for %g s: %s %r", url, AVOID_S, outcome, error)
        self.avoided = {other: until for other, until in self.avoided.items() if until > now} | {url: now + AVOID_S}
        return outcome

    async def _forward(self, url: str, request: web.Request) -> web.Response:
        if self.session is None:
            raise _NoAnswerError("unusable", "this worker is still starting")
        # GET also for HEAD: the server side drops the body and keeps its length
        async with self.session.get(_target(url, request), headers=_asked(request), allow_redirects=False) as reply:
            return await _answer_of(reply)


def _target(url: str, request: web.Request) -> URL:
    """The URL at another worker; path and query exactly as they came, for decoding them loses %2F and `..`."""
    path, query = request.rel_url.raw_path, request.rel_url.raw_query_string
    return URL(f"{url.rstrip('/')}{path}{'?' if query else ''}{query}", encoded=True)


def _asked(request: web.Request) -> dict[str, str]:
    kept = {name: request.headers[name] for name in TO_WORKER if name in request.headers}
    return kept | {HOP: "1", "Accept-Encoding": "identity"}


async def _answer_of(reply: ClientResponse) -> web.Response:
    """The reply as our own response.

    Raises:
        _NoAnswerError: an error, a redirect, too long, or from somebody who does not hold the partition.
    """
    if reply.status in REFUSALS:
        raise _NoAnswerError("refused", f"status {reply.status}")
    if reply.status not in ANSWERS or ROLE not in reply.headers or "Content-Encoding" in reply.headers:
        raise _NoAnswerError("unusable", f"status {reply.status}")
    body = bytearray()
    async for part in reply.content.iter_any():
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            raise _NoAnswerError("unusable", f"over {MAX_ANSWER_BYTES:,} bytes")
    headers = {name: value for name, value in reply.headers.items() if _is_for_client(name.lower())}
    return web.Response(status=reply.status, body=bytes(body), headers=headers)


def _is_for_client(name: str) -> bool:
    return name in TO_CLIENT or name.startswith(OURS)
