"""What the documentation takes for recorded, and a way to ask for it."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

TODAY = datetime.now(UTC).date()
DAYS = {f"2026-11-{22 + by}": (TODAY + timedelta(days=by - 2)).isoformat() for by in range(3)}
COUNTED_WITHIN_S = 30.0


def dated(text: str) -> str:
    """The page's days are long past; yesterday and the day before stand in for them, and today for the end."""
    return re.sub("|".join(DAYS), lambda day: DAYS[day[0]], text)


def hour(day: str, of_day: int) -> int:
    return int(datetime.fromisoformat(f"{dated(day)}T{of_day:02}:00+00:00").timestamp()) // 3600


def curl(command: str) -> str:
    """What curl would print, of its options those that the page uses; a machine that runs tests need not have it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-I", action="store_true")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d", type=str.encode)
    parser.add_argument("url")
    given = parser.parse_args(shlex.split(command)[1:])
    headers = dict(each.split(": ", 1) for each in given.H)
    asked = urllib.request.Request(given.url, given.d, headers, method="HEAD" if given.I else None)
    try:
        reply = urllib.request.urlopen(asked, timeout=20)
    except urllib.error.HTTPError as error:
        reply = error
    with reply:
        head = f"HTTP/1.1 {reply.status} {reply.reason}\n{reply.headers}" if given.I else ""
        return head + str(reply.read().decode())


def record(url: str) -> None:
    values = {
        ("2026-11-23", 22): [float(number) for number in range(1, 1001)],
        ("2026-11-23", 21): [float(number) for number in range(1, 501)],
        ("2026-11-22", 22): [number * 0.8 for number in range(1, 1001)],
    }
    series: list[dict[str, Any]] = [
        {"key": "checkout", "hour": hour(*at), "first": 0, "values": each} for at, each in values.items()
    ]
    series.append({"key": "search", "hour": hour("2026-11-23", 22), "first": 0, "values": [5.0, 7.0]})
    body = {"sender": "0b9ff3f6-0a57-4f0e-8f04-5f3f0d8f6a11", "series": series}
    told = json.loads(curl(f"curl -d {shlex.quote(json.dumps(body))} {url}/samples"))
    assert told == {"accepted": 2502, "rejected": []}
    ends = time.monotonic() + COUNTED_WITHIN_S
    paths = [
        f"/{each['key']}/count/{dated(day)}"
        for day in DAYS
        for each in series
        if each["hour"] // 24 == hour(day, 0) // 24
    ]
    while not all(is_counted(json.loads(curl(f"curl {url}{path}"))) for path in paths):
        assert time.monotonic() < ends, "what was accepted is not counted"
        time.sleep(0.2)


def is_counted(answer: dict[str, Any]) -> bool:
    return bool(answer.get("final") and not answer["stale"])
