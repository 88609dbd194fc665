"""Every example of docs/queries.md, run against a real service; and a look at all of it over two workers."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from metrics_app.broker.ports import free_port
from tests.faults.process import Process

PAGE = Path(__file__).parents[2] / "docs" / "queries.md"
URL = "http://127.0.0.1:8080"
EXAMPLE = re.compile(r"^    \$ (curl .*)\n((?:    .*\n)+)", re.MULTILINE)
EXAMPLES = [(match[1], match[2]) for match in EXAMPLE.finditer(PAGE.read_text())]

TODAY = datetime.now(UTC).date()
DAYS = {f"2026-11-{22 + by}": (TODAY + timedelta(days=by - 2)).isoformat() for by in (0, 1)}
COUNTED_WITHIN_S = 30.0

pytestmark = pytest.mark.kafka


def dated(text: str) -> str:
    """The page's days are long past; yesterday and the day before stand in for them, and this year for the range."""
    for day, recent in DAYS.items():
        text = text.replace(day, recent)
    return text


def hour(day: str, of_day: int) -> int:
    return int(datetime.fromisoformat(f"{dated(day)}T{of_day:02}:00+00:00").timestamp()) // 3600


def curl(command: str) -> str:
    """What curl would print, of its options those that the page uses; a machine that runs tests need not have it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-I", action="store_true")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d", type=str.encode)
    parser.add_argument("url")
    given = parser.parse_args(shlex.split(command)[1:])
    headers = dict(each.split(": ", 1) for each in given.H)
    asked = urllib.request.Request(given.url, given.d, headers, method="HEAD" if given.I else None)
    try:
        reply = urllib.request.urlopen(asked, timeout=20)
    except urllib.error.HTTPError as error:
        reply = error
    with reply:
        head = f"HTTP/1.1 {reply.status} {reply.reason}\n{reply.headers}" if given.I else ""
        return head + str(reply.read().decode())


@pytest.fixture(scope="module")
def workers(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Base URLs of two workers that hold what the page says."""
    folder, name = tmp_path_factory.mktemp("documented"), f"documented-{time.time_ns()}"
    environment = {"METRICS_KAFKA": kafka.bootstrap, "METRICS_NAME": name, "METRICS_SAMPLES_TOPIC": name}
    environment |= {"METRICS_DEAD_LETTER_TOPIC": f"{name}-dead", "METRICS_QUERY_DEADLINE_S": "10"}
    both = []
    for role in ("all", "aggregator"):
        port, data = free_port(), folder / role
        arguments = [role, "--port", str(port), "--data-dir", str(data)]
        both.append(Process(role, arguments, port, folder, environment))
    try:
        for each in both:
            each.start()
        for each in both:
            each.await_ready()
        record(both[0].url)
        yield [each.url for each in both]
    finally:
        for each in both:
            each.end()


def record(url: str) -> None:
    values = {
        ("2026-11-23", 22): [float(number) for number in range(1, 1001)],
        ("2026-11-23", 21): [float(number) for number in range(1, 501)],
        ("2026-11-22", 22): [number * 0.8 for number in range(1, 1001)],
    }
    series: list[dict[str, Any]] = [
        {"key": "checkout", "hour": hour(*at), "first": 0, "values": each} for at, each in values.items()
    ]
    series.append({"key": "search", "hour": hour("2026-11-23", 22), "first": 0, "values": [5.0, 7.0]})
    body = {"sender": "0b9ff3f6-0a57-4f0e-8f04-5f3f0d8f6a11", "series": series}
    told = json.loads(curl(f"curl -d {shlex.quote(json.dumps(body))} {url}/samples"))
    assert told == {"accepted": 2502, "rejected": []}
    ends = time.monotonic() + COUNTED_WITHIN_S
    paths = [
        f"/{each['key']}/count/{dated(day)}"
        for day in DAYS
        for each in series
        if each["hour"] // 24 == hour(day, 0) // 24
    ]
    while not all(is_counted(json.loads(curl(f"curl {url}{path}"))) for path in paths):
        assert time.monotonic() < ends, "what was accepted is not counted"
        time.sleep(0.2)


def is_counted(answer: dict[str, Any]) -> bool:
    return bool(answer.get("final") and not answer["stale"])


def test_the_page_has_an_example_of_each_question():
    asked = " ".join(command for command, _ in EXAMPLES)
    for word in (
        "/p95/2026-11-23/22",
        "/p95/2026-11-23",
        "from=",
        "/under/",
        "/compare/",
        "/histogram/",
        "/keys",
        "text/csv",
        "-sI",
    ):
        assert word in asked


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[command for command, _ in EXAMPLES])
def test_example_of_the_page_gives_what_is_shown(workers, command, shown):
    """Piece by piece where the page leaves something out."""
    for url in workers:
        got, at = flat(curl(dated(command).replace(URL, url))), 0
        for piece in flat(dated(shown)).split("..."):
            found = got.find(piece, at)
            assert found >= 0, f"{piece!r} is not in {got[at:]!r}"
            at = found + len(piece)


def flat(text: str) -> str:
    """Without breaks and indents, which the page has for its readers; in one case, for names of headers have none."""
    return "".join(line.strip() for line in text.splitlines()).lower()


def test_example_that_leaves_nothing_out_is_the_whole_answer(workers):
    command, shown = next(each for each in EXAMPLES if "/keys" in each[0])

    assert json.loads(curl(dated(command).replace(URL, workers[1]))) == json.loads(dated(shown))


def test_every_statistic_of_the_three_hours_is_right_from_every_worker(workers):
    for url in workers:
        summary = json.loads(curl(f"curl {url}/checkout/summary/{dated('2026-11-23')}"))
        assert summary["values"]["count"] == 1500
        assert summary["values"]["sum"] == 1000 * 1001 / 2 + 500 * 501 / 2
        assert [each["count"] for each in summary["hours"]] == [*[0] * 21, 500, 1000, 0]
        assert json.loads(curl(f"curl {url}/keys?date={dated('2026-11-23')}"))["keys"] == ["checkout", "search"]
