"""Times that are named from now: the answer says which hours they were."""

from __future__ import annotations

import time
from unittest.mock import patch

import pytest

from metrics_app.query import hours

from .fakes import HOUR, ask, row, worker

AT_S = hours.start(HOUR).timestamp() + 1234  # within 2025-11-23 from 22 o'clock
MS = HOUR * 3_600_000


@pytest.mark.parametrize(
    ("path", "start", "end"),
    [
        ("/checkout/max/now", "2025-11-23T22:00:00Z", "2025-11-23T23:00:00Z"),
        ("/checkout/max/today", "2025-11-23T00:00:00Z", "2025-11-24T00:00:00Z"),
        ("/checkout/max/today/22", "2025-11-23T22:00:00Z", "2025-11-23T23:00:00Z"),
        ("/checkout/max/yesterday", "2025-11-22T00:00:00Z", "2025-11-23T00:00:00Z"),
        ("/checkout/max?last=1h", "2025-11-23T22:00:00Z", "2025-11-23T23:00:00Z"),
        ("/checkout/max?last=24h", "2025-11-22T23:00:00Z", "2025-11-23T23:00:00Z"),
        ("/checkout/max?last=7d", "2025-11-16T23:00:00Z", "2025-11-23T23:00:00Z"),
        (f"/checkout/max?from={MS}&to={MS + 1}", "2025-11-23T22:00:00Z", "2025-11-23T23:00:00Z"),
        (f"/checkout/max?from={MS - 1}&to={MS + 3_600_000}", "2025-11-23T21:00:00Z", "2025-11-23T23:00:00Z"),
        ("/checkout/histogram/now", "2025-11-23T22:00:00Z", "2025-11-23T23:00:00Z"),
        ("/keys?date=now&sort=max", "2025-11-23T22:00:00Z", "2025-11-23T23:00:00Z"),
        ("/keys?date=yesterday&sort=max", "2025-11-22T00:00:00Z", "2025-11-23T00:00:00Z"),
    ],
)
async def test_the_answer_names_the_hours(path: str, start: str, end: str) -> None:
    async with worker() as one:
        one.reader.rows = {(b"checkout", hour): row() for hour in range(HOUR - 200, HOUR + 1)}
        with patch.object(time, "time", return_value=AT_S):
            reply = await ask(one.url, path)

    assert (reply.status, reply.json.get("window")) == (200, {"start": start, "end": end})


async def test_further_pages_are_of_the_same_hours_later_on() -> None:
    async with worker(found=row()) as one:
        with patch.object(time, "time", return_value=AT_S):
            reply = await ask(one.url, "/checkout/max?last=3h&limit=2")

    assert "from=2025-11-23T20%3A00%3A00Z&to=2025-11-23T23%3A00%3A00Z" in reply.headers["Link"].replace("limit=2&", "")
    assert "last" not in reply.headers["Link"]


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/checkout/max/now/3", "date"),
        ("/checkout/max/tomorrow", "date"),
        ("/checkout/max?last=0h", "last"),
        ("/checkout/max?last=24", "last"),
        ("/checkout/max?last=999999d", "last"),
        ("/checkout/max?last=1h&from=2025-11-23", "last"),
        ("/checkout/max?last=744d", "last"),
        ("/checkout/max?last=745h", "last"),
        ("/checkout/max/today?last=1h", "last"),
        ("/keys?date=now&hour=3", "date"),
    ],
)
async def test_malformed_part_is_named(path: str, part: str) -> None:
    async with worker(found=row()) as one:
        reply = await ask(one.url, path)

    assert (reply.status, reply.json["part"]) == (400, part)
