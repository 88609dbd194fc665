"""One worker that holds everything: URLs, statuses, headers."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_app.errors import InvalidQueryError
from metrics_app.http.problems import PROBLEM
from metrics_app.query.question import key_of
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.metric_key import key_bytes

from .fakes import END_S, HOUR, PATH, Worker, ask, row, worker


def is_key(text: str) -> bool:
    try:
        return bool(key_bytes(text))
    except ValueError:
        return False


KEYS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=64).filter(is_key)
ODD = [
    "a/b", "/", "//", "%", "%2F", "%252F", "..", ".", "../..", "?", "#", "a?b=c#d", "a b", "+", "a+b", "{x}", "{",
    "e\u0301", "\xe9", "\u65e5\u672c", "\U0001f680", "\u202eabc", "<script>", "&lt;", "http://x", "@x:80", "a;b",
    "\\", "'", '"', "|", "^", "*", "summary", "x" * 256, "\xe9" * 128,
]  # fmt: skip


@pytest.fixture
async def one() -> AsyncIterator[Worker]:
    async with worker(found=row()) as running:
        yield running


def sloppily_quoted(key: str) -> str:
    """Only what a URL cannot do without."""
    return quote(key, safe="!$&'()*+,;=:@~.-_\"<>\\^`{|}")


@given(KEYS)
@settings(max_examples=500)
def test_key_survives_percent_encoding(key: str) -> None:
    assert key == key_of(f"/{quote(key, safe='')}/{PATH}")
    assert key == key_of(f"/{sloppily_quoted(key)}/{PATH}")
    assert key == key_of("/" + "".join(f"%{byte:02x}" for byte in key.encode()) + f"/{PATH}")


@given(st.text(st.sampled_from("%2Ff0aéx\x00\x7f\ud800+"), max_size=12))
def test_every_segment_is_a_key_or_refused_by_name(segment: str) -> None:
    part = None
    try:
        assert is_key(key_of(f"/{segment}/{PATH}"))
    except InvalidQueryError as error:
        part = error.part

    assert part in (None, "key")


@pytest.mark.parametrize("key", ODD)
async def test_odd_key_is_found_by_its_encoded_url(one: Worker, key: str) -> None:
    one.reader.rows[key_bytes(key), HOUR] = row(4.0)

    for segment in (quote(key, safe=""), sloppily_quoted(key)):
        reply = await ask(one.url, f"/{segment}/{PATH}")
        assert (200, key, 4.0) == (reply.status, reply.json["key"], reply.json["value"])


@pytest.mark.parametrize(
    "segment",
    [
        "x" * 257,
        "%C3%A9" * 129,
        "%00",
        "%0A",
        "%0d%0aSet-Cookie:x",
        "%7F",
        "%C2%85",
        "%ff",
        "%ff" * 99,
        "%zz",
        "%",
        "a%2",
    ],
)
async def test_text_that_is_no_key_is_refused_by_name(one: Worker, segment: str) -> None:
    reply = await ask(one.url, f"/{segment}/{PATH}")

    assert (reply.status, reply.headers["Content-Type"], reply.json["part"]) == (400, PROBLEM, "key")
    assert reply.json["expected"]
    assert len(reply.json["value"]) <= 100
    assert "Set-Cookie" not in reply.headers


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/checkout/mode/2025-11-23/22", "stat"),
        ("/checkout/p101/2025-11-23/22", "stat"),
        ("/checkout/%2F/2025-11-23/22", "stat"),
        ("/checkout/average/2025-02-30/22", "date"),
        ("/checkout/average/23.11.2025/22", "date"),
        ("/checkout/average/2025-11-23/24", "hour"),
        ("/checkout/average/2025-11-23/-1", "hour"),
        ("/checkout/average/2025-11-23/%D9%A3", "hour"),
    ],
)
async def test_malformed_part_is_named_with_what_was_expected(one: Worker, path: str, part: str) -> None:
    reply = await ask(one.url, path)

    assert (400, PROBLEM, part) == (reply.status, reply.headers["Content-Type"], reply.json["part"])
    assert reply.json["expected"]


@pytest.mark.parametrize("path", ["/checkout", f"/checkout/{PATH}/", f"/checkout/{PATH}/x", f"//{PATH}"])
async def test_another_form_of_url_is_404_that_says_the_form(one: Worker, path: str) -> None:
    reply = await ask(one.url, path)

    assert (reply.status, reply.headers["Content-Type"]) == (404, PROBLEM)
    assert "<key>/<stat>/<YYYY-MM-DD>/<hour>" in reply.json["detail"]


async def test_hour_may_have_a_leading_zero(one: Worker) -> None:
    one.reader.rows[b"checkout", HOUR - 17] = row(5.0)

    assert (await ask(one.url, "/checkout/average/2025-11-23/05")).json["value"] == 5.0
    assert (await ask(one.url, "/checkout/average/2025-11-23/5")).json["hour"] == 5


@pytest.mark.parametrize(
    "path", [f"/search/{PATH}", "/checkout/average/2025-11-23/21", "/checkout/summary/2025-11-23/21"]
)
async def test_no_data_is_404_and_never_zero(one: Worker, path: str) -> None:
    reply = await ask(one.url, path)

    assert (reply.status, reply.headers["Content-Type"], reply.json["title"]) == (404, PROBLEM, "No data")
    assert "value" not in reply.json
    assert reply.headers["Cache-Control"] == "no-store"


async def test_row_without_a_value_is_no_data(one: Worker) -> None:
    one.reader.rows[b"checkout", HOUR] = row()._replace(summary=HourlySummary())

    assert (await ask(one.url)).status == 404


@pytest.mark.parametrize("path", ["/0001-01-01/0", "/1969-12-31/23", "/9999-12-31/23", "/0000-01-01/0"])
async def test_edge_of_the_calendar_is_a_4xx(one: Worker, path: str) -> None:
    assert (await ask(one.url, f"/checkout/average{path}")).status in (400, 404)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_method_is_405_with_allow(one: Worker, method: str) -> None:
    reply = await ask(one.url, method=method)

    assert (reply.status, reply.headers["Content-Type"]) == (405, PROBLEM)
    assert {"GET", "HEAD"} == set(reply.headers["Allow"].replace(" ", "").split(","))


async def test_head_is_get_without_the_body(one: Worker) -> None:
    got, head = await ask(one.url), await ask(one.url, method="HEAD")

    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Length", "Content-Type", "ETag", "Cache-Control", "X-Metrics-Role"):
        assert got.headers[name] == head.headers[name]


async def test_closed_hour_is_not_sent_twice(one: Worker) -> None:
    first = await ask(one.url)
    again = await ask(one.url, If_None_Match=f'"other", {first.headers["ETag"]}')

    assert first.headers["Cache-Control"] == "public, max-age=60"
    assert (again.status, again.body) == (304, b"")
    assert first.headers["ETag"] == again.headers["ETag"]
    assert first.headers["Cache-Control"] == again.headers["Cache-Control"]


async def test_late_correction_is_sent_in_spite_of_the_old_tag(one: Worker) -> None:
    tag = (await ask(one.url)).headers["ETag"]
    one.reader.rows[b"checkout", HOUR] = row(1.0, late=1)

    assert (await ask(one.url, If_None_Match=tag)).status == 200


@pytest.mark.parametrize("tags", ["nonsense", '"x"', ",,", 'W/"', "\xff"])
async def test_foreign_tags_do_not_matter(one: Worker, tags: str) -> None:
    assert (await ask(one.url, If_None_Match=tags)).status == 200


async def test_open_hour_has_no_tag(one: Worker) -> None:
    one.reader.rows[b"checkout", HOUR] = row(as_of=END_S - 1)
    reply = await ask(one.url, If_None_Match="*")

    assert (reply.status, reply.headers["Cache-Control"], reply.json["final"]) == (200, "no-store", False)
    assert "ETag" not in reply.headers


async def test_unit_is_the_setting() -> None:
    async with worker(found=row(), unit="s") as running:
        assert (await ask(running.url)).json["unit"] == "s"


async def test_answer_ends_in_a_newline(one: Worker) -> None:
    assert (await ask(one.url)).body.endswith(b"}\n")


async def test_absolute_form_does_not_change_the_answer(one: Worker) -> None:
    port = int(one.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    line = f"GET http://elsewhere.example/checkout/{PATH} HTTP/1.1\r\n"
    writer.write(f"{line}Host: localhost\r\nConnection: close\r\n\r\n".encode())
    reply = await reader.read()
    writer.close()

    assert reply.startswith(b"HTTP/1.1 200")


LONG = [
    "/checkout/p99/2025-11-23",
    "/checkout/p99?from=2025-11-23&to=2025-11-24&format=csv",
    f"/checkout/histogram/{PATH[8:]}",
]


@pytest.mark.parametrize("path", LONG)
@pytest.mark.parametrize(("accepted", "coding"), [("gzip, br", "gzip"), ("gzip;q=0", None), ("identity", None)])
async def test_long_answer_comes_packed_to_whoever_accepts_that(
    one: Worker, path: str, accepted: str, coding: str | None
) -> None:
    """From the worker that has the key and from one that has to ask it; with a tag that is known again."""
    one.reader.rows[b"checkout", HOUR] = row(*map(float, range(1, 200)), as_of=END_S + 86_400)
    plain = await ask(one.url, path)
    async with worker(one.url, role=None) as other:
        for each in (one, other):
            reply = await ask(each.url, path, Accept_Encoding=accepted)
            tag = reply.headers["ETag"]
            again = await ask(each.url, path, Accept_Encoding=accepted, If_None_Match=tag)

            assert (gzip.decompress(reply.body) if coding else reply.body) == plain.body
            assert (reply.headers.get("Content-Encoding"), reply.headers["Accept-Ranges"]) == (coding, "none")
            assert reply.headers["Vary"] == "Accept, Accept-Encoding"
            assert tag == ("W/" if coding else "") + plain.headers["ETag"]
            assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)


async def test_short_answers_are_not_packed(one: Worker) -> None:
    reply = await ask(one.url, Accept_Encoding="gzip")
    missing = await ask(one.url, "/nothing/p99/2025-11-23", Accept_Encoding="gzip")

    assert (reply.status, missing.status) == (200, 404)
    assert not [each for each in (reply, missing) if "Content-Encoding" in each.headers]
    assert reply.headers["Vary"] == "Accept"
