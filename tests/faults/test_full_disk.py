"""A worker whose own disk is full says so, ends with the code that asks for a new start, and loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from metrics_app.process import EXIT_CRASHED
from tests.faults.installation import Installation
from tests.faults.test_ready import status

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small one of its own."""
    folder = tmp_path / "data-a"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root mounts a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_a_worker_with_a_sentence_and_what_was_accepted_counts_afterwards(
    tmp_path: Path, disk: Path
) -> None:
    with Installation(tmp_path, {"a": "all"}, {"METRICS_FLUSH_INTERVAL_S": "0.3"}) as installation:
        worker = installation.workers["a"]
        ballast = disk / "ballast"
        with ballast.open("wb") as file:
            fill(file.fileno())
        sent, hour = 0, time.strftime("%Y-%m-%d/%H", time.gmtime())
        while worker.is_running and sent < 200:
            body = json.dumps([["a", 1.0], *([f"key-{sent}-{n}", 1.0] for n in range(500))]).encode()
            try:
                sent += status(worker, "POST", "/samples", body) == 202
            except OSError:
                break
        assert worker.wait(60) == EXIT_CRASHED, worker.tail()
        assert "No space left on device" in worker.tail(3)
        ballast.unlink()
        installation.restart("a")
        deadline = time.monotonic() + 60
        while count(worker.url, hour) < sent and time.monotonic() < deadline:
            time.sleep(0.2)
        assert count(worker.url, hour) in (sent, sent + 1)  # the last may have been accepted without a reply


def fill(descriptor: int) -> None:
    """Writes until there is no room."""
    try:
        while True:
            os.write(descriptor, bytes(1 << 16))
    except OSError:
        pass


def count(url: str, hour: str) -> int:
    with urllib.request.urlopen(f"{url}/a/count/{hour}", timeout=20) as reply:
        return int(json.load(reply)["count"])
