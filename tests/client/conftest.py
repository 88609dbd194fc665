from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from metrics_app import MetricsClient, Options

from .collector import Collector


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


Connect = Callable[..., MetricsClient]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Makes clients with short times, and closes them."""
    monkeypatch.delenv("METRICS_DISABLED", raising=False)
    with ExitStack() as stack:

        def make(*collectors: Collector | str, **options: Any) -> MetricsClient:
            quick = {"interval_s": 0.1, "backoff_first_s": 0.02, "backoff_max_s": 0.2, "timeout_s": 2.0}
            urls = [one if isinstance(one, str) else one.url for one in collectors]
            client = MetricsClient(urls, Options(**(quick | options)))
            stack.callback(client.close, 0.5)
            return client

        yield make
