"""Asks other workers: one request each, with a deadline, and remembers who has just failed to answer.

Called by `keys`, `routing` and `views`.

Only a listed few headers cross, both ways; redirects are not followed; a reply is taken over byte for byte, and only if
it comes from a worker that answers for the partition and, where workers share a secret, proves to know it
(`http/proof.py`).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import NamedTuple

import msgspec
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

from metrics_app.errors import UNREADABLE, Progress
from metrics_app.http.access import is_from_worker
from metrics_app.http.problems import PROBLEM
from metrics_app.http.proof import ANSWER_PROOF, HOP, OLD_TOKEN, PROOF, ROLE, Asked, ClusterSecret
from metrics_app.query.members import Members
from metrics_app.telemetry import Telemetry

logger = logging.getLogger(__name__)

WITHIN = "X-Metrics-Within"  # seconds in which the worker that asks wants the answer

# headers that are passed on; everything else is between two neighbours
TO_WORKER = ("Accept", "If-None-Match")
TO_CLIENT = frozenset({"content-type", "etag", "cache-control", "retry-after", "last-modified", "vary", "link"})
OURS = "x-metrics-"
BETWEEN_WORKERS = frozenset(name.lower() for name in (HOP, PROOF, ANSWER_PROOF, OLD_TOKEN, WITHIN))

ANSWERS = frozenset({200, 304, 404})
REFUSALS = frozenset({502, 503})

AVOID_S = 2.0
MAX_CONNECTIONS = 1024
ANSWER_BYTES = 8 << 20  # of an answer without a list; the longest is a histogram of all buckets as CSV
ITEM_BYTES = 16 << 10  # of an item of a list; the longest is an hour of a summary as CSV, a line a statistic
PROMPT = 0.9  # share of the time given in which one that is asked answers; the rest is for the way
MAX_REFUSAL_BYTES = 64 << 10


class _NoAnswerError(Exception):
    """A reply that is not the answer of a worker that holds the partition; `outcome` is how it is counted."""

    def __init__(self, outcome: str, reason: str, recovering: list[Progress] | None = None) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.recovering = recovering or []


class PeerReply(NamedTuple):
    """What came of asking one worker.

    Attributes:
        reply: its answer; None when it gave none.
        recovering: what it says it is still recovering, in place of an answer.
    """

    reply: web.Response | None
    recovering: list[Progress]


class _Refusal(msgspec.Struct):
    recovering: list[Progress] = []


class Peers(Service):
    """Owns the connections to the other workers.

    A request is counted as answered, refused (503: not held there), unusable (something else came back), unreachable,
    timeout or broken; after the last three the worker is to be asked last for AVOID_S, and then by one request first.

    Args:
        connect_s: longest time to connect to one of them.
        most_bytes: of an answer; what is longer comes from somebody out of order.
        secret: what workers share; without it none proves anything.
        accept_old: whether answers that prove nothing are taken in spite of a secret.
        members: where others may be.
        tls: trusted authorities, for workers whose URL is https.
    """

    session: ClientSession | None = None

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        connect_s: float,
        most_bytes: int,
        secret: ClusterSecret,
        accept_old: bool = False,
        members: Members,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self.telemetry = telemetry
        self.connect_s = connect_s
        self.most_bytes = most_bytes
        self.secret = secret
        self.accept_old = accept_old
        self.members = members
        self.tls = tls
        self.avoided: dict[str, float] = {}
        self.warned: set[str] = set()

    async def on_start(self) -> None:
        """Open the shared client session."""
        self.session = ClientSession(
            connector=TCPConnector(limit=MAX_CONNECTIONS, ssl=self.tls or True),
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

    def sent(self, request: web.Request) -> bool:
        """Whether another worker sent this request, which then is answered from what is held here or not at all.

        Who only claims so, without a proof where workers share a secret, is anybody. But a second hop is never passed
        on, whoever claims it: two workers with different secrets, as in a change of it, must not play ping-pong.
        """
        hops = request.headers.get(HOP)
        return hops is not None and (hops != "1" or not self.secret or is_from_worker(request))

    def time_for(self, request: web.Request, most_s: float) -> float:
        """Seconds for the answer to a request of another worker, which takes one that is late for dead."""
        try:
            given_s = PROMPT * float(request.headers.get(WITHIN, "inf"))
        except ValueError:
            return most_s
        return given_s if 0.0 < given_s < most_s else most_s

    def is_avoided(self, url: str) -> bool:
        """Whether a worker did not answer a moment ago."""
        return url in self.avoided and self.avoided[url] > asyncio.get_running_loop().time()

    async def ask(self, url: str, request: web.Request, within_s: float) -> PeerReply:
        """Passes a request on to one worker, which will not pass it on again."""
        if not self.members.has(url):
            self._warn(url, "it is in no network of METRICS_PEERS, and not asked")
            self.telemetry.forwards.labels("unusable").inc()
            return PeerReply(None, [])
        if url in self.avoided:  # its time is over: this request finds out, and the others need not wait for it
            self.avoided[url] = asyncio.get_running_loop().time() + AVOID_S
        outcome, asked = "answered", PeerReply(None, [])
        try:
            async with asyncio.timeout(within_s):
                asked = PeerReply(await self._forward(url, request, within_s), [])
            self.avoided.pop(url, None)
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            outcome = self._avoid(url, "unreachable", error)
        except TimeoutError as error:
            outcome = self._avoid(url, "timeout", error)
        except (ClientError, OSError, ValueError) as error:
            outcome = self._avoid(url, "broken", error)
        except _NoAnswerError as error:
            self.avoided.pop(url, None)
            outcome, asked = error.outcome, PeerReply(None, error.recovering)
            logger.debug("worker %s gave no answer: %s", url, error)
        self.telemetry.forwards.labels(outcome).inc()
        return asked

    def _avoid(self, url: str, outcome: str, error: Exception) -> str:
        if url not in self.avoided:
            logger.warning("worker %s is asked last for %g s at a time: %s %r", url, AVOID_S, outcome, error)
        self.avoided[url] = asyncio.get_running_loop().time() + AVOID_S
        return outcome

    async def _forward(self, url: str, request: web.Request, within_s: float) -> web.Response:
        if self.session is None:
            raise _NoAnswerError("unusable", "this worker is still starting")
        hop = "2" if HOP in request.headers else "1"
        headers = {name: request.headers[name] for name in TO_WORKER if request.headers.get(name, "\xff").isascii()}
        headers |= {HOP: hop, "Accept-Encoding": "identity", WITHIN: f"{within_s:.3f}"}
        nonce = None
        if self.secret:
            headers[PROOF], nonce = self.secret.prove(Asked("GET", url, _target(request), hop))
        # GET also for HEAD: the server side drops the body and keeps its length
        there = URL(f"{url.rstrip('/')}{_target(request)}", encoded=True)
        async with self.session.get(there, headers=headers, allow_redirects=False) as got:
            return await self._answer_of(got, url, nonce)

    async def _answer_of(self, reply: ClientResponse, url: str, nonce: str | None) -> web.Response:
        """The reply as our own response.

        Raises:
            _NoAnswerError: an error, a redirect, too long, without a proof, or from somebody who does not hold the
                partition.
        """
        refused = reply.status in REFUSALS
        if not refused and (reply.status not in ANSWERS or ROLE not in reply.headers):
            raise _NoAnswerError("unusable", f"status {reply.status}")
        if "Content-Encoding" in reply.headers:
            raise _NoAnswerError("unusable", "encoded")
        body = await _body(reply, MAX_REFUSAL_BYTES if refused else self.most_bytes)
        if nonce is not None and not self.accept_old and not self._is_proved(reply, nonce, body):
            self._warn(url, "its answers do not prove that it knows METRICS_CLUSTER_TOKEN, and are not taken")
            raise _NoAnswerError("unusable", f"status {reply.status} without a proof")
        if refused:
            raise _NoAnswerError("refused", f"status {reply.status}", _recovering(reply, body))
        headers = {name: value for name, value in reply.headers.items() if _is_for_client(name.lower())}
        return web.Response(status=reply.status, body=body, headers=headers)

    def _is_proved(self, reply: ClientResponse, nonce: str, body: bytes) -> bool:
        shown, role = reply.headers.get(ANSWER_PROOF, ""), reply.headers.get(ROLE, "")
        return self.secret.is_answer(shown, nonce, reply.status, role, body)

    def _warn(self, url: str, why: str) -> None:
        if url not in self.warned:
            self.warned.add(url)
            logger.warning("worker %s: %s", url, why)


def most_bytes(items: int) -> int:
    """Of an answer with a list of so many items at most."""
    return ANSWER_BYTES + items * ITEM_BYTES


def _target(request: web.Request) -> str:
    """Path and query exactly as they came, for decoding them loses %2F and `..`."""
    path, query = request.rel_url.raw_path, request.rel_url.raw_query_string
    return f"{path}{'?' if query else ''}{query}"


def _recovering(reply: ClientResponse, body: bytes) -> list[Progress]:
    if reply.content_type != PROBLEM:
        return []
    try:
        return msgspec.json.decode(body, type=_Refusal).recovering
    except UNREADABLE:
        return []


async def _body(reply: ClientResponse, limit: int) -> bytes:
    body = bytearray()
    async for part in reply.content.iter_any():
        body += part
        if len(body) > limit:
            raise _NoAnswerError("unusable", f"over {limit:,} bytes")
    return bytes(body)


def _is_for_client(name: str) -> bool:
    return name in TO_CLIENT or (name.startswith(OURS) and name not in BETWEEN_WORKERS)
