"""A worker on a real Kafka, with strangers who send damaged requests beside a client whose values count."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from metrics_app.kafka.ports import free_port
from tests.faults.process import Process
from tests.fuzz import seeds
from tests.fuzz.in_memory import STATUS
from tests.fuzz.mutations import damaged

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(int(os.environ.get("FUZZ_S", "10")) + 180)]

SECONDS = int(os.environ.get("FUZZ_S", "10"))
SEED = int(os.environ.get("FAULTS_SEED", "1"))
STRANGERS = 4
KEY, VALUES = "counted", 10
COUNTED_WITHIN_S = 60.0


class Stranger(threading.Thread):
    """Sends valid requests, one after the other on a connection, most of them damaged; takes note of the statuses."""

    def __init__(self, port: int, number: int, until: float) -> None:
        super().__init__(daemon=True)
        self.statuses: Counter[int] = Counter()
        self.answers: dict[int, bytes] = {}  # a request for each status
        self._random = random.Random(f"{SEED}-{number}")
        self._port = port
        self._until = until

    def run(self) -> None:
        while time.monotonic() < self._until:
            sent = b"".join(self._request() for _ in range(self._random.randint(1, 3)))
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 5) as connection:
                connection.settimeout(2)
                connection.sendall(sent)
                if self._random.random() < 0.8:
                    connection.shutdown(socket.SHUT_WR)
                    for status in STATUS.findall(b"".join(iter(lambda: connection.recv(1 << 16), b""))):
                        self.statuses[int(status)] += 1
                        self.answers.setdefault(int(status), sent)

    def _request(self) -> bytes:
        valid = self._random.choice(seeds.REQUESTS)
        if self._random.random() < 0.3:
            return valid
        if self._random.random() < 0.1:
            return self._random.randbytes(self._random.randint(1, 300))
        return damaged(valid, seeds.REQUESTS, self._random.randint)


def fetched(url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """(status, document); 0 when there is no answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers or {}), timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, None
    except OSError:
        return 0, None


def send_until(url: str, until: float) -> Counter[int]:
    """Values that the service accepted, by hour; each request is sent again until it is."""
    accepted: Counter[int] = Counter()
    number = 0
    while time.monotonic() < until:
        number, at = number + 1, int(time.time())
        body = json.dumps([[KEY, float(value), at] for value in range(VALUES)]).encode()
        while fetched(f"{url}/samples", body, {"Idempotency-Key": f"{SEED}-{number}"})[0] != 202:
            time.sleep(0.1)
        accepted[at // 3600] += VALUES
        time.sleep(0.02)
    return accepted


def counted(url: str, hour: int) -> int:
    at = datetime.fromtimestamp(hour * 3600, UTC)
    status, answer = fetched(f"{url}/{KEY}/count/{at:%Y-%m-%d}/{at.hour}")
    return int(answer["count"]) if status == 200 else 0


def test_damaged_requests_end_no_worker_and_change_no_count(kafka: Any, tmp_path: Path) -> None:
    name, port = f"fuzz-{time.time_ns()}", free_port()
    environment = {"METRICS_KAFKA": kafka.bootstrap, "METRICS_NAME": name, "METRICS_SAMPLES_TOPIC": name}
    environment |= {"METRICS_DEAD_LETTER_TOPIC": f"{name}-dead"}
    worker = Process(
        "all", ["all", "--port", str(port), "--data-dir", str(tmp_path / "data")], port, tmp_path, environment
    )
    try:
        worker.start()
        worker.await_ready()
        _, alive = fetched(f"{worker.url}/livez")
        until = time.monotonic() + SECONDS
        strangers = [Stranger(port, number, until) for number in range(STRANGERS)]
        for stranger in strangers:
            stranger.start()
        accepted = send_until(worker.url, until)
        for stranger in strangers:
            stranger.join(10)
        patience = time.monotonic() + COUNTED_WITHIN_S
        while any(counted(worker.url, hour) < values for hour, values in accepted.items()):
            assert time.monotonic() < patience, "what was accepted is not counted"
            time.sleep(0.3)

        assert {hour: counted(worker.url, hour) for hour in accepted} == accepted
        assert fetched(f"{worker.url}/livez")[1] == alive, "it is another process now"
        assert "Traceback" not in worker.said
        for stranger in strangers:
            wrong = {status: sent for status, sent in stranger.answers.items() if status >= 500 and status != 503}
            assert not wrong
        statuses = sum((stranger.statuses for stranger in strangers), Counter())
        assert statuses[202]
        assert statuses[400]
        assert sum(statuses.values()) > 10 * SECONDS
        print(f"{sum(statuses.values()):,} answers: {dict(sorted(statuses.items()))}")
    finally:
        worker.end()
