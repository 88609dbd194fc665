"""What tests of whole installations share."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def one_up_at_a_time() -> Iterator[None]:
    """Two of them that start at the same moment find the same port free for their Kafka; tests run side by side."""
    with (Path(tempfile.gettempdir()) / "metrics-app-tests-up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
