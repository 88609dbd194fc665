from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner, Result

from metrics_app.cli.answers import completeness, number, precision
from metrics_app.cli.main import app

ANSWER = {
    "key": "a/b c",
    "stat": "median",
    "value": 1234.5,
    "unit": "ms",
    "count": 7,
    "window": {"start": "2026-11-23T22:00:00Z", "end": "2026-11-23T23:00:00Z"},
    "final": True,
    "exact": False,
    "error_bound": 0.00542,
    "lo": 1228.0,
    "hi": 1241.0,
    "missing": 2,
    "duplicates": 0,
    "late": 0,
    "as_of": "2026-11-23T23:00:09Z",
    "stale": False,
}


class Service:
    """Answers everything with one document, and remembers what it was asked."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        self.asked: list[tuple[str, str]] = []
        self._status, self._document = status, document

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.raw_path, await request.text()))
        return web.json_response(self._document, status=self._status)

    async def run(self, *command: str, stdin: str | None = None) -> Result:
        server = web.Application()
        server.router.add_route("*", "/{tail:.*}", self.answer)
        async with TestServer(server) as running:
            arguments = [*command, "--url", str(running.make_url("")).rstrip("/")]
            return await asyncio.to_thread(CliRunner().invoke, app, arguments, input=stdin)


async def test_a_query_escapes_its_key_and_prints_value_bound_window_and_completeness() -> None:
    service = Service(200, ANSWER)
    result = await service.run("query", "a/b c", "median", "2026-11-23", "22")
    assert service.asked == [("/a%2Fb%20c/median/2026-11-23/22", "")]
    assert "1,234.5 ms" in result.stdout
    assert "within 0.54 %, surely in [1,228, 1,241]" in result.stdout
    assert "2026-11-23T22:00:00Z to 2026-11-23T23:00:00Z" in result.stdout
    assert "final, 2 missing, as of 2026-11-23T23:00:09Z" in result.stdout


@pytest.mark.parametrize(("key", "path"), [(".", "%2E"), ("..", "%2E%2E"), ("...", "..."), ("./..", ".%2F..")])
async def test_a_key_of_dots_is_no_other_folder(key: str, path: str) -> None:
    service = Service(200, ANSWER)
    await service.run("query", key, "median", "2026-11-23", "22")
    assert service.asked == [(f"/{path}/median/2026-11-23/22", "")]


def test_what_is_no_url_is_said() -> None:
    result = CliRunner().invoke(app, ["query", "a", "max", "now", "--url", "localhost:8080"])
    assert (result.exit_code, result.stderr.partition(";")[0]) == (
        1,
        "error: no URL of a service: localhost:8080/a/max/now",
    )


async def test_json_is_the_answer_as_it_came() -> None:
    result = await Service(200, ANSWER).run("query", "a", "median", "--json")
    assert json.loads(result.stdout) == ANSWER


async def test_no_data_and_a_malformed_part_are_errors_with_the_reason_of_the_service() -> None:
    missing = await Service(404, {"detail": "nothing was recorded"}).run("query", "a", "median")
    malformed = {"detail": "", "part": "hour", "value": "24", "expected": "0 to 23"}
    wrong = await Service(400, malformed).run("query", "a", "median", "2026-11-23", "24")
    assert (missing.exit_code, missing.stderr) == (1, "error: nothing was recorded\n")
    assert (wrong.exit_code, wrong.stderr) == (1, "error: hour '24': expected 0 to 23\n")


def test_what_is_known_of_an_answer_is_put_in_words() -> None:
    assert precision({"exact": True}) == "exact"
    assert completeness({"final": False, "stale": True}) == "still open, may lag"
    assert [number(value) for value in (1234567, 12.5, 1234567.891)] == ["1,234,567", "12.5", "1,234,567.9"]


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("p95 2026-11-23", "/a/p95/2026-11-23"),
        ("p95 --from 2026-11-23/4 --to 2026-11-24", "/a/p95?from=2026-11-23%2F4&to=2026-11-24"),
        ("under 2026-11-23 4 --threshold 250", "/a/under/2026-11-23/4?ms=250.0"),
        ("under 2026-11-23 4 --threshold 0.25 --unit s", "/a/under/2026-11-23/4?s=0.25"),
        ("compare 2026-11-23 4 --with 2026-11-22/4", "/a/compare/2026-11-23/4?with=2026-11-22%2F4"),
    ],
)
async def test_time_and_parameters_become_the_url(command: str, path: str) -> None:
    service = Service(200, ANSWER)
    result = await service.run("query", "a", *command.split())
    assert (result.exit_code, service.asked) == (0, [(path, "")])


async def test_a_date_and_a_range_at_once_are_refused() -> None:
    service = Service(200, ANSWER)
    result = await service.run("query", "a", "p95", "2026-11-23", "--from", "2026-11-22")
    assert (result.exit_code, service.asked) == (2, [])


async def test_a_day_is_printed_with_the_hours_that_have_data() -> None:
    hours: list[dict[str, Any]] = [
        {"start": f"2026-11-23T{hour:02}:00:00Z", "value": None, "count": 0} for hour in range(24)
    ]
    hours[7] |= {"value": 1234.5, "count": 6543}
    result = await Service(200, {**ANSWER, "hours": hours, "next": None}).run("query", "a", "median", "2026-11-23")
    assert [line.split() for line in result.stdout.splitlines() if "T" in line and "to" not in line.split()][-1] == [
        "2026-11-23T07:00:00Z", "1,234.5", "ms", "6,543", "█" * 20,
    ]  # fmt: skip
    assert "T08:00" not in result.stdout


async def test_a_comparison_is_printed_with_its_verdict_and_shifts() -> None:
    shift = {"stat": "p50", "value": 5.0, "baseline": 4.0, "shift": 1.0, "ratio": 1.25}
    answer = {
        **ANSWER,
        "verdict": "slower",
        "reason": "p50 rose",
        "shifts": [
            {**shift, "shift_ci95": {"lo": 0.5, "hi": 1.5}, "ratio_ci95": None},
            {**shift, "stat": "p99", "shift_ci95": None, "ratio": None, "ratio_ci95": None},
        ],
        "baseline": {"count": 9, "window": {"start": "2026-11-22T22:00:00Z", "end": "2026-11-22T23:00:00Z"}},
    }
    printed = (await Service(200, answer).run("query", "a", "compare", "2026-11-23", "22", "--with", "x")).stdout
    assert "slower: p50 rose" in printed
    assert ["p50", "4", "5", "1", "[0.5,", "1.5]", "1.25"] in [line.split() for line in printed.splitlines()]
    assert "too few values" in printed


async def test_a_share_is_a_percentage() -> None:
    share = {**ANSWER, "stat": "under", "value": 0.9965, "unit": "share", "threshold": 250.0, "threshold_unit": "ms"}
    assert "99.65 % up to 250 ms" in (await Service(200, share).run("query", "a", "under", "--threshold", "250")).stdout


class Pages(Service):
    """Lists keys in pages, of which a partition may be missing."""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.raw_path, ""))
        after = request.query.get("after")
        page = {"date": "2026-11-23", "keys": ["a", "[b]"], "next": "[b]", "unanswered": [], "lost_records": 0}
        page |= self._document
        return web.json_response(page if after is None else {**page, "keys": ["c"], "next": None})


async def test_keys_are_printed_a_line_each_over_all_pages_of_one_day() -> None:
    service = Pages(200, {})
    result = await service.run("keys", "--prefix", "a b")
    assert (result.exit_code, result.stdout) == (0, "a\n[b]\nc\n")
    assert [path for path, _ in service.asked] == ["/keys?prefix=a+b", "/keys?prefix=a+b&date=2026-11-23&after=%5Bb%5D"]


async def test_no_more_keys_are_asked_for_than_wanted() -> None:
    service = Pages(200, {})
    assert (await service.run("keys", "--limit", "2")).stdout == "a\n[b]\n"
    assert [path for path, _ in service.asked] == ["/keys?limit=2"]


async def test_an_incomplete_list_of_keys_says_so_and_fails_the_command() -> None:
    result = await Pages(200, {"unanswered": [3]}).run("keys", "--json")
    assert (result.exit_code, json.loads(result.stdout)["complete"]) == (1, False)
    assert "partitions 3" in result.stderr


@pytest.mark.parametrize(("lost", "is_said"), [(0, False), (7, True), (None, True)])
async def test_a_list_of_keys_of_which_some_may_be_lost_says_so(lost: int | None, is_said: bool) -> None:
    result = await Pages(200, {"lost_records": lost}).run("keys", "--json")
    assert (result.exit_code, json.loads(result.stdout)["lost_records"]) == (0, lost)
    assert ("deleted records" in result.stderr) == is_said
