"""Sends and asks with what openapi-python-client made: `python app.py URL`; run in the environment of the generator."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime

from metrics_client import Client
from metrics_client.api.collection import record_samples
from metrics_client.api.process import counters, live, ready
from metrics_client.api.query import compare_day, export_day, list_keys, read_day, read_hour, share_in_day
from metrics_client.models import (
    Answer,
    Columns,
    DayAnswer,
    DayComparison,
    DayShare,
    DaySummary,
    Problem,
    Receipt,
    Sample,
)

KEY = "python /users/{id}"  # a key that must be escaped in a path


def main(url: str) -> None:
    client, now = Client(base_url=url), datetime.now(UTC)
    for _ in range(2):  # the same ids again count once
        samples = [Sample(key=KEY, value=value, timestamp=now, id=f"{value}") for value in (10.0, 20.0)]
        assert record_samples.sync(client=client, body=samples) == Receipt(accepted=2, rejected=[])
    assert record_samples.sync(client=client, body=Sample(key=KEY, value=30.0), idempotency_key="one").accepted == 1
    assert record_samples.sync(client=client, body=[[KEY, 40.0], [KEY, 50.0, now.timestamp()]]).accepted == 2
    columns = Columns(series=[{"key": KEY, "hour": int(now.timestamp() // 3600), "values": [60.0]}])
    assert record_samples.sync(client=client, body=columns).accepted == 1
    partly = record_samples.sync(client=client, body=[Sample(key=KEY, value=70.0), Sample(key=KEY, value=-1.0)])
    assert (partly.accepted, partly.rejected[0].index, partly.rejected[0].reason) == (1, 1, "value")
    refused = record_samples.sync(client=client, body=Sample(key="", value=1.0))
    assert isinstance(refused, Problem)
    assert refused.status == 400
    ask(client, now)


def ask(client: Client, now: datetime) -> None:
    give_up = time.monotonic() + 60
    while not isinstance(found := read_day.sync(KEY, "sum", now.date(), client=client), DayAnswer) or found.count < 7:
        assert time.monotonic() < give_up, found
        time.sleep(0.1)
    assert (found.value, found.count, found.exact, found.duplicates) == (280.0, 7, True, 2)
    hour = read_hour.sync(KEY, "max", now.date(), str(now.hour), client=client)
    assert isinstance(hour, Answer)
    assert hour.window.start.hour == now.hour
    median = read_day.sync(KEY, "p50", now.date(), client=client)
    assert isinstance(median, DayAnswer)
    assert median.value == 40.0
    summary = read_day.sync(KEY, "summary", now.date(), client=client)
    assert isinstance(summary, DaySummary)
    share = share_in_day.sync(KEY, now.date(), client=client, ms=35.0)
    assert isinstance(share, DayShare)
    assert share.value == 3 / 7
    histogram = export_day.sync(KEY, now.date(), client=client)
    assert sum(bucket.count for bucket in histogram.buckets) == 7
    same = compare_day.sync(KEY, now.date(), client=client, with_=now.date())
    assert isinstance(same, DayComparison)
    assert (live.sync(client=client).status, ready.sync(client=client).status) == ("alive", "ready")
    assert "accepted_values_total" in counters.sync(client=client)
    assert KEY in list_keys.sync(client=client, prefix="python").keys
    absent = read_hour.sync("absent", "max", now.date(), "0", client=client)
    assert isinstance(absent, Problem)
    assert absent.status == 404


if __name__ == "__main__":
    main(sys.argv[1])
