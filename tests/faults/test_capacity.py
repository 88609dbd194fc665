"""The forecast of what a worker can take, beside what it takes when more is sent than it can."""

from __future__ import annotations

import json
import shutil
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import wrk
from metrics_app.verify.plan import Form
from metrics_app.verify.run import perform
from tests.faults.installation import Installation

RATES = (2_000, 8_000)  # values a second, well below what a worker takes
BATCH = 10
STEP_S = 30.0
OVERLOAD_S = 20.0
CONNECTIONS = 256
CAREFUL, BOLD = 0.4, 1.3  # shares of what a worker takes that the forecast may be

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk, of Debian, is absent")
async def test_a_worker_breaks_where_it_was_forecast(tmp_path: Path) -> None:
    """A forecast is of a core of its own: Kafka and the sender leave it less here, and how much, it says itself.

    It is careful: a loop that is never idle takes several requests at a turn, which makes each cheaper than before.
    """
    with Installation(tmp_path, {"a": "all"}) as installation:
        plan = replace(installation.plan(RATES[0], batch=BATCH, form=Form.PAIRS), duration_s=STEP_S)
        for rate in RATES:
            assert (await perform(replace(plan, rate=rate, run_id=f"rate-{rate}"))).is_right
        (url,) = installation.tell
        forecast = asked(url)
        before = installation.count("metrics_app_accepted_values_total")
        driven = wrk.drive(url, [("POST", "/samples", body())], OVERLOAD_S, CONNECTIONS, tmp_path)
        taken = (installation.count("metrics_app_accepted_values_total") - before) / OVERLOAD_S
        busy = asked(url, "/system")["workers"][0]["load"]["busy"]
    print(f"forecast {forecast}, busy {busy:.2f}, taken {taken:,.0f} values/s, p99 {driven.p99_ms} ms")
    breaks_at = forecast["workers"][0]["breaks_at_values_per_s"]
    assert CAREFUL <= breaks_at / (taken / busy) <= BOLD


def body() -> bytes:
    return json.dumps([[f"key-{n}", 12.5 + n] for n in range(BATCH)]).encode()


def asked(url: str, path: str = "/capacity") -> Any:
    with urllib.request.urlopen(f"{url}{path}", timeout=30) as reply:
        return json.load(reply)
