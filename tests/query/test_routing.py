"""Several workers, some of them out of order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import HealthCheck, given, settings

from metrics_app.errors import OwnerUnavailableError
from metrics_app.holdings import RECOVERING, STANDBY
from metrics_app.http.problems import PROBLEM
from metrics_app.http.proof import HOP
from metrics_app.query.peers import WITHIN, most_bytes
from metrics_app.query.reading import AT_ONCE
from metrics_app.wire.metric_key import key_bytes

from .fakes import (
    HOUR,
    PATH,
    Handler,
    Reply,
    Worker,
    ask,
    black_hole,
    closed_url,
    hanging_peer,
    peer,
    row,
    worker,
)
from .test_views import KEYS, ODD

DEADLINE_S = 1.0
AT_MOST_S = 5 * DEADLINE_S  # a hang would take for ever: generous, for a busy machine


async def timed(url: str, path: str = f"/checkout/{PATH}") -> Reply:
    async with asyncio.timeout(AT_MOST_S):
        return await ask(url, path)


def is_unavailable(reply: Reply) -> bool:
    return (reply.status, reply.headers["Content-Type"]) == (503, PROBLEM) and int(reply.headers["Retry-After"]) > 0


def always(**response: object) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(**response)  # type: ignore[arg-type]

    return handler


# who answers


async def test_owner_answers_itself_whatever_the_map_says() -> None:
    async with hanging_peer() as hanging, worker(hanging, found=row(4.0)) as owner:
        assert (await timed(owner.url)).json["value"] == 4.0
        assert owner.forwards() == {}


async def test_any_worker_answers_with_the_owners_bytes_and_headers() -> None:
    async with worker(found=row()) as owner, worker(owner.url, role=None) as other:
        direct, through = await ask(owner.url), await ask(other.url)

    assert (200, direct.body) == (through.status, through.body)
    for name in ("Content-Type", "Content-Length", "ETag", "Cache-Control", "X-Metrics-Role"):
        assert direct.headers[name] == through.headers[name]
    assert other.forwards() == {"answered": 1}


async def test_the_time_of_an_answer_is_measured_for_the_client_once_however_many_workers_gave_it() -> None:
    def measured(asked: Worker) -> dict[str, float]:
        (metric,) = asked.telemetry.query_latency.collect()
        return {each.labels["asker"]: each.value for each in metric.samples if each.name.endswith("_count")}

    async with worker(found=row()) as owner, worker(owner.url, role=None) as other:
        await ask(other.url)
        assert (measured(other), measured(owner)) == ({"client": 1}, {"worker": 1})


async def test_no_data_at_the_owner_is_no_data_here() -> None:
    async with worker() as owner, worker(owner.url, role=None) as other:
        direct, through = await ask(owner.url), await ask(other.url)

    assert (404, direct.body) == (through.status, through.body)


async def test_known_tag_is_304_through_another_worker() -> None:
    async with worker(found=row()) as owner, worker(owner.url, role=None) as other:
        tag = (await ask(owner.url)).headers["ETag"]
        reply = await ask(other.url, If_None_Match=tag)

    assert (304, b"", tag) == (reply.status, reply.body, reply.headers["ETag"])


async def test_head_through_another_worker_has_the_headers_of_get() -> None:
    async with worker(found=row()) as owner, worker(owner.url, role=None) as other:
        got, head = await ask(other.url), await ask(other.url, method="HEAD")

    assert (head.status, head.body) == (200, b"")
    assert got.headers["Content-Length"] == head.headers["Content-Length"]


async def test_standby_asks_the_owner_first() -> None:
    async with (
        worker(found=row(4.0)) as owner,
        worker(owner.url, found=row(1.0, role=STANDBY), role=STANDBY) as standby,
    ):
        assert (await ask(standby.url)).json["value"] == 4.0


async def test_standby_answers_marked_stale_when_the_owner_does_not() -> None:
    async with worker(closed_url(), found=row(1.0, role=STANDBY), role=STANDBY) as standby:
        reply = await timed(standby.url)

    assert tuple(reply.json[name] for name in ("value", "stale", "role")) == (1.0, True, STANDBY)
    assert reply.headers["Cache-Control"] == "no-store"


async def test_standby_elsewhere_is_asked_after_the_owner() -> None:
    async with (
        worker(found=row(1.0, role=STANDBY), role=STANDBY) as standby,
        worker(closed_url(), standby.url, role=None) as other,
    ):
        reply = await timed(other.url)

    assert (reply.json["value"], reply.json["stale"], reply.headers["X-Metrics-Role"]) == (1.0, True, STANDBY)
    assert other.forwards() == {"unreachable": 1, "answered": 1}


async def test_standby_without_the_row_never_says_no_data() -> None:
    async with worker(closed_url(), role=STANDBY) as standby:
        assert is_unavailable(await timed(standby.url))


async def test_nobody_known_is_503_and_not_404() -> None:
    async with worker(role=None) as alone:
        assert is_unavailable(await timed(alone.url))


async def test_partition_that_moved_between_look_up_and_read_is_asked_for_elsewhere() -> None:
    async with worker(found=row(4.0)) as owner, worker(owner.url, found=row(1.0)) as former:
        former.reader.moved = True
        assert (await timed(former.url)).json["value"] == 4.0


async def test_worker_that_is_on_the_map_twice_is_asked_once() -> None:
    async with worker(role=None) as former, worker(former.url, former.url, role=None) as other:
        assert is_unavailable(await timed(other.url))
        assert other.forwards() == {"refused": 1}


async def test_member_that_is_not_on_the_map_of_the_partition_is_asked_in_the_end() -> None:
    async with worker(found=row(4.0)) as new_owner, worker(role=None) as bystander, worker(role=None) as other:
        other.owners.others = [bystander.url, other.url, new_owner.url]
        assert (await timed(other.url)).json["value"] == 4.0
        assert other.forwards()["answered"] == 1


async def test_copy_that_catches_up_answers_only_when_nobody_else_does() -> None:
    behind = row(1.0, role=RECOVERING, stale=True)
    async with worker(found=behind, role=RECOVERING) as recovering:
        async with (
            worker(found=row(2.0, role=STANDBY), role=STANDBY) as standby,
            worker(recovering.url, standby.url, role=None) as other,
        ):
            assert (await timed(other.url)).json["value"] == 2.0
        async with worker(recovering.url, closed_url(), role=None) as other:
            reply = await timed(other.url)
            assert tuple(reply.json[name] for name in ("value", "stale", "role")) == (1.0, True, RECOVERING)
        assert (await timed(recovering.url)).json["value"] == 1.0


# strong answers


async def test_strong_question_is_answered_by_the_owner_or_not_at_all() -> None:
    strong = f"/checkout/{PATH}?consistency=strong"
    async with worker(found=row(4.0)) as owner, worker(found=row(1.0, role=STANDBY), role=STANDBY) as standby:
        async with worker(standby.url, owner.url, role=None) as other:
            assert (await timed(other.url, strong)).json["value"] == 4.0
            assert (await timed(other.url, strong.replace("strong", "any"))).json["value"] == 1.0
        async with worker(standby.url, closed_url(), role=None) as other:
            assert is_unavailable(await timed(other.url, strong))
        assert is_unavailable(await timed(standby.url, strong))


async def test_owner_that_is_none_any_more_when_it_has_read_gives_no_strong_answer() -> None:
    """It was the owner when the question came; the question waited, and the partition moved meanwhile."""
    month = "/checkout/average?from=2025-11-01&to=2025-11-30"
    async with worker(found=row(4.0)) as owner:
        for _ in range(AT_ONCE):
            await owner.long_questions.free.acquire()
        asking = asyncio.create_task(timed(owner.url, f"{month}&consistency=strong"))
        usual = asyncio.create_task(timed(owner.url, month))
        while owner.long_questions.waiting < 2:  # noqa: ASYNC110  # a semaphore tells nobody of its waiters
            await asyncio.sleep(0.01)
        owner.reader.role = STANDBY
        for _ in range(AT_ONCE):
            owner.long_questions.free.release()

        assert is_unavailable(await asking)
        reply = await usual
        assert (reply.json["role"], reply.headers["X-Metrics-Role"]) == (STANDBY, STANDBY)


async def test_copy_that_catches_up_gives_no_strong_answer() -> None:
    async with worker(found=row(1.0, role=RECOVERING), role=RECOVERING) as recovering:
        assert is_unavailable(await timed(recovering.url, f"/checkout/{PATH}?consistency=strong"))


async def test_consistency_that_there_is_not_is_named() -> None:
    async with worker(found=row(4.0)) as owner:
        reply = await timed(owner.url, f"/checkout/{PATH}?consistency=eventual")
        assert (reply.status, reply.json["part"], reply.json["expected"]) == (400, "consistency", "any or strong")


# what is being recovered


async def test_refusal_says_how_far_the_owner_has_come() -> None:
    progress = {"partition": 3, "done": 500, "total": 2000, "eta_s": 6.2}
    refusal = {"detail": "not yet", "recovering": [progress]}

    async def recovering(request: web.Request) -> web.StreamResponse:
        return web.json_response(refusal, status=503, content_type=PROBLEM)

    async with peer(recovering) as owner, worker(owner, role=None) as other:
        reply = await timed(other.url)

    assert is_unavailable(reply)
    assert (reply.json["recovering"], reply.headers["Retry-After"]) == ([progress], "7")
    assert "500 of 2,000 records (25%), about 6 s to go" in reply.json["detail"]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"recovering": 1}', b'{"recovering": [{"partition": "x"}]}', b"\xff"])
async def test_refusal_that_cannot_be_read_is_a_refusal(body: bytes) -> None:
    async with peer(always(status=503, body=body, content_type=PROBLEM)) as owner, worker(owner, role=None) as other:
        assert is_unavailable(await timed(other.url))
        assert other.forwards() == {"refused": 1}


# all members


async def gathered(asked: Worker, local: str = "here", **headers: str) -> dict[str, str | None]:
    """What the workers said, by URL, to a question about all partitions that a worker was asked."""
    request = make_mocked_request("GET", "/keys?prefix=a", headers=headers)

    async def here() -> web.Response:
        if not local:
            raise OwnerUnavailableError("nothing is held here")
        return web.Response(text=local, headers={"X-Metrics-Role": "active"})

    return {
        url: None if reply is None else reply.text for url, reply in (await asked.router.gather(request, here)).items()
    }


async def test_every_member_is_asked_and_a_dead_one_is_told_of() -> None:
    async def there(request: web.Request) -> web.StreamResponse:
        return web.Response(text=f"there {request.raw_path}", headers={"X-Metrics-Role": "active"})

    closed = closed_url()
    async with peer(there) as another, worker(another, closed) as asked:
        asked.owners.others = [asked.url]
        assert await gathered(asked) == {asked.url: "here", another: "there /keys?prefix=a", closed: None}
        assert await gathered(asked, local="") == {asked.url: None, another: "there /keys?prefix=a", closed: None}
        assert await gathered(asked, **{HOP: "1"}) == {asked.url: "here"}


# one hop


async def test_forwarded_request_is_never_forwarded_again() -> None:
    async with worker(role=None) as first, worker(first.url, role=None) as second:
        first.owners.known.append(second.url)
        reply = await timed(first.url)

        assert is_unavailable(reply)
        assert first.forwards() == {"refused": 1}
        assert second.forwards() == {}


async def test_request_with_the_hop_header_is_answered_by_a_standby_or_refused() -> None:
    async with worker(found=row(4.0)) as owner:
        async with worker(owner.url, found=row(1.0, role=STANDBY), role=STANDBY) as standby:
            assert (await ask(standby.url, X_Metrics_Hop="1")).json["value"] == 1.0
        async with worker(owner.url, role=None) as other:
            assert is_unavailable(await ask(other.url, X_Metrics_Hop="1"))


async def test_worker_that_is_its_own_only_owner_on_the_map_does_not_ask_itself() -> None:
    async with worker(role=None) as lost:
        lost.owners.known.append(lost.url)

        assert is_unavailable(await timed(lost.url))
        assert lost.forwards() == {}


async def test_hop_without_the_token_is_an_ordinary_question() -> None:
    standby = row(1.0, role=STANDBY)
    async with (
        worker(found=row(4.0), cluster_token="t") as owner,
        worker(owner.url, found=standby, role=STANDBY, cluster_token="t") as asked,
    ):
        assert (await ask(asked.url, X_Metrics_Hop="1")).json["value"] == 4.0
        assert (await ask(asked.url, X_Metrics_Hop="1", X_Metrics_Token="T")).json["value"] == 4.0
        assert (await ask(asked.url, X_Metrics_Hop="1", X_Metrics_Token="t")).json["value"] == 1.0


async def test_workers_with_different_tokens_do_not_play_ping_pong() -> None:
    async with (
        worker(role=None, cluster_token="new") as first,
        worker(first.url, role=None, cluster_token="old") as second,
    ):
        first.owners.known.append(second.url)
        assert is_unavailable(await timed(first.url))
        assert (first.forwards(), second.forwards()) == ({"unusable": 1}, {"unusable": 1})


# peers out of order


async def test_silent_owner_leaves_time_for_the_standby() -> None:
    async with (
        hanging_peer() as silent,
        worker(found=row(1.0, role=STANDBY), role=STANDBY) as standby,
        worker(silent, standby.url, role=None, query_deadline_s=DEADLINE_S) as other,
    ):
        assert (await timed(other.url)).json["value"] == 1.0
        assert other.forwards() == {"timeout": 1, "answered": 1}


async def test_question_that_waits_here_leaves_time_for_others_and_none_of_them_counts_as_failing() -> None:
    """A month is asked for while two others are being read."""
    month = "/checkout/average?from=2025-11-01&to=2025-11-30"
    async with (
        worker(found=row(1.0, role=STANDBY), role=STANDBY) as standby,
        worker(standby.url, found=row(4.0), query_deadline_s=3 * DEADLINE_S) as owner,
    ):
        for _ in range(AT_ONCE):
            await owner.long_questions.free.acquire()
        reply = await timed(owner.url, month)

        assert (reply.status, reply.json["value"], reply.json["role"]) == (200, 1.0, STANDBY)
        assert owner.forwards() == {"answered": 1}


async def test_worker_where_a_question_waits_says_so_in_time_and_does_not_count_as_failing() -> None:
    month = "/checkout/average?from=2025-11-01&to=2025-11-30"
    async with (
        worker(found=row(4.0), query_deadline_s=60) as busy,
        worker(busy.url, role=None, query_deadline_s=DEADLINE_S) as asked,
    ):
        for _ in range(AT_ONCE):
            await busy.long_questions.free.acquire()

        assert is_unavailable(await timed(asked.url, month))
        assert asked.forwards() == {"refused": 1}
        assert not asked.router.peers.is_avoided(busy.url)


@pytest.mark.parametrize(
    ("given", "taken"), [("2", 1.8), ("99", 5.0), ("0", 5.0), ("-1", 5.0), ("nan", 5.0), ("x", 5.0)]
)
async def test_time_given_by_another_worker_is_taken_where_it_is_less(given: str, taken: float) -> None:
    async with worker() as one:
        request = make_mocked_request("GET", "/", headers={WITHIN: given})
        assert one.router.peers.time_for(request, 5.0) == pytest.approx(taken)


async def test_long_answer_is_forwarded_whole() -> None:
    long = bytes(12 << 20)
    holder = always(body=long, headers={"X-Metrics-Role": "active"})
    async with peer(holder) as owner, worker(owner, role=None) as other:
        assert (await timed(other.url)).body == long


async def test_only_silent_peers_are_a_503_in_time() -> None:
    async with (
        hanging_peer() as silent,
        hanging_peer() as mute,
        worker(silent, mute, role=None, query_deadline_s=DEADLINE_S) as other,
    ):
        assert is_unavailable(await timed(other.url))


async def test_peer_that_does_not_accept_costs_the_connect_timeout_only() -> None:
    async with (
        black_hole() as hole,
        worker(found=row(1.0)) as standby,
        worker(hole, standby.url, role=None, query_deadline_s=60, connect_timeout_s=0.1) as other,
    ):
        assert (await timed(other.url)).json["value"] == 1.0
        assert other.forwards() == {"unreachable": 1, "answered": 1}


async def test_body_that_trickles_does_not_hold_the_answer_up() -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"X-Metrics-Role": "active"})
        await reply.prepare(request)
        while True:
            await reply.write(b" ")
            await asyncio.sleep(0.05)

    async with (
        peer(trickle) as slow,
        worker(found=row(1.0)) as standby,
        worker(slow, standby.url, role=None, query_deadline_s=DEADLINE_S) as other,
    ):
        assert (await timed(other.url)).json["value"] == 1.0


@pytest.mark.parametrize(
    "reply",
    [
        {"status": 503},
        {"status": 502},
        {"status": 500, "headers": {"X-Metrics-Role": "active"}},
        {"status": 404, "text": "not one of ours"},
        {"status": 200, "text": "<html>"},
        {"status": 200, "body": b"\x1f\x8b", "headers": {"X-Metrics-Role": "active", "Content-Encoding": "gzip"}},
        {"status": 200, "body": bytes(most_bytes(1000) + 1), "headers": {"X-Metrics-Role": "active"}},
    ],
    ids=["503", "502", "500", "foreign-404", "foreign-200", "encoded", "endless"],
)
async def test_reply_that_is_no_answer_is_asked_for_elsewhere(reply: dict[str, object]) -> None:
    async with peer(always(**reply)) as liar, worker(found=row(1.0)) as standby:
        async with worker(liar, standby.url, role=None) as other:
            assert (await timed(other.url)).json["value"] == 1.0
        async with worker(liar, role=None) as other:
            assert is_unavailable(await timed(other.url))


async def test_peer_that_hangs_up_is_asked_for_elsewhere() -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with (
        peer(hang_up) as broken,
        worker(found=row(1.0)) as standby,
        worker(broken, standby.url, role=None) as other,
    ):
        for _ in range(2):
            assert (await timed(other.url)).json["value"] == 1.0
        assert other.forwards() == {"broken": 1, "answered": 2}


async def test_redirect_is_not_followed() -> None:
    visits = []

    async def trap(request: web.Request) -> web.StreamResponse:
        visits.append(request.raw_path)
        return web.Response(headers={"X-Metrics-Role": "active"})

    async with peer(trap) as elsewhere:
        moved = always(status=302, headers={"Location": elsewhere, "X-Metrics-Role": "active"})
        async with peer(moved) as redirecting, worker(redirecting, role=None) as other:
            assert is_unavailable(await timed(other.url))
    assert visits == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "127.0.0.1:1", "ftp://127.0.0.1", "", "http://"])
async def test_unusable_url_of_an_owner_is_passed_over(url: str) -> None:
    async with worker(found=row(1.0)) as standby, worker(url, standby.url, role=None) as other:
        assert (await timed(other.url)).json["value"] == 1.0


async def test_peer_that_cannot_be_reached_is_asked_last_for_a_while() -> None:
    closed = closed_url()
    async with worker(found=row(1.0)) as standby, worker(closed, standby.url, role=None) as other:
        for _ in range(3):
            assert (await timed(other.url)).status == 200
        assert other.forwards() == {"unreachable": 1, "answered": 3}

        standby.reader.role = None
        assert is_unavailable(await timed(other.url))
        assert other.forwards() == {"unreachable": 2, "answered": 3, "refused": 1}


async def test_silent_worker_holds_up_one_question_at_a_time() -> None:
    """When its time is over one question finds out whether it answers again; the others do not wait for that."""
    async with (
        hanging_peer() as silent,
        worker(found=row(1.0)) as standby,
        worker(silent, standby.url, role=None, query_deadline_s=2 * DEADLINE_S) as other,
    ):
        await timed(other.url)
        other.router.peers.avoided[silent] = 0.0
        replies = await asyncio.gather(*(timed(other.url) for _ in range(20)))
        assert {reply.status for reply in replies} == {200}
        assert other.forwards() == {"timeout": 2, "answered": 21}


async def test_worker_that_answers_again_is_asked_first_again() -> None:
    async with (
        worker(found=row(4.0)) as owner,
        worker(found=row(1.0)) as standby,
        worker(owner.url, standby.url, role=None) as other,
    ):
        other.router.peers.avoided[owner.url] = float("inf")
        assert (await timed(other.url)).json["value"] == 1.0
        other.router.peers.avoided[owner.url] = 0.0
        for _ in range(2):
            assert (await timed(other.url)).json["value"] == 4.0


# what is passed on


async def test_path_and_query_arrive_as_they_were_sent() -> None:
    seen = []

    async def record(request: web.Request) -> web.StreamResponse:
        seen.append(request.raw_path)
        return web.Response(headers={"X-Metrics-Role": "active"})

    paths = [f"/{key}/{PATH}{query}" for key in ("..", "%2e%2E", "a%2fb", "%25", "a+b", "%C3%a9", "{x}", "a|b", "@h:1")
             for query in ("", "?format=%6Ason&", "?f%6Frmat=json")]  # fmt: skip
    async with peer(record) as owner, worker(owner, role=None) as other:
        for path in paths:
            await ask(other.url, path)

    assert paths == seen


async def test_only_listed_request_headers_are_passed_on() -> None:
    seen: list[dict[str, str]] = []

    async def record(request: web.Request) -> web.StreamResponse:
        seen.append({name.title(): value for name, value in request.headers.items()})
        return web.Response(headers={"X-Metrics-Role": "active"})

    async with peer(record) as owner, worker(owner, role=None) as other:
        await ask(other.url, Cookie="a=b", Authorization="secret", X_Forwarded_For="::1", Accept="text/csv",
                  If_None_Match='"x"', Content_Length="0", Range="bytes=0-1")  # fmt: skip

    host = owner.removeprefix("http://")
    expected = {"Accept": "text/csv", "If-None-Match": '"x"', HOP: "1", "Accept-Encoding": "identity", "Host": host}
    assert float(seen[0].pop(WITHIN)) > 0
    assert [expected] == seen


async def test_only_listed_response_headers_are_passed_back() -> None:
    headers = {
        "X-Metrics-Role": "active", "X-Metrics-Lag": "3", "X-Metrics-Token": "t", "X-Metrics-Hop": "1",
        "ETag": '"x"', "Last-Modified": "now", "Set-Cookie": "a=b",
        "Server": "liar", "Location": "/", "X-Secret": "1", "Access-Control-Allow-Origin": "*", "Connection": "close",
    }  # fmt: skip
    async with peer(always(body=b"x", headers=headers)) as owner, worker(owner, role=None) as other:
        reply = await ask(other.url)

    names = {name.lower() for name in reply.headers}
    assert {"x-metrics-role", "x-metrics-lag", "etag", "last-modified"} <= names
    assert (
        not {"x-metrics-token", "x-metrics-hop", "set-cookie", "location", "x-secret", "access-control-allow-origin"}
        & names
    )
    assert "liar" not in reply.headers["Server"]


@pytest.fixture
async def two() -> AsyncIterator[tuple[Worker, Worker]]:
    async with worker() as owner, worker(owner.url, role=None) as other:
        yield owner, other


@given(KEYS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_key_arrives_at_the_owner(two: tuple[Worker, Worker], key: str) -> None:
    """Through another worker, percent-encoded, the row of these very bytes answers."""
    owner, other = two
    owner.reader.rows = {(key_bytes(key), HOUR): row(4.0)}
    reply = await ask(other.url, f"/{quote(key, safe='')}/{PATH}")

    assert (200, key, 4.0) == (reply.status, reply.json["key"], reply.json["value"])


@pytest.mark.parametrize("key", ODD)
async def test_odd_key_arrives_at_the_owner(two: tuple[Worker, Worker], key: str) -> None:
    owner, other = two
    owner.reader.rows = {(key_bytes(key), HOUR): row(4.0)}

    assert key == (await ask(other.url, f"/{quote(key, safe='')}/{PATH}")).json["key"]
