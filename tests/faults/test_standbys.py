"""A standby copy is at most two seconds behind what was accepted."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from metrics_app.http.proof import HOP
from tests.faults.installation import Installation
from tests.faults.pace import stretched

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

KEYS = [f"key-{number}" for number in range(12)]
FRESH_S = 2.0
TURNS = 10
AT = datetime.now(UTC)  # the hour may turn meanwhile


def test_a_standby_has_what_was_accepted_within_two_seconds(tmp_path: Path) -> None:
    """Each worker is asked for what it holds itself, as another worker asks it: of each key one is the standby."""
    with Installation(tmp_path, {"a": "all", "b": "all"}) as installation:
        a, b = installation.workers.values()
        send(a.url, 1)
        give_up = time.monotonic() + stretched(30)
        while len(behind := standbys([a.url, b.url])) < len(KEYS):  # copies have to become whole first
            assert time.monotonic() < give_up, behind
            time.sleep(0.1)
        slowest = 0.0
        for turn in range(2, TURNS):
            accepted_s = send(a.url, turn)
            while (counts := standbys([a.url, b.url])) != dict.fromkeys(KEYS, turn):
                assert time.monotonic() - accepted_s < stretched(FRESH_S), f"{turn} of each were accepted: {counts}"
                time.sleep(0.02)
            slowest = max(slowest, time.monotonic() - accepted_s)
            time.sleep(0.13)  # no step with the flush timer
        print(f"{TURNS - 2} times: every standby had it {slowest:.2f} s after its 202, at the latest")


def send(url: str, value: float) -> float:
    """One value of each key; the monotonic time at which they were accepted."""
    body = json.dumps([[key, value, AT.timestamp()] for key in KEYS]).encode()
    request = urllib.request.Request(f"{url}/samples", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert reply.status == HTTPStatus.ACCEPTED
    return time.monotonic()


def standbys(urls: list[str]) -> dict[str, int]:
    """The counts that standby copies answer, by key."""
    found = {}
    for key in KEYS:
        for url in urls:
            answer = held(f"{url}/{key}/count/{AT:%F}/{AT.hour}")
            if answer.get("role") == "standby":
                assert answer["stale"]
                found[key] = answer["count"]
    return found


def held(url: str) -> dict[str, Any]:
    """What a worker answers from its own copy; empty when it has nothing, or refuses."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={HOP: "1"}), timeout=5) as reply:
            answer: dict[str, Any] = json.load(reply)
            return answer
    except urllib.error.HTTPError as error:
        # 404 is what the owner says until the first value is folded; a standby never says it
        if error.code not in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.NOT_FOUND):
            raise
        return {}
