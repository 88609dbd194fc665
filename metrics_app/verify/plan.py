"""The options of a load run. It imports next to nothing, so that every command starts fast.

Called by `course`, `drill_report`, `load_report`, `run`, `traffic` and `cli`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from metrics_app.credentials import NO_CREDENTIALS, Credentials


class Form(StrEnum):
    """How a body is written; the names of --form."""

    JSON = "json"
    PAIRS = "pairs"
    COLUMNAR = "columnar"
    MSGPACK = "msgpack"


@dataclass(frozen=True)
class Plan:
    """What to send: `rate` values a second of `keys` keys for `duration_s`, `batch` values a request, and where to.

    `until_kept_s` over 0 sends each request again until it is accepted; `drain_s` bounds the wait at the end and
    `patience_s` that for a single answer: a worker that takes partitions over may need it. Where `query_urls` are
    given, questions go there and only samples to `urls`. `run_id` is part of every key; empty: one is made up.
    `credentials` is the token that all requests show.
    """

    rate: float
    keys: int
    duration_s: float
    batch: int
    form: Form
    urls: tuple[str, ...]
    until_kept_s: float = 0.0
    in_flight: int = 256
    drain_s: float = 30.0
    seed: int = 1
    patience_s: float = 30.0
    query_urls: tuple[str, ...] = ()
    run_id: str = ""
    credentials: Credentials = NO_CREDENTIALS

    @property
    def asked(self) -> tuple[str, ...]:
        """Addresses that answer questions."""
        return self.query_urls or self.urls

    @property
    def requests(self) -> int:
        """Number of requests."""
        return max(1, math.ceil(self.rate * self.duration_s / self.batch))

    @property
    def interval_s(self) -> float:
        """Time between two requests."""
        return self.batch / self.rate
