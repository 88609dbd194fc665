"""The keys of a day, from all workers together."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
from aiohttp import web

from metrics_app.holdings import ACTIVE, RECOVERING, STANDBY, Loss
from metrics_app.http.problems import PROBLEM
from metrics_app.query import hours
from metrics_app.query.key_choice import USUAL_LIMIT
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.partition import partition_of

from .fakes import HOUR, PARTITIONS, FakeReader, Worker, ask, closed_url, hanging_peer, peer, row, worker

DATE = "/keys?date=2025-11-23"
KEYS = [f"app-{number:03}" for number in range(300)]


def rows_of(*keys: str, hour: int = HOUR) -> dict[tuple[bytes, int], object]:
    return {(key.encode(), hour): row() for key in keys}


def holds(reader: FakeReader, roles: dict[int, str], keys: list[str]) -> None:
    """Has a reader hold some partitions, and of the keys those that are in them."""
    reader.roles = roles
    reader.rows = rows_of(*(key for key in keys if partition_of(key.encode(), PARTITIONS) in roles))  # type: ignore[assignment]


@pytest.fixture
async def one() -> AsyncIterator[Worker]:
    """Holds everything."""
    async with worker() as running:
        running.reader.rows = rows_of(*KEYS)  # type: ignore[assignment]
        yield running


@pytest.fixture
async def two() -> AsyncIterator[tuple[Worker, Worker]]:
    """Each owns half of the partitions and is standby of the other half."""
    async with worker() as first, worker() as second:
        first.owners.others, second.owners.others = [second.url], [first.url]
        for which, each in enumerate((first, second)):
            roles = {number: ACTIVE if number % 2 == which else STANDBY for number in range(PARTITIONS)}
            holds(each.reader, roles, KEYS)
        yield first, second


async def all_pages(url: str, path: str) -> list[str]:
    found: list[str] = []
    link: str | None = path
    while link:
        reply = await ask(url, link)
        assert reply.json["complete"]
        found += reply.json["keys"]
        link = reply.headers.get("Link", "").partition(">")[0].removeprefix("<")
    return found


async def test_keys_of_a_day_come_in_order_with_what_is_known_of_the_answer(one: Worker) -> None:
    reply = await ask(one.url, DATE + "&limit=1000")

    assert reply.json == {
        "date": "2025-11-23",
        "prefix": "",
        "contains": "",
        "keys": KEYS,
        "next": None,
        "complete": True,
        "unanswered": [],
        "stale": False,
        "lost_records": 0,
    }
    assert (reply.headers["Cache-Control"], "Link" in reply.headers) == ("no-store", False)


async def test_key_of_many_hours_is_listed_once_and_that_of_another_day_not_at_all(one: Worker) -> None:
    one.reader.rows |= rows_of("app-001", hour=HOUR - 3)  # type: ignore[arg-type]
    one.reader.rows |= rows_of("other", hour=HOUR + 2)  # type: ignore[arg-type]

    assert await all_pages(one.url, DATE) == KEYS
    assert (await ask(one.url, "/keys?date=2025-11-24")).json["keys"] == ["other"]
    assert (await ask(one.url, "/keys?date=2025-11-22")).json["keys"] == []


async def test_row_that_is_in_memory_only_is_listed(one: Worker) -> None:
    one.reader.in_memory = {b"app-000", b"app-299"}

    assert await all_pages(one.url, DATE + "&limit=7") == KEYS


@pytest.mark.parametrize("limit", [1, 7, 300])
async def test_pages_have_every_key_once(one: Worker, limit: int) -> None:
    assert await all_pages(one.url, f"{DATE}&limit={limit}") == KEYS
    first = (await ask(one.url, f"{DATE}&limit={limit}")).json
    assert (len(first["keys"]), first["next"]) == (limit, None if limit == 300 else KEYS[limit - 1])


@pytest.mark.parametrize("limit", [1, 7, 300])
async def test_rows_that_count_nothing_make_no_page_short(one: Worker, limit: int) -> None:
    """However many of them stand before the keys of a page."""
    one.reader.stretch = 5
    nothing = row()._replace(summary=HourlySummary())
    one.reader.rows |= {(f"app-{number:03}-x".encode(), HOUR): nothing for number in range(300)}

    assert await all_pages(one.url, f"{DATE}&limit={limit}") == KEYS


async def test_page_has_a_usual_size(one: Worker) -> None:
    assert len((await ask(one.url, DATE)).json["keys"]) == USUAL_LIMIT


async def test_work_of_a_page_does_not_grow_with_the_number_of_keys(one: Worker) -> None:
    many = [f"many-{number:06}" for number in range(20_000)]
    one.reader.rows = rows_of(*many)  # type: ignore[assignment]
    await ask(one.url, DATE + "&limit=10")

    assert one.reader.looked_at <= 5 * 11  # and not 11 in each of 8 partitions: none goes past the page so far


async def test_prefix_chooses(one: Worker) -> None:
    one.reader.rows |= rows_of("a+b", "a b", "app", "apq", "é1", "%41", "zz")  # type: ignore[arg-type]

    for prefix, expected in [("app-00", KEYS[:10]), ("a+", ["a+b"]), ("a ", ["a b"]), ("é", ["é1"]), ("%", ["%41"]),
                             ("ap", ["app", *KEYS, "apq"]), ("x", [])]:  # fmt: skip
        assert await all_pages(one.url, f"{DATE}&prefix={quote(prefix)}") == expected
    assert (await ask(one.url, f"{DATE}&prefix=a+")).json["keys"] == ["a b"]  # + is a space, as forms have it


async def test_order_is_that_of_the_bytes(one: Worker) -> None:
    keys = ["Z", "a", "a\u0301", "é", "\uffff", "\U0001f680"]
    one.reader.rows = rows_of(*reversed(keys))  # type: ignore[assignment]

    assert await all_pages(one.url, f"{DATE}&limit=1") == sorted(keys, key=str.encode)


async def test_today_is_the_usual_day(one: Worker) -> None:
    answer = (await ask(one.url, "/keys")).json

    assert (answer["date"] > "2025-11-23", answer["keys"]) == (True, [])


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e2", "limit"),
        ("date=tomorrow", "date"),
        ("date=2025-11-31", "date"),
        ("prefix=%00", "prefix"),
        ("prefix=%ff", "prefix"),
        ("after=" + "x" * 257, "after"),
        ("format=xml", "format"),
        ("pre=x", "pre"),
        ("limit=1&limit=2", "limit"),
        ("from=2025-11-23", "from"),
    ],
)
async def test_malformed_part_is_named(one: Worker, query: str, part: str) -> None:
    reply = await ask(one.url, f"/keys?{query}")

    assert (reply.status, reply.headers["Content-Type"], reply.json["part"]) == (400, PROBLEM, part)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_other_method_is_405(one: Worker, method: str) -> None:
    assert (await ask(one.url, "/keys", method)).status == 405


async def test_table_has_a_line_a_key_and_links_to_the_next_page(one: Worker) -> None:
    one.reader.rows = rows_of("=1+1", "a,b", "c")  # type: ignore[assignment]
    reply = await ask(one.url, DATE + "&limit=2", Accept="text/csv")

    assert reply.body == b'key\r\n\'=1+1\r\n"a,b"\r\n'
    assert reply.headers["Link"].endswith('after=a%2Cb&format=csv>; rel="next"')


@pytest.mark.parametrize("path", [f"{DATE}&limit=300", f"{DATE}&sort=max", "/federate"])
@pytest.mark.parametrize(("accepted", "coding"), [("gzip, br", "gzip"), ("gzip;q=0", None), ("br", None)])
async def test_a_long_list_comes_packed_to_whoever_accepts_that(
    one: Worker, path: str, accepted: str, coding: str | None
) -> None:
    last = hours.of(time.time()) - 1
    one.reader.rows |= rows_of(*KEYS, hour=last) | rows_of(*KEYS, hour=last + 1)  # type: ignore[arg-type]
    plain = await ask(one.url, path, Accept_Encoding="identity")
    reply = await ask(one.url, path, Accept_Encoding=accepted)

    assert (reply.headers.get("Content-Encoding"), reply.headers["Accept-Ranges"]) == (coding, "none")
    assert "Accept-Encoding" in reply.headers["Vary"]
    body = gzip.decompress(reply.body) if coding else reply.body
    assert body[:2000] == plain.body[:2000]
    assert "Content-Encoding" not in plain.headers


# several workers


async def test_any_worker_lists_the_keys_of_all(two: tuple[Worker, Worker]) -> None:
    for each in two:
        assert await all_pages(each.url, DATE + "&limit=37") == KEYS
        assert not (await ask(each.url, DATE)).json["stale"]


async def test_owner_wins_over_its_standby(two: tuple[Worker, Worker]) -> None:
    """Which may not have a key yet."""
    first, second = two
    for each in two:
        active = {number for number, role in (each.reader.roles or {}).items() if role == ACTIVE}
        each.reader.rows = {
            at: found for at, found in each.reader.rows.items() if partition_of(at[0], PARTITIONS) in active
        }

    assert await all_pages(first.url, DATE) == await all_pages(second.url, DATE) == KEYS


async def test_standby_stands_in_and_the_answer_says_so(two: tuple[Worker, Worker]) -> None:
    first, second = two
    second.reader.roles = {}
    answer = (await ask(first.url, DATE + "&limit=1000")).json

    assert (answer["keys"], answer["complete"], answer["stale"]) == (KEYS, True, True)


@pytest.mark.parametrize(("records", "lost"), [(3, 3 * PARTITIONS), (0, None)])
async def test_a_day_of_which_keys_may_be_lost_says_so(two: tuple[Worker, Worker], records: int, lost: int) -> None:
    """Of each partition once, by the copy that is answered from."""
    for each in two:
        each.reader.lost = [Loss(HOUR - 1, HOUR + 1, 0.0, records)]

    assert (await ask(two[0].url, DATE)).json["lost_records"] == lost
    assert (await ask(two[0].url, "/keys?date=2025-11-21")).json["lost_records"] == 0


async def test_copy_that_is_still_catching_up_is_the_last_choice(two: tuple[Worker, Worker]) -> None:
    first, second = two
    first.reader.roles = dict.fromkeys(range(PARTITIONS), RECOVERING)
    second.reader.roles = dict.fromkeys(range(PARTITIONS), STANDBY)
    second.reader.rows = rows_of("newer")  # type: ignore[assignment]

    assert (await ask(first.url, DATE)).json["keys"] == ["newer"]


@pytest.mark.parametrize("how", ["closed", "hanging", "broken", "nonsense", "other day"])
async def test_partitions_that_nobody_answers_for_are_named_and_never_passed_over(how: str) -> None:
    async def broken(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500)

    async def nonsense(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"[]", headers={"X-Metrics-Role": ACTIVE})

    async def other_day(_: web.Request) -> web.StreamResponse:
        told = {"of": "the day from 2025-11-24T00:00:00Z", "roles": {"1": ACTIVE}, "keys": {"1": ["x"]}}
        return web.json_response(told, headers={"X-Metrics-Role": ACTIVE})

    async with (
        hanging_peer() as hanging,
        peer(broken) as of_errors,
        peer(nonsense) as of_nonsense,
        peer(other_day) as of_other_day,
        worker(query_deadline_s=0.5) as alone,
    ):
        urls = {"closed": closed_url(), "hanging": hanging, "broken": of_errors, "nonsense": of_nonsense}
        alone.owners.others = [urls.get(how, of_other_day)]
        holds(alone.reader, {0: ACTIVE, 5: ACTIVE}, KEYS)
        reply = await ask(alone.url, DATE + "&limit=1000")
        table = await ask(alone.url, DATE, Accept="text/csv")

    assert (reply.status, reply.json["complete"], reply.json["unanswered"]) == (200, False, [1, 2, 3, 4, 6, 7])
    assert reply.json["keys"] == [key for key in KEYS if partition_of(key.encode(), PARTITIONS) in (0, 5)]
    assert table.status == 503  # it has no place for saying so


async def test_nothing_held_anywhere_is_503() -> None:
    async with worker(role=None) as alone:
        reply = await ask(alone.url, DATE)

    assert (reply.status, reply.headers["Content-Type"], "Retry-After" in reply.headers) == (503, PROBLEM, True)


async def test_partition_that_moves_meanwhile_gives_no_answer(one: Worker) -> None:
    one.reader.moved = True

    assert (await ask(one.url, DATE)).status == 503


async def test_asked_by_another_worker_it_tells_what_it_holds_and_asks_nobody(two: tuple[Worker, Worker]) -> None:
    first, _ = two
    first.owners.others = [closed_url()]
    told = json.loads((await ask(first.url, DATE + "&limit=2&format=csv", X_Metrics_Hop="1")).body)

    assert told["roles"] == {str(number): role for number, role in (first.reader.roles or {}).items()}
    assert sorted(key for keys in told["keys"].values() for key in keys) == KEYS[:3]
    assert first.forwards() == {}
