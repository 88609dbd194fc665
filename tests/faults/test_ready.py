"""Ready means that questions are answered, from the first moment after a restart on."""

from __future__ import annotations

import http.client
import time
from pathlib import Path

import pytest

from tests.faults.installation import Installation
from tests.faults.process import Process

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


def status(worker: Process, method: str, path: str, body: bytes | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", int(worker.url.rpartition(":")[2]), timeout=20)
    try:
        connection.request(method, path, body)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_worker_that_is_ready_answers_also_of_keys_without_a_row(tmp_path: Path) -> None:
    keys = [f"key-{number}" for number in range(8)]  # in all partitions
    with Installation(tmp_path, {"a": "all"}) as installation:
        worker = installation.workers["a"]
        for _ in range(2):
            hour = time.strftime("%Y-%m-%d/%H", time.gmtime())
            assert {status(worker, "GET", f"/{key}/count/{hour}") for key in keys} == {404}
            assert worker.stop() == 0
            installation.restart("a")
