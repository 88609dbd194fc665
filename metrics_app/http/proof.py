"""Proves to another worker that a question, or an answer, comes from one that knows METRICS_CLUSTER_TOKEN.

Called by `access` and `query.peers`.

The token itself never crosses the network. A question carries the time, a random nonce and an HMAC-SHA256 of these, of
the method, path and query, of the hop, and of the URL it is for: a worker that it was not for does not take it. The
answer carries an HMAC of that nonce, of its status, role and body: it is an answer to this question alone.
"""

from __future__ import annotations

import hmac
import secrets
import time
from hashlib import sha256
from typing import NamedTuple

from yarl import URL

HOP = "X-Metrics-Hop"
PROOF = "X-Metrics-Proof"
ANSWER_PROOF = "X-Metrics-Answer-Proof"
OLD_TOKEN = "X-Metrics-Token"  # in which releases before this one showed the token itself
ROLE = "X-Metrics-Role"

NONCE_BYTES = 16
PARTS = 3


class Asked(NamedTuple):
    """A question as both sides see it.

    Attributes:
        url: base URL of the worker it is for.
        target: path and query, as they are on the wire.
    """

    method: str
    url: str
    target: str
    hop: str


class ClusterSecret:
    """What workers share.

    Args:
        token: empty: they share nothing, and nothing is proved.
        tolerance_s: how far the clocks of two workers may differ.
    """

    def __init__(self, token: str, tolerance_s: float) -> None:
        self._key = token.encode()
        self._tolerance_s = tolerance_s

    def __bool__(self) -> bool:
        return bool(self._key)

    def is_shown_by(self, old_token: str) -> bool:
        """Whether a worker of a release before this one has shown it."""
        return bool(self._key) and hmac.compare_digest(old_token.encode("utf-8", "replace"), self._key)

    def prove(self, asked: Asked) -> tuple[str, str]:
        """The header PROOF of a question, and its nonce."""
        nonce, at = secrets.token_hex(NONCE_BYTES), str(int(time.time() * 1000))
        return f"{at} {nonce} {self._of_question(asked, at, nonce)}", nonce

    def nonce_of(self, asked: Asked, proof: str) -> str | None:
        """The nonce of a question that is proved; None for one that is not, or not of now."""
        parts = proof.split(" ")
        if not self._key or len(parts) != PARTS or not proof.isascii():
            return None
        at, nonce, shown = parts
        if not hmac.compare_digest(shown, self._of_question(asked, at, nonce)):
            return None
        return nonce if abs(time.time() - int(at) / 1000) <= self._tolerance_s else None

    def prove_answer(self, nonce: str, status: int, role: str, body: bytes) -> str:
        """The header ANSWER_PROOF."""
        return self._mac("answer", nonce, str(status), role, sha256(body).hexdigest())

    def is_answer(self, shown: str, nonce: str, status: int, role: str, body: bytes) -> bool:
        """Whether an answer comes from a worker, and is to the question with that nonce."""
        return shown.isascii() and hmac.compare_digest(shown, self.prove_answer(nonce, status, role, body))

    def _of_question(self, asked: Asked, at: str, nonce: str) -> str:
        url = str(URL(asked.url)).rstrip("/")
        return self._mac("question", asked.method, url, asked.target, asked.hop, at, nonce)

    def _mac(self, *parts: str) -> str:
        # no part can hold a line break: each is a part of a request line, of a header, or ours
        return hmac.digest(self._key, "\n".join(parts).encode("utf-8", "surrogateescape"), "sha256").hex()
