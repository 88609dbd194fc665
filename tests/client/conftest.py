from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from metrics_app import MetricsClient, Options

from .collector import Collector


class AppClock:
    """The clock of the machine on which the app runs: it may be ahead of the real time, or stand still."""

    ahead_s: float = 0.0
    stands_at_ns: int | None = None

    def __call__(self) -> int:
        return (time.time_ns() if self.stands_at_ns is None else self.stands_at_ns) + int(self.ahead_s * 10**9)


@pytest.fixture
def clock() -> AppClock:
    return AppClock()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


Connect = Callable[..., MetricsClient]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Makes clients with short times, and closes them; the option `clock` is theirs."""
    monkeypatch.delenv("METRICS_DISABLED", raising=False)
    with ExitStack() as stack:

        def make(
            *collectors: Collector | str, clock: Callable[[], int] = time.time_ns, **options: Any
        ) -> MetricsClient:
            quick = {"interval_s": 0.1, "backoff_first_s": 0.02, "backoff_max_s": 0.2, "timeout_s": 2.0}
            urls = [one if isinstance(one, str) else one.url for one in collectors]
            client = MetricsClient(urls, Options(**(quick | options)), clock)
            stack.callback(client.close, 0.5)
            return client

        yield make
