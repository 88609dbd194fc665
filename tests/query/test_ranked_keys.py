"""Keys ranked by what was recorded of them, from all workers together."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator

import numpy as np
import pytest

from metrics_app.holdings import ACTIVE, RECOVERING, STANDBY, FoundRow
from metrics_app.http.problems import PROBLEM
from metrics_app.query.question import Policy
from metrics_app.query.ranked_keys import Ranking
from metrics_app.stats.summary import HourlySummary, value_of
from metrics_app.wire.partition import partition_of

from .fakes import HOUR, PARTITIONS, Worker, ask, row, worker

IN_HOUR = "/keys?date=2025-11-23&hour=22"
STATS = ("count", "sum", "average", "min", "max", "stddev", "median", "p50", "p90", "p99", "p99.9")
Rows = dict[tuple[bytes, int], FoundRow]


def rows_of(number: int, hour: int = HOUR, seed: int = 7) -> Rows:
    """Rows of many keys, small and large, with ties among them."""
    random = np.random.default_rng(seed)
    found: Rows = {}
    for nth in range(number):
        count = int(random.choice([1, 2, 5, 40, 300]))
        values = np.round(random.lognormal(3.0 + random.integers(3), 1.0, count), int(random.integers(3)))
        found[f"app-{nth:03}".encode(), hour] = row(*values)
    return found


def value(found: FoundRow, stat: str) -> float:
    return float(value_of(found.summary, stat).value)


def in_order(rows: Rows, stat: str) -> list[str]:
    """The keys of one hour as they should come."""
    by_rank = sorted(rows.items(), key=lambda each: (-value(each[1], stat), each[0][0]))
    return [key.decode() for (key, _), _ in by_rank]


async def all_pages(url: str, path: str) -> list[str]:
    found: list[str] = []
    link: str | None = path
    while link:
        reply = await ask(url, link)
        assert reply.json["complete"]
        found += reply.json["keys"]
        link = reply.headers.get("Link", "").partition(">")[0].removeprefix("<")
    return found


@pytest.fixture
async def one() -> AsyncIterator[Worker]:
    """Holds everything."""
    async with worker() as running:
        running.reader.rows = rows_of(300)
        yield running


@pytest.fixture
async def two() -> AsyncIterator[tuple[Worker, Worker]]:
    """Each owns half of the partitions and is standby of the other half."""
    async with worker() as first, worker() as second:
        first.owners.others, second.owners.others = [second.url], [first.url]
        for which, each in enumerate((first, second)):
            each.reader.rows = rows_of(300)
            each.reader.roles = {number: ACTIVE if number % 2 == which else STANDBY for number in range(PARTITIONS)}
        yield first, second


@pytest.mark.parametrize("stat", STATS)
async def test_keys_come_with_the_greatest_value_first(one: Worker, stat: str) -> None:
    reply = await ask(one.url, f"{IN_HOUR}&sort={stat}&limit=50")

    assert reply.json["keys"] == in_order(one.reader.rows, stat)[:50]
    for each in reply.json["ranked"]:
        found = one.reader.rows[each["key"].encode(), HOUR]
        assert (each["stat"], each["value"], each["count"]) == (stat, value(found, stat), found.summary.count)


async def test_each_key_is_answered_as_if_it_had_been_asked_for_alone(one: Worker) -> None:
    ranked = (await ask(one.url, f"{IN_HOUR}&sort=p99&limit=3")).json["ranked"]

    assert ranked == [(await ask(one.url, f"/{each['key']}/p99/2025-11-23/22")).json for each in ranked]


async def test_what_is_known_of_the_list_is_told(one: Worker) -> None:
    reply = await ask(one.url, f"{IN_HOUR}&sort=max&limit=2&prefix=app&contains=-1")

    keys = [key for key in in_order(one.reader.rows, "max") if "-1" in key][:2]
    told = {name: member for name, member in reply.json.items() if name != "ranked"}
    assert told == {
        "date": "2025-11-23",
        "hour": 22,
        "window": {"start": "2025-11-23T22:00:00Z", "end": "2025-11-23T23:00:00Z"},
        "prefix": "app",
        "contains": "-1",
        "sort": "max",
        "keys": keys,
        "next": f"{value(one.reader.rows[keys[1].encode(), HOUR], 'max')!r}:{keys[1]}",
        "complete": True,
        "unanswered": [],
        "stale": False,
        "lost_records": 0,
    }
    assert reply.headers["Cache-Control"] == "no-store"


async def test_other_statistics_are_told_beside_it(one: Worker) -> None:
    ranked = (await ask(one.url, f"{IN_HOUR}&sort=p99&stats=count,median&limit=1")).json["ranked"]

    found = one.reader.rows[ranked[0]["key"].encode(), HOUR]
    assert ranked[0]["values"] == {"count": found.summary.count, "median": value(found, "median")}
    assert ranked[0]["bounds"]["median"]["exact"] is True


@pytest.mark.parametrize("stat", ["count", "p99", "min"])
@pytest.mark.parametrize("limit", [1, 7, 300])
async def test_pages_have_every_key_once_in_order(one: Worker, stat: str, limit: int) -> None:
    """Also where many keys have the same value."""
    expected = in_order(one.reader.rows, stat)[: 20 * limit]
    one.reader.rows = {at: found for at, found in one.reader.rows.items() if at[0].decode() in expected}

    assert await all_pages(one.url, f"{IN_HOUR}&sort={stat}&limit={limit}") == expected


@pytest.mark.parametrize("stretch", [1, 3, 1000])
@pytest.mark.parametrize("stat", ["count", "sum", "p90"])
async def test_a_day_is_ranked_by_all_its_hours_together(one: Worker, stretch: int, stat: str) -> None:
    """However they lie in the store, and in memory."""
    one.reader.stretch = stretch
    one.reader.rows = rows_of(60) | rows_of(40, HOUR - 1, seed=8) | rows_of(10, HOUR - 20, seed=9)
    one.reader.rows |= rows_of(60, HOUR + 2, seed=10)  # tomorrow
    one.reader.in_memory = {b"app-003", b"app-017", b"app-039"}
    whole: dict[str, HourlySummary] = {}
    for (key, hour), found in one.reader.rows.items():
        if hour < HOUR + 2:
            whole.setdefault(key.decode(), HourlySummary()).merge(found.summary)
    values = {key: float(value_of(summary, stat).value) for key, summary in whole.items()}

    ranked = (await ask(one.url, f"/keys?date=2025-11-23&sort={stat}&limit=60")).json["ranked"]
    assert [each["key"] for each in ranked] == sorted(values, key=lambda key: (-values[key], key))
    assert {each["key"]: each["value"] for each in ranked} == values


async def test_rows_that_cannot_have_a_place_are_not_read(one: Worker) -> None:
    one.reader.rows = {(f"k{nth:05}".encode(), HOUR): row(float(nth * 7919 % 20_011)) for nth in range(20_000)}
    ranked = await ask(one.url, f"{IN_HOUR}&sort=p99&limit=10")

    assert ranked.json["keys"] == in_order(one.reader.rows, "p99")[:10]
    assert one.reader.read_rows < 400


async def test_of_keys_with_the_same_value_those_behind_the_last_place_are_not_read(one: Worker) -> None:
    one.reader.rows = {(f"k{nth:05}".encode(), HOUR): row(3.0) for nth in range(20_000)}
    ranked = await ask(one.url, f"{IN_HOUR}&sort=p99&limit=10")

    assert ranked.json["keys"] == in_order(one.reader.rows, "p99")[:10]
    assert one.reader.read_rows < 400


async def test_only_the_hours_that_have_rows_are_read(one: Worker) -> None:
    one.reader.rows = {(f"k{nth:03}".encode(), HOUR): row(float(nth)) for nth in range(100)}
    ranked = await ask(one.url, "/keys?date=2025-11-23&sort=average&limit=1")

    assert ranked.json["keys"] == ["k099"]
    assert one.reader.read_rows <= 100 + 2 * 24  # each, and the whole day of what is told, one more than a page


async def test_a_ranking_that_takes_too_long_says_so() -> None:
    async with worker(ranking_deadline_s=0.001) as slow:
        slow.reader.rows = {(f"k{nth:05}".encode(), HOUR): row(float(nth)) for nth in range(2_000)}
        reply = await ask(slow.url, f"{IN_HOUR}&sort=min")

    assert (reply.status, reply.json["title"]) == (503, "Ranking took too long")
    assert "METRICS_RANKING_DEADLINE_S" in reply.json["detail"]


async def test_who_waits_for_another_ranking_in_vain_is_told_so() -> None:
    async with worker(query_deadline_s=0.05) as busy:
        await busy.rankings.free.acquire()
        reply = await ask(busy.url, f"{IN_HOUR}&sort=p99")

    assert (reply.status, reply.json["title"]) == (503, "Too many questions")
    assert "other long questions" in reply.json["detail"]
    assert "Retry-After" in reply.headers


async def test_nothing_is_read_to_count(one: Worker) -> None:
    assert (await ask(one.url, f"{IN_HOUR}&sort=count&limit=10")).json["keys"] == in_order(one.reader.rows, "count")[
        :10
    ]
    assert one.reader.read_rows == 11


async def test_keys_that_have_surely_changed_come_first(one: Worker) -> None:
    """Few values, however great, and changes that chance may have made have no place."""
    random = np.random.default_rng(1)
    before = {key: random.lognormal(3.0, 0.5, 2000) for key in ("same", "slower", "faster", "slightly")}
    factors = {"same": 1.0, "slower": 3.0, "faster": 1 / 5, "slightly": 1.3}
    one.reader.rows = {(b"few", HOUR - 1): row(1.0, 1.0), (b"few", HOUR): row(900.0), (b"new", HOUR): row(*[1.0] * 99)}
    for key, values in before.items():
        one.reader.rows[key.encode(), HOUR - 1] = row(*values)
        one.reader.rows[key.encode(), HOUR] = row(*(factors[key] * random.permutation(values)))
    reply = await ask(one.url, f"{IN_HOUR}&sort=change")

    assert reply.json["keys"] == ["faster", "slower", "slightly"]
    assert [each["verdict"] for each in reply.json["ranked"]] == ["faster", "slower", "slower"]
    assert all(1.0 < each["value"] < 5.0 for each in reply.json["ranked"])
    assert reply.json["ranked"][0]["baseline"]["window"]["end"] == "2025-11-23T22:00:00Z"
    alone = (await ask(one.url, "/faster/compare/2025-11-23/22?with=2025-11-23/21")).json
    assert reply.json["ranked"][0]["shifts"] == alone["shifts"]


async def test_table_has_a_line_a_key(one: Worker) -> None:
    reply = await ask(one.url, f"{IN_HOUR}&sort=p99&limit=3&format=csv")

    lines = list(csv.DictReader(io.StringIO(reply.body.decode())))
    assert [line["key"] for line in lines] == in_order(one.reader.rows, "p99")[:3]
    assert [float(line["value"]) for line in lines] == [
        value(one.reader.rows[line["key"].encode(), HOUR], "p99") for line in lines
    ]
    assert "format=csv" in reply.headers["Link"]


async def test_nothing_recorded_is_an_empty_list(one: Worker) -> None:
    for sort in ("p99", "change"):
        reply = await ask(one.url, f"/keys?date=2024-01-01&hour=3&sort={sort}")
        assert (reply.status, reply.json["keys"], reply.json["next"]) == (200, [], None)


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("sort=fastest", "sort"),
        ("sort=summary", "sort"),
        ("sort=", "sort"),
        ("sort=p101", "sort"),
        ("sort=p99&after=x", "after"),
        ("sort=p99&cursor=x", "cursor"),
        ("sort=p99&cursor=nan:x", "cursor"),
        ("sort=p99&cursor=1e999:x", "cursor"),
        ("sort=p99&cursor=1:", "cursor"),
        ("sort=p99&stats=best", "stats"),
        ("sort=change&stats=p99", "stats"),
        ("sort=p99&stats=" + ",".join(f"p{n}" for n in range(17)), "stats"),
        ("sort=change&date=1970-01-01", "sort"),
        ("sort=p99&hour=24", "hour"),
        ("sort=p99&limit=0", "limit"),
        ("sort=p99&copies=1", "copies"),
        ("cursor=1:x", "cursor"),
        ("stats=p99", "stats"),
        ("sort=p99&contains=%00", "contains"),
    ],
)
async def test_malformed_part_is_named(one: Worker, query: str, part: str) -> None:
    reply = await ask(one.url, f"/keys?{query}")

    assert (reply.status, reply.headers["Content-Type"], reply.json["part"]) == (400, PROBLEM, part)


# several workers


@pytest.mark.parametrize("stat", ["count", "p99"])
async def test_any_worker_ranks_the_keys_of_all(two: tuple[Worker, Worker], stat: str) -> None:
    for each in two:
        reply = await ask(each.url, f"{IN_HOUR}&sort={stat}&limit=300")
        assert reply.json["keys"] == in_order(two[0].reader.rows, stat)
        assert (reply.json["stale"], reply.json["complete"]) == (False, True)


async def test_copies_are_looked_at_only_where_no_owner_answers(two: tuple[Worker, Worker]) -> None:
    await ask(two[0].url, f"{IN_HOUR}&sort=p99&limit=10")

    assert [each.reader.looked_at for each in two] == [
        len([key for key, _ in two[0].reader.rows if partition_of(key, PARTITIONS) % 2 == which]) for which in (0, 1)
    ]


async def test_standby_stands_in_and_the_answer_says_so(two: tuple[Worker, Worker]) -> None:
    first, second = two
    second.reader.roles = {}
    reply = await ask(first.url, f"{IN_HOUR}&sort=p99&limit=300")

    assert reply.json["keys"] == in_order(first.reader.rows, "p99")
    assert (reply.json["complete"], reply.json["stale"]) == (True, True)


async def test_an_old_copy_takes_no_place_of_what_a_better_one_knows(two: tuple[Worker, Worker]) -> None:
    first, second = two
    first.reader.roles = dict.fromkeys(range(PARTITIONS), RECOVERING)
    first.reader.rows = {at: row(1e6) for at in first.reader.rows}
    second.reader.roles = {number: STANDBY for number in range(PARTITIONS) if number != 3}
    reply = await ask(first.url, f"{IN_HOUR}&sort=p99&limit=20")

    here = {key.decode() for key, _ in first.reader.rows if partition_of(key, PARTITIONS) == 3}
    expected = [*sorted(here), *(key for key in in_order(second.reader.rows, "p99") if key not in here)]
    assert reply.json["keys"] == expected[:20]


async def test_partitions_that_nobody_answers_for_are_named() -> None:
    async with worker() as alone:
        alone.reader.rows = rows_of(300)
        alone.reader.roles = {0: ACTIVE, 5: ACTIVE}
        reply = await ask(alone.url, f"{IN_HOUR}&sort=p99&limit=300")
        table = await ask(alone.url, f"{IN_HOUR}&sort=p99", Accept="text/csv")

    assert (reply.status, reply.json["complete"], reply.json["unanswered"]) == (200, False, [1, 2, 3, 4, 6, 7])
    assert {partition_of(key.encode(), PARTITIONS) for key in reply.json["keys"]} == {0, 5}
    assert table.status == 503


async def test_partition_that_moves_meanwhile_gives_no_answer(one: Worker) -> None:
    one.reader.moved = True

    assert (await ask(one.url, f"{IN_HOUR}&sort=p99")).status == 503


async def test_a_ranking_does_not_take_the_places_of_other_long_questions(one: Worker) -> None:
    for _ in range(2):
        await one.long_questions.free.acquire()

    assert (await ask(one.url, f"{IN_HOUR}&sort=p99")).status == 200


def test_what_a_worker_tells_another_can_be_told_from_another_question() -> None:
    policy = Policy("ms", 744, 1000)
    asked: list[dict[str, str]] = [
        {"sort": "p99", "date": "2025-11-23"},
        {"sort": "p99", "date": "2025-11-24"},
        {"sort": "p50", "date": "2025-11-23"},
        {"sort": "change", "date": "2025-11-23"},
        {"sort": "p99", "date": "2025-11-23", "prefix": "a"},
        {"sort": "p99", "date": "2025-11-23", "contains": "a"},
    ]
    assert len({Ranking.of(each, "", policy, 0.0).asked(None).identity for each in asked}) == len(asked)
