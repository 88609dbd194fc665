"""`top` and `tail`, and the plots that a terminal shows."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from metrics_app.cli.sparks import LEVELS, bar, spark
from metrics_app.cli.tail import looked_at

from .test_send_query import ANSWER, Service

FINITE = st.floats(-1e12, 1e12)


def entry(key: str, value: float) -> dict[str, Any]:
    stats = {"count": 7, "median": 1.5, "p95": value, "p99": value, "max": 99.0}
    return {"key": key, "value": value, "values": stats, "stale": False}


def page(*ranked: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"ranked": [*ranked], "complete": True, "unanswered": [], **others}


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


async def test_the_slowest_keys_are_asked_for_and_shown_in_their_order() -> None:
    service = Service(200, page(entry("a/[red]", 1234.5), entry("b", 7.0)))
    result = await service.run("top", "--date", "2026-11-23", "--hour", "0", "--prefix", "a", "--limit", "5")
    assert result.exit_code == 0
    (asked,) = (path for path, _ in service.asked)
    for part in ("sort=p99", "date=2026-11-23", "hour=0", "prefix=a", "limit=5", "stats=count%2Cmedian"):
        assert part in asked
    lines = result.stdout.splitlines()
    assert lines[1].split()[:2] == ["a/[red]", "1,234.5"]
    assert lines[2].split()[:2] == ["b", "7"]


async def test_a_ranking_with_gaps_is_shown_and_fails() -> None:
    result = await Service(200, page(entry("a", 1.0), complete=False, unanswered=[3])).run("top", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["unanswered"] == [3]
    assert "partitions 3" in result.stderr


async def test_changes_are_ranked_without_statistics_beside() -> None:
    service = Service(200, page({"key": "a", "value": 2.5}))
    result = await service.run("top", "--sort", "change")
    assert (result.exit_code, "stats" in service.asked[0][0]) == (0, False)
    assert result.stdout.splitlines()[1].split() == ["a", "2.5"]


async def test_tail_looks_again_and_again() -> None:
    service = Service(200, page(entry("a", 1.0)))
    result = await service.run("tail", "--rounds", "3", "--every", "0.1", "--json")
    assert (result.exit_code, len(service.asked)) == (0, 3)
    assert [json.loads(line)["ranked"][0]["key"] for line in result.stdout.splitlines()] == ["a"] * 3
    assert "hour=" in service.asked[0][0]


def test_what_a_key_did_before_is_plotted_and_keys_that_are_gone_are_forgotten() -> None:
    history: Any = defaultdict(lambda: deque(maxlen=30))
    for value in (1.0, 2.0, 8.0):
        table = looked_at(page(entry("a", value), entry("b", 1.0)), history, "count")
    console = Console(width=200, record=True)
    console.print(table)
    assert spark([1.0, 2.0, 8.0]) == "▁▂█" in console.export_text()
    looked_at(page(entry("b", 1.0)), history, "count")
    assert set(history) == {"b"}


async def test_changes_are_watched_without_statistics_beside() -> None:
    result = await Service(200, page({"key": "a", "value": 2.5})).run("tail", "--sort", "change", "--rounds", "1")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split() == ["a", "2.5", LEVELS[3]]


async def test_what_is_sorted_by_is_shown_also_where_it_is_no_usual_column() -> None:
    result = await Service(200, page(entry("a", 2.5))).run("tail", "--sort", "average", "--rounds", "1")
    assert [line.split()[:2] for line in result.stdout.splitlines()[:2]] == [["key", "average"], ["a", "2.5"]]


async def test_no_key_turns_round_what_is_beside_it() -> None:
    for command in (["top"], ["tail", "--rounds", "1"]):
        result = await Service(200, page(entry("a\u202e[b]\u2028é", 1.0))).run(*command)
        assert "a\\u202e[b]\\u2028é" in result.stdout


def test_a_problem_is_shown_as_it_is() -> None:
    console = Console(width=200, record=True)
    console.print(
        looked_at({"ranked": [], "problem": "no answer from http://[::1]:1/[/keys]"}, defaultdict(deque), "p99")
    )
    assert "http://[::1]:1/[/keys]" in console.export_text()


async def test_the_hours_of_a_day_are_plotted() -> None:
    hours = [{"start": f"2026-11-23T{n:02}:00:00Z", "count": n, "value": 10.0 * n} for n in range(3)]
    result = await Service(200, {**ANSWER, "hours": hours, "next": None}).run("query", "a", "median", "2026-11-23")
    shown = [line for line in result.stdout.splitlines() if "2026-11-23T0" in line and "window" not in line]
    assert [line.count("█") for line in shown] == [10, 20]


@given(st.lists(FINITE, max_size=50))
def test_a_spark_has_a_column_for_each_value_and_orders_them(values: list[float]) -> None:
    drawn = spark(values)
    assert len(drawn) == len(values)
    levels = [LEVELS.index(each) for each in drawn]
    assert all(a <= b for (_, a), (_, b) in zip(*[iter(sorted(zip(values, levels, strict=True)))] * 2, strict=False))


@given(FINITE, FINITE, st.integers(1, 100))
def test_a_bar_is_never_longer_than_it_may_be(value: float, most: float, width: int) -> None:
    drawn = bar(value, most, width)
    assert len(drawn) <= width
    assert bool(drawn) == (value > 0 and most > 0)
