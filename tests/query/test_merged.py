"""Many keys as one: what the answer says is what one key with all their values would say, from however many workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from metrics_app.holdings import ACTIVE, STANDBY, Loss
from metrics_app.http.problems import json_reply
from metrics_app.http.tokens import new_token
from metrics_app.query import hours
from metrics_app.query.merging import MergedKeys
from metrics_app.query.question import Window
from metrics_app.stats.summary import STATS, HourlySummary, value_of
from metrics_app.wire.partition import partition_of

from .fakes import HOUR, PARTITIONS, Reply, Worker, ask, peer, row, worker

AT_S = hours.start(HOUR + 1).timestamp() + 1234
KEYS = [f"GET /{name}" for name in "abcdefghijkl"] + ["POST /a", "x"]
TIME = "date=2025-11-23&hour=22"


def values_of(key: str, hour: int) -> list[float]:
    return [float(each) for each in np.random.default_rng(KEYS.index(key) + hour).lognormal(3, 1, 150)]


def recorded(one: Worker, keys: Sequence[str] = KEYS, partitions: Sequence[int] = range(PARTITIONS)) -> None:
    one.reader.rows |= {
        (key.encode(), hour): row(*values_of(key, hour), missing=1, late=2)
        for key in keys
        for hour in (HOUR - 1, HOUR)
        if partition_of(key.encode(), PARTITIONS) in partitions
    }


async def asked(one: Worker, query: str, **headers: Any) -> Reply:
    with patch.object(time, "time", return_value=AT_S):
        return await ask(one.url, f"/merge?{query}", **headers)


def expected(keys: Sequence[str], within: Sequence[int], stats: Sequence[str] = STATS) -> dict[str, float]:
    summary = HourlySummary()
    for key in keys:
        for hour in within:
            summary.add(np.array(values_of(key, hour)))
    return {stat: value_of(summary, stat).value for stat in stats}


@pytest.mark.parametrize(
    ("query", "chosen", "within"),
    [
        (f"prefix=GET%20&{TIME}", KEYS[:12], [HOUR]),
        (f"{TIME}", KEYS, [HOUR]),
        (f"contains=/a&{TIME}", ["GET /a", "POST /a"], [HOUR]),
        ("prefix=GET%20&date=2025-11-23", KEYS[:12], [HOUR - 1, HOUR]),
        ("prefix=GET%20&last=3h", KEYS[:12], [HOUR - 1, HOUR]),
        ("from=2025-11-23T21:00:00Z&to=2025-11-23T22:00:00Z", KEYS, [HOUR - 1]),
    ],
)
async def test_the_answer_is_that_of_one_key_with_all_values(query: str, chosen: list[str], within: list[int]) -> None:
    async with worker() as one:
        recorded(one)
        reply = await asked(one, query)

    assert reply.status == 200, reply.json
    assert reply.json["values"] == expected(chosen, within)
    rows = len(chosen) * len(within)
    assert (reply.json["keys"], reply.json["count"]) == (len(chosen), 150 * rows)
    assert (reply.json["missing"], reply.json["late"]) == (rows, 2 * rows)
    assert (reply.json["complete"], reply.json["unanswered"], reply.json["stale"]) == (True, [], False)


async def test_one_statistic_has_its_bounds_and_a_table() -> None:
    async with worker() as one:
        recorded(one)
        before = {place: found.summary.count for place, found in one.reader.rows.items()}
        reply = await asked(one, f"prefix=GET%20&stat=p99&{TIME}")
        table = await asked(one, f"prefix=GET%20&stat=p99&{TIME}&format=csv")
        assert before == {place: found.summary.count for place, found in one.reader.rows.items()}

    assert reply.json["value"] == expected(KEYS[:12], [HOUR], ["p99"])["p99"]
    assert reply.json["lo"] <= reply.json["value"] <= reply.json["hi"]
    assert (reply.json["final"], reply.json["unit"]) == (True, "ms")
    assert table.body.decode().splitlines()[1].startswith("GET *,p99,")


async def test_two_workers_that_share_the_keys_say_what_one_says() -> None:
    async with worker() as one, worker() as other:
        one.owners.others, one.reader.roles = [other.url], dict.fromkeys(range(3), ACTIVE)
        other.reader.roles = dict.fromkeys(range(3, PARTITIONS), ACTIVE)
        recorded(one, partitions=range(3))
        recorded(other, partitions=range(3, PARTITIONS))
        reply = await asked(one, TIME)

    assert reply.json["values"] == expected(KEYS, [HOUR])
    assert reply.json["complete"]


async def test_a_copy_answers_where_no_owner_does_and_what_nobody_holds_is_named() -> None:
    async with worker() as one:
        one.reader.roles = {**dict.fromkeys(range(4), ACTIVE), **dict.fromkeys(range(4, 7), STANDBY)}
        recorded(one, partitions=range(7))
        reply = await asked(one, TIME)

    held = [key for key in KEYS if partition_of(key.encode(), PARTITIONS) < 7]
    assert reply.json["values"] == expected(held, [HOUR])
    assert (reply.json["stale"], reply.json["complete"], reply.json["unanswered"]) == (True, False, [7])
    assert (reply.json["final"], reply.json["role"]) == (False, STANDBY)


async def test_what_is_lost_is_told_once() -> None:
    async with worker() as one:
        recorded(one)
        one.reader.lost = [Loss(HOUR, HOUR + 1, HOUR * 3600.0, 4)]
        reply = await asked(one, TIME)

    assert (reply.json["missing"], reply.json["lost_records"]) == (None, 4 * PARTITIONS)


async def test_nothing_is_404_only_where_that_is_known() -> None:
    async with worker() as one:
        assert (await asked(one, f"prefix=absent&{TIME}")).status == 404
        one.reader.roles = {0: ACTIVE}
        assert (await asked(one, f"prefix=absent&{TIME}")).status == 503
        one.reader.roles = {}
        assert (await asked(one, TIME)).status == 503


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("stat=p101", "stat"),
        ("stat=under", "stat"),
        ("last=0h", "last"),
        ("last=1h&date=today", "date"),
        ("hour=25&date=today", "hour"),
        ("copies=1", "copies"),
        ("format=xml", "format"),
        ("prefix=%00", "prefix"),
    ],
)
async def test_a_bad_question_names_its_part(query: str, part: str) -> None:
    async with worker() as one:
        reply = await asked(one, query)
    assert (reply.status, reply.json["part"]) == (400, part)


async def test_a_token_for_some_keys_merges_no_others(tmp_path: Any) -> None:
    token, line = new_token("team", ["query"], ["GET /a", "x"])
    (tmp_path / "tokens").write_text(line)
    (tmp_path / "tokens").chmod(0o600)
    async with worker(tokens_file=tmp_path / "tokens", cluster_token="secret") as one:
        recorded(one)
        reply = await asked(one, TIME, Authorization=f"Bearer {token}")
        other = await asked(one, f"prefix=POST&{TIME}", Authorization=f"Bearer {token}")

    assert reply.json["values"] == expected(["GET /a", "x"], [HOUR])
    assert other.status == 403


async def test_a_worker_that_sends_garbage_is_as_good_as_none() -> None:
    async def garbage(_request: Any) -> Any:
        await asyncio.sleep(0)
        partitions = {"1": {"role": "active", "summary": "AAAA", "exact_distinct": 10}}
        of = MergedKeys(Window(HOUR, HOUR + 1, "hour"), "", "").identity
        return json_reply({"of": of, "partitions": partitions}, headers={"X-Metrics-Role": ACTIVE})

    async with worker() as one, peer(garbage) as url:
        one.owners.others = [url]
        others = [number for number in range(PARTITIONS) if number != 1]
        one.reader.roles = dict.fromkeys(others, ACTIVE)
        recorded(one, partitions=others)
        reply = await asked(one, TIME)

    held = [key for key in KEYS if partition_of(key.encode(), PARTITIONS) != 1]
    assert (reply.status, reply.json["unanswered"]) == (200, [1])
    assert reply.json["values"] == expected(held, [HOUR])
