"""Compare over HTTP; how often its verdicts are wrong is in tests/stats/test_comparison.py."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator

import numpy as np
import pytest

from metrics_app.holdings import STANDBY
from metrics_app.http.problems import PROBLEM

from .fakes import END_S, HOUR, Worker, ask, closed_url, row, worker

PATH = "/checkout/compare/2025-11-23/22?with=2025-11-22/22"
RNG = np.random.default_rng(7)
BASE = RNG.lognormal(3.0, 0.5, 20_000)
SLOW = 1.2 * RNG.lognormal(3.0, 0.5, 20_000)


@pytest.fixture
async def one() -> AsyncIterator[Worker]:
    """The hour is slower than the same hour of the day before."""
    async with worker(found=row(*SLOW)) as running:
        running.reader.rows[b"checkout", HOUR - 24] = row(*BASE, missing=3, as_of=END_S + 60)
        yield running


async def test_slower_hour_is_told_with_shifts_and_how_sure_it_is(one: Worker) -> None:
    answer = (await ask(one.url, PATH)).json

    assert (answer["verdict"], answer["reason"]) == ("slower", "p50, p95 and p99 rose")
    assert (answer["false_alarm_rate"], answer["unit"], answer["exact"]) == (0.05, "ms", False)
    assert [each["stat"] for each in answer["shifts"]] == ["p50", "p95", "p99"]
    for each in answer["shifts"]:
        assert each["ratio_ci95"]["lo"] < 1.2 < each["ratio_ci95"]["hi"]
        assert each["shift_ci95"]["lo"] < each["shift"] < each["shift_ci95"]["hi"]
    assert 0.1 < answer["ks"]["lo"] <= answer["ks"]["hi"] < 0.2
    assert answer["ks"]["p_value"] < 1e-9


async def test_both_times_are_named_with_what_they_hold(one: Worker) -> None:
    answer = (await ask(one.url, PATH)).json

    assert (answer["date"], answer["hour"], answer["count"]) == ("2025-11-23", 22, 20_000)
    assert answer["baseline"]["window"] == {"start": "2025-11-22T22:00:00Z", "end": "2025-11-22T23:00:00Z"}
    assert (answer["baseline"]["count"], answer["baseline"]["missing"], answer["missing"]) == (20_000, 3, 0)
    assert answer["as_of"] == "2025-11-23T23:01:00Z"


async def test_days_and_ranges_are_compared_too(one: Worker) -> None:
    for path in ("/checkout/compare/2025-11-23?with=2025-11-22",
                 "/checkout/compare?from=2025-11-23/20&to=2025-11-24&with=2025-11-22/20"):  # fmt: skip
        answer = (await ask(one.url, path)).json
        assert (answer["verdict"], answer["count"], answer["baseline"]["count"]) == ("slower", 20_000, 20_000)


async def test_the_other_way_round_it_is_faster(one: Worker) -> None:
    assert (await ask(one.url, "/checkout/compare/2025-11-22/22?with=2025-11-23/22")).json["verdict"] == "faster"


async def test_forms_of_a_moment_name_the_same_baseline(one: Worker) -> None:
    moments = ("2025-11-22/22", "2025-11-22T22:00:00Z", "2025-11-22T23:00:00+01:00", "2025-11-22T23:00:00%2B01:00")
    bodies = {(await ask(one.url, PATH.partition("=")[0] + f"={moment}")).body for moment in moments}

    assert len(bodies) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/2025-11-23/22",
        "/2025-11-23/22?with=",
        "/2025-11-23/22?with=2025-11-22",
        "/2025-11-23/22?with=2025-11-22/24",
        "/2025-11-23/22?with=yesterday",
        "/2025-11-23?with=2025-11-22/0",
        "/2025-11-23?with=2025-02-30",
        "/2025-11-23?with=9999-12-31",
        "?from=2025-11-23&to=2025-11-24&with=9999-12-31/1",
        "?from=2025-11-23&to=2025-11-24",
    ],
)
async def test_malformed_baseline_is_named(one: Worker, path: str) -> None:
    reply = await ask(one.url, f"/checkout/compare{path}")

    assert (reply.status, reply.headers["Content-Type"], reply.json["part"]) == (400, PROBLEM, "with")


async def test_time_without_data_is_named_whichever_it_is(one: Worker) -> None:
    for path in (
        "/checkout/compare/2025-11-23/22?with=2025-11-21/22",
        "/checkout/compare/2025-11-21/22?with=2025-11-23/22",
    ):
        reply = await ask(one.url, path)
        assert (reply.status, reply.json["title"]) == (404, "No data")
        assert "2025-11-21T22:00:00Z" in reply.json["detail"]


async def test_missing_baseline_is_404_through_another_worker_and_503_from_a_standby(one: Worker) -> None:
    path = "/checkout/compare/2025-11-23/22?with=2025-11-21/22"
    async with worker(one.url, role=None) as other:
        assert (await ask(other.url, path)).status == 404
    async with worker(closed_url(), found=row(role=STANDBY), role=STANDBY) as standby:
        assert (await ask(standby.url, path)).status == 503


async def test_closed_times_are_not_compared_twice_and_a_correction_of_either_is_seen(one: Worker) -> None:
    tag = (await ask(one.url, PATH)).headers["ETag"]
    assert (await ask(one.url, PATH, If_None_Match=tag)).status == 304
    one.reader.rows[b"checkout", HOUR - 24] = row(*BASE, 1.0, late=1)

    assert (await ask(one.url, PATH, If_None_Match=tag)).status == 200


async def test_open_time_on_either_side_has_no_tag(one: Worker) -> None:
    one.reader.rows[b"checkout", HOUR] = row(*SLOW, as_of=END_S)

    for path in (PATH, "/checkout/compare/2025-11-22/22?with=2025-11-23/22"):
        reply = await ask(one.url, path)
        assert (reply.json["final"], reply.headers["Cache-Control"]) == (False, "no-store")


async def test_table_has_a_line_a_quantile(one: Worker) -> None:
    reply = await ask(one.url, PATH, Accept="text/csv")
    lines = list(csv.DictReader(io.StringIO(reply.body.decode(), newline="")))

    assert [each["stat"] for each in lines] == ["p50", "p95", "p99"]
    assert {each["verdict"] for each in lines} == {"slower"}
    assert (lines[0]["start"], lines[0]["baseline_start"]) == ("2025-11-23T22:00:00Z", "2025-11-22T22:00:00Z")
    assert float(lines[0]["ratio_lo"]) < 1.2 < float(lines[0]["ratio_hi"])
    assert (lines[0]["baseline_count"], lines[0]["false_alarm_rate"]) == ("20000", "0.05")


async def test_few_values_have_no_intervals(one: Worker) -> None:
    one.reader.rows[b"checkout", HOUR] = row()
    answer = (await ask(one.url, PATH)).json
    table = await ask(one.url, PATH + "&format=csv")

    assert (answer["verdict"], answer["shifts"][0]["shift_ci95"]) == ("unclear", None)
    assert table.status == 200
