"""A plain question gets the same bytes and is counted alike whether it is answered at once or by the views."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from metrics_app.holdings import ACTIVE, RECOVERING, STANDBY, Loss
from tests.fuzz.in_memory import InMemoryWorker
from tests.query.fakes import HOUR, row

DATE = re.compile(rb"Date: [^\r]+")
AT = "2025-11-23/22"
STATS = ("average", "min", "max", "median", "count", "sum", "stddev", "p0", "p90", "p99.9", "p100", "summary")
KEYS = (
    *("many", "GET%20%2Fusers%2F42", "gr%C3%B6%C3%9Fe", "a+b", "%63heckout", "~", ".."),
    *("absent", "gr\u00f6\u00dfe", "%zz", "%ff", "%00", "%7F", "k" * 256, "k" * 257, "a%2"),
)
PATHS = (
    *(f"/checkout/{stat}/{AT}" for stat in STATS),
    *(f"/{key}/p99/{AT}" for key in ("many", "GET%20%2Fusers%2F42", "gr%C3%B6%C3%9Fe", "a+b", "%63heckout", "~", "..")),
    *(
        f"/{key}/p99/{AT}"
        for key in ("absent", "gr\u00f6\u00dfe", "%zz", "%ff", "%00", "%7F", "k" * 256, "k" * 257, "a%2")
    ),
    *(f"/checkout/p99/{at}" for at in ("2025-11-23/0", "2025-11-23/24", "2025-02-30/1", "today/0", "now/1", "x/y")),
    *(
        f"/checkout/{stat}/{AT}"
        for stat in ("under", "compare", "histogram", "p101", "p1.1234", "Average", "%61verage")
    ),
    *(
        f"/checkout/p99/{AT}{rest}"
        for rest in ("?", "?a=1", "?format=csv", "#x", "/", "//", ";a", "?consistency=strong")
    ),
    "/checkout/p99/2025-11-23",
    "/checkout/p99/now",
    "/checkout/p99",
    "//checkout/p99/2025-11-23/22",
    "/api/v1/query/1",
    "/ui/static/x/y",
)
HEADERS = (
    "Accept: text/csv",
    "Accept: text/csv;q=0.5, application/json;q=0.4",
    "Accept-Encoding: gzip",
    "If-None-Match: *",
    "Authorization: Bearer a",
    "Origin: http://a.example",
    "Connection: close",
    "Content-Length: 0",
    "Content-Length: 2",
    "X-Metrics-Hop: 1",
)


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[InMemoryWorker, InMemoryWorker]]:
    """One that answers at once, one that does not."""
    workers = InMemoryWorker(lane=True), InMemoryWorker(lane=False)
    for worker in workers:
        for key in ("checkout", "GET /users/42", "größe", "a+b", "a b", "~", "..", "k" * 256):
            worker.reader.rows[key.encode(), HOUR] = row(1.0, 2.5, 60.0)
        worker.reader.rows[b"many", HOUR] = row(*(1.01**each for each in range(1500)))
    yield workers
    for worker in workers:
        worker.close()


def same(both: tuple[InMemoryWorker, InMemoryWorker], sent: bytes) -> bytes:
    """What both say, which must be the same, as must be what they count; but for the second and for durations."""
    ours, theirs = (DATE.sub(b"Date: x", worker.said(sent)) for worker in both)
    assert ours == theirs, sent
    assert counted(both[0]) == counted(both[1]), sent
    return ours


def counted(worker: InMemoryWorker) -> list[str]:
    names = ("metrics_app_http_requests_total", "metrics_app_query_seconds_count")
    return [
        line
        for line in worker.telemetry.exposition().decode().splitlines()
        if line.startswith(names) and not line.endswith(" 0.0")
    ]


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", *headers)
    return "\r\n".join((*lines, "", "")).encode()


@pytest.mark.parametrize("path", PATHS)
def test_any_path_gets_the_same_answer(both: tuple[InMemoryWorker, InMemoryWorker], path: str):
    assert same(both, get(path))
    assert same(both, get(path, "Accept: text/csv"))
    assert same(both, get(path, method="HEAD")) or path
    same(both, get(path) + get(path))


def test_what_is_compared_is_counted(both: tuple[InMemoryWorker, InMemoryWorker]):
    same(both, get(PATHS[0]))
    assert [line.partition("{")[0] for line in counted(both[0])][-1] == "metrics_app_query_seconds_count"


@pytest.mark.parametrize("header", HEADERS)
def test_any_header_gets_the_same_answer(both: tuple[InMemoryWorker, InMemoryWorker], header: str):
    assert same(both, get(PATHS[0], header))
    assert same(both, get(f"/checkout/summary/{AT}", header))


@pytest.mark.parametrize("role", [ACTIVE, STANDBY, RECOVERING, None])
@pytest.mark.parametrize("stale", [False, True])
def test_whatever_is_held_gets_the_same_answer(
    both: tuple[InMemoryWorker, InMemoryWorker], role: str | None, stale: bool
):
    for worker in both:
        worker.reader.role = role
        worker.reader.rows[b"checkout", HOUR] = row(3.0, role=role or ACTIVE, stale=stale, missing=2, late=1)
    said = same(both, get(f"/checkout/p99/{AT}"))
    for worker in both:
        worker.reader.role = ACTIVE
        worker.reader.rows[b"checkout", HOUR] = row(1.0, 2.5, 60.0)
    assert (b" 200 " in said) == (role is not None)


def test_a_loss_and_an_hour_that_runs_are_told(both: tuple[InMemoryWorker, InMemoryWorker]):
    for worker in both:
        worker.reader.lost = [Loss(HOUR, HOUR + 1, HOUR * 3600.0, 4)]
        worker.reader.rows[b"open", HOUR] = row(3.0, as_of=HOUR * 3600.0 + 5.9)
    said = same(both, get(f"/checkout/p99/{AT}"))
    assert b'"missing":null,"lost_records":4' in said
    for worker in both:
        worker.reader.lost = []
    assert b'"final":false' in same(both, get(f"/open/p99/{AT}"))


def test_what_is_answered_at_once_waits_for_nothing_and_the_rest_is_left_to_the_views(
    both: tuple[InMemoryWorker, InMemoryWorker],
):
    worker, host = both[0], {"Host": "localhost"}
    assert worker.answers is not None
    assert both[1].answers is None
    assert worker.answers.answer(f"/checkout/p99/{AT}", host) is not None
    assert worker.answers.answer(f"/absent/p99/{AT}", host) is None
    assert worker.answers.answer(f"/checkout/p99/{AT}", {"Host": "evil.example"}) is None
    worker.reader.roles = {}
    assert worker.answers.answer(f"/checkout/p99/{AT}", host) is None
    worker.reader.roles = None


def test_with_tokens_no_question_is_answered_at_once():
    worker = InMemoryWorker(guarded=True)
    worker.reader.rows[b"checkout", HOUR] = row(1.0)
    assert worker.answers is not None
    assert worker.answers.answer(f"/checkout/p99/{AT}", {"Host": "localhost"}) is None
    worker.close()
