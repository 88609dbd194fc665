"""One attempt to send a batch to one address, and what it came to."""

from __future__ import annotations

import encodings.idna  # noqa: F401 # else imported at the first connection: a fork meanwhile would leave it locked
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus
from typing import NamedTuple

import msgspec
import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.util import Retry, Timeout

from metrics_app.client.batch import Batch
from metrics_app.wire.dropped import HEADER

# "not now": the same request may be taken later
RETRIED = frozenset({408, 425, 429, 502, 503, 504})
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
    """Connections to the collectors, kept open between requests."""

    def __init__(self, headers: Mapping[str, str], connect_timeout_s: float) -> None:
        self._headers = {"Content-Type": "application/msgpack", "User-Agent": "metrics-app", **headers}
        self._connect_timeout_s = connect_timeout_s
        self._now = time.time
        self._pool = urllib3.PoolManager(maxsize=1)
        # one place retries: this one knows no other address, and would sleep where nobody can wake it
        self._after = Retry(total=0, allowed_methods={"POST"}, status_forcelist=RETRIED)

    def send(self, url: str, batch: Batch, timeout_s: float, dropped: str) -> Attempt:
        """Sends the batch once; never raises.

        Args:
            dropped: text of the header that reports dropped values.
        """
        headers = dict(self._headers)
        if batch.gzipped:
            headers["Content-Encoding"] = "gzip"
        if dropped:
            headers[HEADER] = dropped
        timeout = Timeout(connect=min(self._connect_timeout_s, timeout_s), read=timeout_s)
        sent_s = self._now()
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
        return self._judged(reply, body, batch.count)._replace(heard=_heard(reply, sent_s, self._now()))

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
    if status in RETRIED:
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
    except msgspec.DecodeError:
        return _Reply()
