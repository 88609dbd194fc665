"""The script of docs/sources.md in a real Chromium, on pages of an allowed and of a foreign origin."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, Route

from tests.browser import CHROMIUM, NO_CHROMIUM, launched
from tests.faults.installation import Installation
from tests.faults.pace import stretched

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM),
]

DOCS = Path(__file__).parents[2] / "docs" / "sources.md"
PATIENCE_S = stretched(30)


def script(collector: str) -> str:
    """That of the docs, for a collector."""
    text = re.search(r"<!-- browser script -->\n```js\n(.+?)```", DOCS.read_text(), re.DOTALL)
    assert text is not None
    return text[1].replace("https://metrics.example.com", collector)


@contextmanager
def pages() -> Iterator[tuple[str, dict[str, str]]]:
    """A web server: its origin, and the page by path, to be filled in."""
    shown: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = shown.get(self.path, "").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", shown
    finally:
        server.shutdown()
        server.server_close()


class Sites(NamedTuple):
    """A worker, and two sites that show the same page."""

    worker: str
    allowed: str
    foreign: str


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    with pages() as (allowed, page), pages() as (foreign, foreign_page):
        settings = {"METRICS_ALLOWED_ORIGINS": f"https://shop.example.com, {allowed}"}
        with Installation(tmp_path_factory.mktemp("browsers"), {"a": "all"}, settings) as installation:
            url = installation.workers["a"].url
            page["/"] = foreign_page["/"] = f"<!doctype html><title>shop</title><script>{script(url)}</script>"
            yield Sites(url, allowed, foreign)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    page = chromium.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    yield page
    page.close()


def counted(sites: Sites, key: str, values: int = 1) -> dict[str, Any]:
    """The answer about a key, as soon as so many of its values are counted or found to be there already."""
    give_up, found = time.monotonic() + PATIENCE_S, {"count": 0, "duplicates": 0}
    while found["count"] + found["duplicates"] < values and time.monotonic() < give_up:
        found = answered(sites, key) or found
        time.sleep(0.1)
    return found


def answered(sites: Sites, key: str) -> dict[str, Any] | None:
    day = time.strftime("%Y-%m-%d", time.gmtime())
    url = f"{sites.worker}/{quote(key, safe='')}/sum/{day}?consistency=strong"
    try:
        with urllib.request.urlopen(url, timeout=20) as reply:
            return dict(json.load(reply))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code not in (404, 503):
            raise
        return None


def test_values_of_an_allowed_page_count_by_fetch_and_the_page_sees_the_reply(sites: Sites, page: Page) -> None:
    page.goto(sites.allowed)
    page.evaluate("record('fetched', 12.5); record('fetched', 20)")
    with page.expect_response("**/samples") as reply:
        page.evaluate("send()")
    assert reply.value.status == 202
    page.wait_for_function("waiting.length === 0")
    found = counted(sites, "fetched", 2)
    assert (found["value"], found["count"], found["duplicates"]) == (32.5, 2, 0)


def test_values_that_wait_when_the_page_is_left_count_by_beacon(sites: Sites, page: Page) -> None:
    page.goto(sites.allowed)
    page.evaluate("for (let i = 1; i <= 500; i++) record('beacon', i)")
    page.goto("about:blank")
    found = counted(sites, "beacon", 500)
    assert (found["value"], found["count"]) == (500 * 501 / 2, 500)


def test_a_batch_whose_reply_was_lost_is_sent_again_and_counts_once(sites: Sites, page: Page) -> None:
    lost: list[int] = []

    def lose_the_reply(route: Route) -> None:
        lost.append(route.fetch().status)
        route.abort()

    page.goto(sites.allowed)
    page.route("**/samples", lose_the_reply, times=1)
    page.evaluate("record('again', 3); record('again', 4)")
    page.evaluate("send()")
    page.wait_for_function("waiting.length === 2")
    assert lost == [202]
    page.evaluate("send()")
    page.wait_for_function("waiting.length === 0")
    found = counted(sites, "again", 4)
    assert (found["value"], found["count"], found["duplicates"]) == (7, 2, 2)


NAMED = """key => fetch(collector + "/samples", {method: "POST", body: JSON.stringify([key, 1]),
    headers: {"Content-Type": "application/json", "Idempotency-Key": "one"}}).then(reply => reply.status, () => 0)"""


def test_a_request_with_headers_is_allowed_after_the_browser_has_asked(sites: Sites, page: Page) -> None:
    page.goto(sites.allowed)
    assert [page.evaluate(NAMED, "named") for _ in range(2)] == [202, 202]
    assert counted(sites, "named", 2)["count"] == 1


# each returns what the page learns: a status, or 0 where it sees an error
SENT_BY_A_FOREIGN_PAGE = {
    "fetch": "key => fetch(collector + '/samples', {method: 'POST', body: JSON.stringify([key, 1])})",
    "no-cors": "key => fetch(collector + '/samples',"
    " {method: 'POST', mode: 'no-cors', body: JSON.stringify([key, 1])})",
    "named": NAMED,
    "beacon": "key => navigator.sendBeacon(collector + '/samples', JSON.stringify([key, 1]))",
    "blob": "key => navigator.sendBeacon(collector + '/samples', new Blob([JSON.stringify([key, 1])],"
    " {type: 'application/x-www-form-urlencoded'}))",
}


def test_nothing_of_a_foreign_page_counts_however_it_is_sent(sites: Sites, page: Page) -> None:
    page.goto(sites.foreign)
    refused: list[int] = []
    page.on("response", lambda reply: refused.append(reply.status) if "/samples" in reply.url else None)
    for way, sending in SENT_BY_A_FOREIGN_PAGE.items():
        page.evaluate(f"key => Promise.resolve(({sending})(key)).catch(() => 0)", f"foreign {way}")
    page.goto(sites.allowed)
    page.evaluate("record('after', 1); send()")
    assert counted(sites, "after")["count"] == 1, "what came before it is in"
    assert [answered(sites, f"foreign {way}") for way in SENT_BY_A_FOREIGN_PAGE] == [None] * 5
    assert set(refused) - {202} == {403}
