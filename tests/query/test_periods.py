"""Days and ranges: the whole, its hours, and what becomes of hours without data."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_app import turns
from metrics_app.errors import BusyError, OwnerUnavailableError
from metrics_app.holdings import ACTIVE, FINAL_AFTER_S, STANDBY, FoundRow
from metrics_app.http.problems import PROBLEM
from metrics_app.query import hours, reading
from metrics_app.query.question import Window
from metrics_app.query.reading import LongQuestions, Rows
from metrics_app.stats import codec
from metrics_app.stats.summary import HourlySummary
from tests.turns import Others

from .fakes import HOUR, FakeReader, Reply, Worker, ask, closed_url, row, worker

FIRST = HOUR - 22
DAY_END_S = hours.end(FIRST + 23).timestamp()
DAY = "/checkout/{}/2025-11-23"
RANGE = "/checkout/{}?from=2025-11-23&to=2025-11-24"
FORMS = {"hour": DAY + "/22", "day": DAY, "range": RANGE}

hourly = st.dictionaries(st.integers(0, 23), st.lists(st.floats(0.0, 1e6), min_size=1, max_size=60), min_size=1)


@pytest.fixture
async def one() -> AsyncIterator[Worker]:
    """Holds 10, 20, 60 in hour 22 and 40 in hour 3 of the day."""
    async with worker(found=row(as_of=DAY_END_S + 120)) as running:
        running.reader.rows[b"checkout", FIRST + 3] = row(40.0, missing=1, duplicates=2, late=3, as_of=DAY_END_S + 60)
        yield running


def reader_of(by_hour: dict[int, Any], exact_distinct: int = 1000) -> FakeReader:
    rows = {}
    for hour, values in by_hour.items():
        summary = HourlySummary(exact_distinct)
        summary.add(np.array(values))
        rows[b"k", FIRST + hour] = row()._replace(summary=summary)
    return FakeReader(rows)


def whole_of(reader: FakeReader, first: int = FIRST, end: int = FIRST + 24) -> FoundRow:
    return asyncio.run(Rows(reader, 0, b"k", LongQuestions(1.0)).read(Window(first, end, "range"))).whole


@given(hourly, st.sampled_from([0, 5, 1000]))
@settings(max_examples=60, deadline=None)
def test_hours_merged_are_one_hour_of_all_values(by_hour: dict[int, list[float]], exact_distinct: int) -> None:
    """To the last bit, whatever of it is exact; so a day is as good as an hour is."""
    together = HourlySummary(exact_distinct)
    together.add(np.concatenate([np.array(values) for values in by_hour.values()]))

    assert codec.encode(whole_of(reader_of(by_hour, exact_distinct)).summary) == codec.encode(together)


@pytest.mark.parametrize("q", [0.0, 0.5, 0.9, 0.99, 0.999, 1.0])
def test_quantile_of_a_month_is_that_of_all_its_values_within_the_stated_bound(q: float) -> None:
    """Busy hours and quiet ones, fast and slow, beside each other: no average of quantiles would be near."""
    rng = np.random.default_rng(31)
    sizes = rng.integers(1, 4000, 744)
    parts = [rng.lognormal(rng.normal(3.0, 1.0), 0.5, size) for size in sizes]
    true = float(np.quantile(np.concatenate(parts), q))
    value, lo, hi, _, error_bound = whole_of(reader_of(dict(enumerate(parts))), end=FIRST + 744).summary.quantile(q)

    assert lo <= true <= hi
    assert abs(value - true) <= error_bound * true
    assert error_bound <= 0.005416


def test_reading_changes_no_row() -> None:
    reader = reader_of({1: [1.0, 2.0], 2: np.arange(2000.0), 3: [5.0]})
    before = [codec.encode(found.summary) for found in reader.rows.values()]
    whole_of(reader)

    assert before == [codec.encode(found.summary) for found in reader.rows.values()]


async def test_long_reading_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE_S", 0.0)
    reader = reader_of({hour: [1.0] for hour in range(744)})
    async with Others() as others:
        await Rows(reader, 0, b"k", LongQuestions(1.0)).read(Window(FIRST, FIRST + 744, "range"))

    assert others.turns >= 744 - 5


async def test_long_questions_take_turns_and_others_do_not_wait_for_them() -> None:
    rows = Rows(reader_of({0: [1.0]}), 0, b"k", LongQuestions(0.05))
    short, more = Window(FIRST, FIRST + 2, "range"), Window(FIRST, FIRST + 25, "range")
    async with rows.long_questions.admitted(25), rows.long_questions.admitted(25):
        with pytest.raises(OwnerUnavailableError, match="other long questions"):
            await rows.read(more)
        assert (await rows.read(short)).whole.summary.count == 1

    assert (await rows.read(more)).whole.summary.count == 1


async def test_partition_that_moves_away_while_it_is_read_gives_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE_S", 0.0)
    reader = reader_of({hour: [1.0] for hour in range(744)})
    answer = asyncio.create_task(Rows(reader, 0, b"k", LongQuestions(1.0)).read(Window(FIRST, FIRST + 744, "range")))
    await asyncio.sleep(0)
    reader.moved = True

    with pytest.raises(OwnerUnavailableError):
        await answer


async def test_day_is_its_hours_taken_together(one: Worker) -> None:
    answer = (await ask(one.url, DAY.format("median"))).json

    assert (answer["date"], answer["value"], answer["count"]) == ("2025-11-23", 30.0, 4)
    assert answer["window"] == {"start": "2025-11-23T00:00:00Z", "end": "2025-11-24T00:00:00Z"}
    assert "hour" not in answer
    assert [each["count"] for each in answer["hours"]] == [0, 0, 0, 1, *[0] * 18, 3, 0]
    assert answer["hours"][22]["value"] == 20.0
    assert answer["hours"][21] == {"start": "2025-11-23T21:00:00Z", "value": None, "count": 0}
    assert answer["next"] is None


async def test_day_counts_what_its_hours_count(one: Worker) -> None:
    """And is as old as the oldest of them."""
    answer = (await ask(one.url, DAY.format("count"))).json

    assert [answer[name] for name in ("missing", "duplicates", "late")] == [1, 2, 3]
    assert [answer["hours"][3][name] for name in ("missing", "duplicates", "late")] == [1, 2, 3]
    assert answer["as_of"] == "2025-11-24T00:01:00Z"


@pytest.mark.parametrize("form", FORMS)
async def test_each_form_of_question_takes_every_statistic(one: Worker, form: str) -> None:
    for stat in ("average", "p99.9", "summary", "count"):
        reply = await ask(one.url, FORMS[form].format(stat))
        assert (reply.status, reply.json["stat"]) == (200, stat)


async def test_hour_of_a_day_is_the_answer_for_that_hour(one: Worker) -> None:
    alone, day = [(await ask(one.url, FORMS[form].format("p95"))).json for form in ("hour", "day")]

    assert day["hours"][22].items() - {("start", alone["window"]["start"])} <= alone.items()


async def test_day_without_a_value_is_no_data(one: Worker) -> None:
    for path in ("/checkout/median/2025-11-22", "/search/median/2025-11-23"):
        reply = await ask(one.url, path)
        assert (reply.status, reply.headers["Content-Type"], reply.json["title"]) == (404, PROBLEM, "No data")


async def test_range_is_half_open(one: Worker) -> None:
    with_it = (await ask(one.url, "/checkout/count?from=2025-11-23/22&to=2025-11-23/23")).json
    before = await ask(one.url, "/checkout/count?from=2025-11-23/4&to=2025-11-23/22")

    assert (with_it["value"], len(with_it["hours"])) == (3, 1)
    assert before.status == 404
    assert "the hours from 2025-11-23T04:00:00Z to 2025-11-23T22:00:00Z" in before.json["detail"]


async def test_forms_of_a_moment_name_the_same_range(one: Worker) -> None:
    froms = ("2025-11-23", "2025-11-23/0", "2025-11-23T00:00:00Z", "2025-11-23T01:00:00+01:00")
    bodies = {(await ask(one.url, f"/checkout/p50?from={start}&to=2025-11-24")).body for start in froms}

    assert len(bodies) == 1


async def test_range_is_listed_page_by_page_and_whole_beside_each(one: Worker) -> None:
    pages: list[Reply] = []
    link: str | None = RANGE.format("count") + "&limit=10"
    while link:
        pages.append(await ask(one.url, link))
        link = pages[-1].headers.get("Link", "").partition(">")[0].removeprefix("<")
    listed = [each["start"] for page in pages for each in page.json["hours"]]

    assert listed == [hours.iso(hours.start(FIRST + hour)) for hour in range(24)]
    assert [len(page.json["hours"]) for page in pages] == [10, 10, 4]
    assert [page.json["next"] for page in pages] == ["2025-11-23T09:00:00Z", "2025-11-23T19:00:00Z", None]
    assert {page.json["value"] for page in pages} == {4}


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("", "from"),
        ("from=2025-11-23", "to"),
        ("from=2025-11-23&to=2025-11-23", "to"),
        ("from=2025-11-23&to=2025-11-22", "to"),
        ("from=yesterday&to=2025-11-23", "from"),
        ("from=2025-11-23&to=2025-11-23T10:30:00Z", "to"),
        ("from=2025-11-23&to=2025-11-24&limit=0", "limit"),
        ("from=2025-11-23&to=2025-11-24&limit=1001", "limit"),
        ("from=2025-11-23&to=2025-11-24&limit=ten", "limit"),
        ("from=2025-11-23&to=2025-11-24&after=2025-11-22/22", "after"),
        ("from=2025-11-23&to=2025-11-24&after=2025-11-23/23", "after"),
        ("from=2025-11-23&to=2025-11-24&after=x", "after"),
        ("from=2025-11-23&to=2025-11-24&form=csv", "form"),
        ("from=2025-11-23&to=2025-11-24&format=xml", "format"),
        ("from=2025-11-23&from=2025-11-22&to=2025-11-24", "from"),
        ("from=2025-11-23&to=2025-11-24&%ff=1", "query"),
        ("from=%zz&to=2025-11-24", "from"),
        ("from=2025-11-23&to=2025-11-24&ms=5", "ms"),
    ],
)
async def test_malformed_part_of_a_range_is_named(one: Worker, query: str, part: str) -> None:
    reply = await ask(one.url, f"/checkout/median?{query}")

    assert (400, PROBLEM, part) == (reply.status, reply.headers["Content-Type"], reply.json["part"])
    assert reply.json["expected"]


@pytest.mark.parametrize("path", [DAY.format("median"), f"{DAY.format('median')}/22"])
@pytest.mark.parametrize("query", ["from=2025-11-23", "limit=5", "Format=csv", "x", "=", "format=csv&format=csv"])
async def test_parameter_that_is_not_known_is_refused_and_not_passed_over(one: Worker, path: str, query: str) -> None:
    assert (await ask(one.url, f"{path}?{query}")).status == 400


async def test_longer_range_than_the_limit_is_refused_with_the_limit() -> None:
    async with worker(found=row(), max_range_hours=48) as running:
        allowed = await ask(running.url, "/checkout/p50?from=2025-11-22&to=2025-11-24")
        refused = await ask(running.url, "/checkout/p50?from=2025-11-22&to=2025-11-24/1")

    assert (allowed.status, refused.status, refused.json["part"]) == (200, 400, "to")
    assert "at most 48 hours" in refused.json["expected"]


# from a standby


async def test_standby_answers_for_the_hours_it_has_and_says_so() -> None:
    async with worker(closed_url(), found=row(role=STANDBY), role=STANDBY) as standby:
        answer = (await ask(standby.url, DAY.format("count"))).json
        nothing = await ask(standby.url, "/checkout/count/2025-11-22")

    assert (answer["value"], answer["stale"], answer["role"]) == (3, True, STANDBY)
    assert nothing.status == 503


# as web resources


@pytest.mark.parametrize("form", FORMS)
async def test_closed_time_is_not_sent_twice(one: Worker, form: str) -> None:
    """The tag of the other form, CSV, is another one."""
    path = FORMS[form].format("p95")
    first, table = await ask(one.url, path), await ask(one.url, path, Accept="text/csv")
    tag = first.headers["ETag"]

    assert first.headers["Cache-Control"] == "public, max-age=60"
    for known in (tag, f'"x", {tag}', f"W/{tag}", "*"):
        again = await ask(one.url, path, If_None_Match=known)
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
        assert again.headers["Vary"] == first.headers["Vary"]
        assert (await ask(one.url, path, "HEAD", If_None_Match=known)).status == 304
    assert (await ask(one.url, path, Accept="text/csv", If_None_Match=tag)).status == 200
    assert table.headers["ETag"] != tag


@pytest.mark.parametrize("form", ["day", "range"])
async def test_late_correction_of_one_hour_changes_the_tag_of_the_whole(one: Worker, form: str) -> None:
    path = FORMS[form].format("max")
    tag = (await ask(one.url, path)).headers["ETag"]
    one.reader.rows[b"checkout", FIRST + 3] = row(40.0, 40.0, late=1, as_of=DAY_END_S + 60)

    assert (await ask(one.url, path, If_None_Match=tag)).status == 200


async def test_day_is_final_once_its_last_hour_is(one: Worker) -> None:
    for after_s, final in ((FINAL_AFTER_S, True), (FINAL_AFTER_S - 0.001, False)):
        for key in one.reader.rows:
            one.reader.rows[key] = one.reader.rows[key]._replace(as_of=DAY_END_S + after_s)
        reply = await ask(one.url, DAY.format("max"))
        assert (reply.json["final"], "ETag" in reply.headers) == (final, final)
        assert reply.json["hours"][22]["final"]


# as a table


def lines(reply: Reply) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(reply.body.decode(), newline="")))


@pytest.mark.parametrize("form", FORMS)
async def test_table_has_a_line_an_hour(one: Worker, form: str) -> None:
    reply = await ask(one.url, FORMS[form].format("p95"), Accept="text/csv")
    table = lines(reply)
    last = {"hour": 0, "day": 22, "range": 22}[form]

    assert reply.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert len(table) == (1 if form == "hour" else 24)
    assert (table[last]["start"], table[last]["end"]) == ("2025-11-23T22:00:00Z", "2025-11-23T23:00:00Z")
    assert (table[last]["key"], table[last]["stat"], table[last]["value"]) == ("checkout", "p95", "56.0")
    assert (table[last]["unit"], table[last]["count"], table[last]["exact"]) == ("ms", "3", "true")
    assert (table[last]["ci95_lo"], table[last]["role"], table[last]["final"]) == ("", ACTIVE, "true")
    if form != "hour":
        assert (table[21]["value"], table[21]["count"], table[21]["final"]) == ("", "0", "")


async def test_table_of_a_summary_has_a_line_an_hour_and_statistic(one: Worker) -> None:
    table = lines(await ask(one.url, DAY.format("summary") + "?format=csv"))
    by_stat = {each["stat"]: each for each in table if each["start"] == "2025-11-23T22:00:00Z"}

    assert len(table) == 24 * 11
    assert (by_stat["average"]["value"], by_stat["max"]["value"], by_stat["count"]["value"]) == ("30.0", "60.0", "3")
    assert (by_stat["count"]["unit"], by_stat["max"]["unit"], by_stat["max"]["hi"]) == ("values", "ms", "60.0")


async def test_lines_of_a_table_end_as_the_standard_says_and_odd_keys_are_quoted(one: Worker) -> None:
    one.reader.rows[b'a,"b"', HOUR] = row()
    reply = await ask(one.url, "/a,%22b%22/max/2025-11-23/22?format=csv")

    assert reply.body.count(b"\r\n") == 2 == reply.body.count(b"\n")
    assert b'"a,""b"""' in reply.body
    assert lines(reply)[0]["key"] == 'a,"b"'


@pytest.mark.parametrize("key", ["=1+1", "+1", "-1", "@x", "'x", "'=x"])
async def test_key_that_looks_like_a_formula_is_no_formula_in_a_table(one: Worker, key: str) -> None:
    """And can be had back: take one apostrophe away."""
    one.reader.rows[key.encode(), HOUR] = row()
    reply = await ask(one.url, f"/{key.replace('+', '%2B')}/max/2025-11-23/22?format=csv")

    assert lines(reply)[0]["key"] == f"'{key}"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("text/csv", "csv"),
        ("TEXT/CSV; charset=utf-8", "csv"),
        ("text/*", "csv"),
        ("application/json;q=0.5, text/csv", "csv"),
        ("text/csv;q=0.5, application/json", "json"),
        ("text/csv, application/json", "json"),
        ("text/csv;q=0", "json"),
        ("text/csv;q=x", "json"),
        ("*/*", "json"),
        ("", "json"),
        ("image/png", "json"),
        ("text/csv;q=0.2, */*;q=0.1", "csv"),
        (";;,,", "json"),
    ],
)
async def test_accept_header_decides(one: Worker, accept: str, form: str) -> None:
    reply = await ask(one.url, Accept=accept)

    assert form in reply.headers["Content-Type"]


async def test_format_wins_over_the_accept_header(one: Worker) -> None:
    assert "json" in (await ask(one.url, DAY.format("max") + "?format=json", Accept="text/csv")).headers["Content-Type"]


async def test_table_comes_through_another_worker_as_it_is(one: Worker) -> None:
    path = RANGE.format("p95") + "&limit=5"
    async with worker(one.url, role=None) as other:
        for accept in ("text/csv", "application/json"):
            direct, through = [await ask(url, path, Accept=accept) for url in (one.url, other.url)]
            assert direct.body == through.body
            for name in ("Content-Type", "ETag", "Vary", "Link"):
                assert direct.headers[name] == through.headers[name]


async def test_more_long_questions_than_may_wait_are_refused_at_once():
    questions = LongQuestions(20.0)
    async with questions.admitted(25), questions.admitted(25):
        waiting = [asyncio.create_task(_admitted(questions)) for _ in range(reading.MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="long questions are waiting here already"):
            await _admitted(questions)
    await asyncio.gather(*waiting)
    await _admitted(questions)


async def _admitted(questions: LongQuestions) -> None:
    async with questions.admitted(25):
        pass
