"""What the tests of the page send before they look: values of more than a day, and names that are hostile."""

from __future__ import annotations

import json
import random
import time
import urllib.request

SLOW, FAST = "search GET /search", "shop GET /"
HOSTILE = ["<img src=x onerror=alert(1)>", "\"'`${7*7}&amp;</td><script>alert(2)</script>", "..", "a/b?c#d%41"]
HOUR_S = 3600
HOURS = 30
A_REQUEST = 5_000


def send(url: str) -> None:
    """Values of more than a day; the slow key is twice as slow in the last hours as it was the day before."""
    chosen, now = random.Random(7), int(time.time())
    samples = []
    for back in range(HOURS):
        start = (now // HOUR_S - back) * HOUR_S
        for key, middle in ((SLOW, 200 if back < 6 else 100), (FAST, 10)):
            samples += [
                {"key": key, "value": middle * chosen.lognormvariate(0, 0.3), "timestamp": start + 1}
                for _ in range(200)
            ]
    for key, middle in (("shop POST /orders", 60), ("shop GET /orders/{id}", 25), ("auth POST /login", 60)):
        values = [middle * chosen.lognormvariate(0, 0.5) for _ in range(400)]
        samples += [{"key": key, "value": value, "timestamp": now // HOUR_S * HOUR_S + 1} for value in values]
    samples += [{"key": key, "value": 5, "timestamp": now // HOUR_S * HOUR_S + 1} for key in HOSTILE]
    for at in range(0, len(samples), A_REQUEST):
        part = samples[at : at + A_REQUEST]
        request = urllib.request.Request(
            f"{url}/samples", json.dumps(part).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            assert json.load(reply)["accepted"] == len(part)
