"""The share of values that are not above a threshold."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from metrics_app.http.problems import PROBLEM

from .fakes import HOUR, Worker, ask, row, worker


@pytest.fixture
async def one() -> AsyncIterator[Worker]:
    async with worker(found=row(10.0, 20.0, 20.0, 60.0)) as running:
        running.reader.rows[b"checkout", HOUR - 1] = row(5.0, 70.0)
        yield running


@pytest.mark.parametrize(
    ("ms", "share"), [("0", 0.0), ("9.9", 0.0), ("10", 0.25), ("20", 0.75), ("6e1", 1.0), ("1e9", 1.0), ("-0", 0.0)]
)
async def test_threshold_itself_counts(one: Worker, ms: str, share: float) -> None:
    answer = (await ask(one.url, f"/checkout/under/2025-11-23/22?ms={ms}")).json

    assert (answer["value"], answer["unit"], answer["exact"], answer["count"]) == (share, "share", True, 4)
    assert (answer["threshold"], answer["threshold_unit"]) == (float(ms), "ms")


async def test_day_and_range_have_shares_too(one: Worker) -> None:
    for path in ("/checkout/under/2025-11-23?", "/checkout/under?from=2025-11-23&to=2025-11-24&"):
        answer = (await ask(one.url, f"{path}ms=20")).json
        assert (answer["value"], answer["lo"], answer["count"]) == (4 / 6, 4 / 6, 6)
        assert [each["value"] for each in answer["hours"][-3:]] == [0.5, 0.75, None]


async def test_threshold_within_a_bucket_gives_bounds(one: Worker) -> None:
    one.reader.rows[b"checkout", HOUR] = row(*(100.0 + number / 10 for number in range(2000)))
    answer = (await ask(one.url, "/checkout/under/2025-11-23/22?ms=250")).json

    assert answer["exact"] is False
    assert answer["lo"] < 1501 / 2000 < answer["hi"] < answer["lo"] + 0.02
    assert abs(answer["value"] - 1501 / 2000) <= answer["error_bound"] * 1501 / 2000


@pytest.mark.parametrize("ms", ["", "fast", "-1", "nan", "inf", "1e400", "1e16", "1_0", "%D9%A3", "0x10", "250ms"])
async def test_threshold_that_is_no_number_is_refused(one: Worker, ms: str) -> None:
    reply = await ask(one.url, f"/checkout/under/2025-11-23/22?ms={ms}")

    assert (reply.status, reply.headers["Content-Type"], reply.json["part"]) == (400, PROBLEM, "ms")


async def test_threshold_has_to_be_given_and_belongs_to_this_question_only(one: Worker) -> None:
    assert (await ask(one.url, "/checkout/under/2025-11-23/22")).json["part"] == "ms"
    assert (await ask(one.url, "/checkout/median/2025-11-23/22?ms=250")).json["part"] == "ms"


async def test_threshold_is_named_after_the_unit() -> None:
    async with worker(found=row(0.2, 0.3), unit="s") as running:
        assert (await ask(running.url, "/checkout/under/2025-11-23/22?s=0.25")).json["value"] == 0.5
        assert (await ask(running.url, "/checkout/under/2025-11-23/22?ms=250")).json["part"] == "ms"
