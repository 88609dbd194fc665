"""Sends a batch once to one address, and chooses the address.

Called by `delivery`, `engine`, `options` and `outcome`.

The collectors' addresses, and which of them may be tried now.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 # else imported at the first connection: a fork meanwhile would leave it locked
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus
from typing import NamedTuple

import msgspec
import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.util import Retry, Timeout

from metrics_app.client.buffer import Batch
from metrics_app.credentials import NO_CREDENTIALS, Credentials
from metrics_app.errors import UNREADABLE
from metrics_app.wire.dropped import HEADER

# "not now": the same request may be taken later
RETRIED = frozenset({408, 425, 429, 502, 503, 504})
NOT_YET = frozenset({401})  # about the token, not about the batch: another one may come, and values wait for it
# more about a server, or the proxy before it, than about the request: tried a few more times
DOUBTED_ALSO = frozenset({409, 421})
ABOUT_THE_REQUEST = frozenset({501, 505})  # and everything else below 500
REPLY_BYTES = 1 << 20


class Result(Enum):
    """What is known after an attempt."""

    TAKEN = "taken"
    REFUSED = "refused"  # for good
    TOO_LARGE = "too large"  # smaller parts of it may be taken
    DOUBTFUL = "doubtful"  # it may be a fault of the moment, or of this batch for ever
    NOT_NOW = "not now"
    UNREACHABLE = "unreachable"  # nothing was sent


class Rejected(msgspec.Struct, frozen=True):
    """A series that was not taken: its place in the batch, a word for the reason and a sentence."""

    index: int = -1
    reason: str = ""
    detail: str = ""


class Heard(NamedTuple):
    """A collector's clock, in epoch seconds, and ours when the request was sent and when the reply was there."""

    date_s: float
    sent_s: float
    received_s: float


class Attempt(NamedTuple):
    """An attempt's result.

    Attributes:
        accepted: values taken, if it was TAKEN.
        detail: in words, what went wrong.
        retry_after_s: how long the collector wants to be left alone.
        rejected: series not taken; a collector lists the first hundred.
        heard: what time it is, if the reply says so.
    """

    result: Result
    accepted: int = 0
    detail: str = ""
    retry_after_s: float = 0.0
    rejected: tuple[Rejected, ...] = ()
    heard: Heard | None = None


class _Reply(msgspec.Struct):
    accepted: int | None = None
    rejected: tuple[Rejected, ...] = ()
    detail: str = ""


class Transport:
    """Connections to the collectors, kept open between requests.

    Args:
        clock: nanoseconds since the epoch, by the clock of this machine.
        credentials: what collectors are shown; `headers` win.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        connect_timeout_s: float,
        clock: Callable[[], int],
        credentials: Credentials = NO_CREDENTIALS,
    ) -> None:
        self._headers = {"Content-Type": "application/msgpack", "User-Agent": "metrics-app", **headers}
        self._connect_timeout_s = connect_timeout_s
        self._clock = clock
        self._credentials = credentials
        self._pool = urllib3.PoolManager(maxsize=1)
        # one place retries: this one knows no other address, and would sleep where nobody can wake it
        self._after = Retry(total=0, allowed_methods={"POST"}, status_forcelist=RETRIED)

    def send(self, url: str, batch: Batch, timeout_s: float, dropped: str) -> Attempt:
        """Sends the batch once; never raises.

        Args:
            dropped: text of the header that reports dropped values.
        """
        headers = {**self._credentials.headers(), **self._headers}
        if batch.gzipped:
            headers["Content-Encoding"] = "gzip"
        if dropped:
            headers[HEADER] = dropped
        timeout = Timeout(connect=min(self._connect_timeout_s, timeout_s), read=timeout_s)
        sent_s = self._clock() / 1e9
        try:
            reply = self._pool.request(
                "POST", url, body=batch.body, headers=headers, timeout=timeout, retries=False, preload_content=False
            )
            body = reply.read(REPLY_BYTES)
            reply.release_conn() if len(body) < REPLY_BYTES else reply.close()
        except (NewConnectionError, ConnectTimeoutError) as error:
            return Attempt(Result.UNREACHABLE, detail=f"cannot be reached: {error}")
        except (HTTPError, OSError, ValueError) as error:
            return Attempt(Result.NOT_NOW, detail=f"the connection broke: {error!r}")
        return self._judged(reply, body, batch.count)._replace(heard=_heard(reply, sent_s, self._clock() / 1e9))

    def close(self) -> None:
        """Closes the connections."""
        self._pool.clear()

    def _judged(self, reply: urllib3.BaseHTTPResponse, body: bytes, count: int) -> Attempt:
        said = _read(body)
        if reply.status == HTTPStatus.ACCEPTED:
            accepted = count if said.accepted is None else min(count, said.accepted)
            return Attempt(Result.TAKEN, accepted, said.rejected[0].detail if said.rejected else "", 0.0, said.rejected)
        detail = f"status {reply.status}: {said.detail or reply.reason or 'without a reason'}"
        result = _meaning(reply.status)
        retry_after_s = self._retry_after_s(reply) if result in (Result.NOT_NOW, Result.DOUBTFUL) else 0.0
        return Attempt(result, 0, detail, retry_after_s, said.rejected)

    def _retry_after_s(self, reply: urllib3.BaseHTTPResponse) -> float:
        try:
            return self._after.get_retry_after(reply) or 0.0
        except HTTPError:  # neither seconds nor a date
            return 0.0


def _meaning(status: int) -> Result:
    if status in RETRIED or status in NOT_YET:
        return Result.NOT_NOW
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Result.TOO_LARGE
    if status in DOUBTED_ALSO or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in ABOUT_THE_REQUEST):
        return Result.DOUBTFUL
    return Result.REFUSED


def _heard(reply: urllib3.BaseHTTPResponse, sent_s: float, received_s: float) -> Heard | None:
    try:
        return Heard(parsedate_to_datetime(reply.headers.get("Date", "")).timestamp(), sent_s, received_s)
    except (ValueError, TypeError, OverflowError):
        return None


def _read(body: bytes) -> _Reply:
    try:
        return msgspec.json.decode(body, type=_Reply)
    except UNREADABLE:
        return _Reply()


@dataclass(slots=True)
class CollectorAddress:
    """A collector.

    Attributes:
        url: where batches go.
        failures: in a row.
        not_before: moment of the monotonic clock before which it is left alone.
        problem: what the last failure was.
    """

    url: str
    failures: int = 0
    not_before: float = 0.0
    problem: str = ""


class Addresses:
    """Takes them in turn, so that load is spread, and leaves those alone that have failed, for a while.

    How long is a random part of a time that doubles with each failure ("full jitter"), so that many clients do not come
    back at one moment; or what the collector said in Retry-After.
    """

    def __init__(self, urls: Sequence[str], first_s: float, greatest_s: float) -> None:
        self.all = [CollectorAddress(f"{url.rstrip('/')}/samples") for url in urls]
        self._first_s = first_s
        self._greatest_s = greatest_s
        self._turn = random.randrange(len(self.all))

    def pick(self, now: float) -> CollectorAddress | None:
        """The next address that may be tried now; None when all are in backoff."""
        for _ in self.all:
            self._turn = (self._turn + 1) % len(self.all)
            address = self.all[self._turn]
            if address.not_before <= now:
                return address
        return None

    def wait_s(self, now: float) -> float:
        """Seconds until the first address may be tried again."""
        return max(0.0, min(address.not_before for address in self.all) - now)

    def worked(self, address: CollectorAddress) -> None:
        """Forgets its failures."""
        address.failures, address.not_before, address.problem = 0, 0.0, ""

    def failed(
        self, address: CollectorAddress, now: float, problem: str, retry_after_s: float = 0.0, patient: bool = False
    ) -> None:
        """Puts the address into backoff.

        Args:
            retry_after_s: what it asked for; it gets up to a fifth more, at random.
            patient: whether retries are so many already that only the greatest backoff is left.
        """
        address.failures += 1
        address.problem = problem
        ceiling = min(self._greatest_s, self._first_s * 2.0 ** min(address.failures - 1, 30))
        least, most = (self._greatest_s / 2, self._greatest_s) if patient else (0.0, ceiling)
        pause_s = random.uniform(least, most)
        address.not_before = now + max(pause_s, retry_after_s * random.uniform(1.0, 1.2))


class RetryBudget:
    """How many retries are left: each batch sent earns a share of one, so that retries cannot multiply load.

    Args:
        share: retries a batch.
        reserve: what there is to begin with, and at most.
    """

    def __init__(self, share: float, reserve: float = 10.0) -> None:
        self._share = share
        self._reserve = reserve
        self._left = reserve

    def earn(self) -> None:
        """Earns a share of a retry for a batch that was sent."""
        self._left = min(self._reserve, self._left + self._share)

    def spend(self) -> bool:
        """Uses up one retry; False when none is left."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
