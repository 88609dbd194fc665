"""The page in a real Chromium, on a real worker and a real Kafka: what a reader finds, by mouse and by keyboard."""

from __future__ import annotations

import asyncio
import json
import os
import struct
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote_plus
from xml.etree import ElementTree

import pytest
from aiokafka import AIOKafkaProducer
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from metrics_app.aggregator.dead_letters import headers_of
from metrics_app.http.tokens import new_token
from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk
from tests.faults.installation import Installation

from .conftest import IN_CHROMIUM
from .sent import FAST, HOSTILE, HOUR_S, SLOW

pytestmark = IN_CHROMIUM


def test_a_reader_finds_the_slowest_key_and_since_when_it_is_slow_and_copies_the_curl(
    url: str, page: Page, chromium: Browser
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(url)
    first = page.locator("#table tbody tr").first
    expect(first.locator("td").first).to_have_text(SLOW)
    expect(first).to_contain_text("slower")
    expect(first.locator("svg.spark")).to_be_visible()
    first.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(SLOW)
    expect(page.locator("#bands canvas")).to_be_visible()
    expect(page.locator("#shape canvas")).to_be_visible()
    expect(page.locator("#verdict")).to_contain_text("Slower than the same hour of the day before")
    expect(page.locator("#share")).to_contain_text("% of the values")
    page.locator("#curl").click()
    expect(page.locator("#curl")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(f"curl '{url}/search%20GET%20%2Fsearch/summary?from=")
    with urllib.request.urlopen(copied.removeprefix("curl '").removesuffix("'"), timeout=20) as reply:
        assert json.load(reply)["key"] == SLOW


def test_two_hours_lie_on_top_of_each_other_and_the_address_keeps_which(url: str, page: Page) -> None:
    page.goto(f"{url}/ui/key?key={quote_plus(SLOW)}")
    expect(page.locator("#both canvas")).to_be_visible()
    other = datetime.now(UTC) - timedelta(hours=3)
    page.get_by_label("Compare with (UTC)").fill(f"{other:%Y-%m-%d}")
    page.locator("#against select").select_option(str(other.hour))
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("#verdict")).to_contain_text(f"{other:%Y-%m-%d %H}:00 UTC")
    assert f"with={other:%Y-%m-%d}%2F{other.hour}" in page.url
    page.reload()
    expect(page.locator("#verdict")).to_contain_text(f"{other:%Y-%m-%d %H}:00 UTC")
    expect(page.locator("#both .u-legend")).to_contain_text(f"{other:%Y-%m-%d %H}:00 UTC")
    shares = page.evaluate("drawn.get('both').data.slice(1).map((each) => each.reduce((sum, one) => sum + one, 0))")
    assert shares == pytest.approx([100, 100])
    page.get_by_role("button", name="The day before").click()
    expect(page.locator("#verdict")).to_contain_text("the same hour of the day before")
    assert "with=" not in page.url


def test_an_hour_of_the_day_before_without_values_is_said_and_has_no_plot(url: str, page: Page) -> None:
    page.goto(f"{url}/ui/key?key={quote_plus(HOSTILE[0])}&with=..%2F..%2Fkeys")  # what is no hour is not asked for
    expect(page.locator("#verdict")).to_have_text("Nothing was recorded in the same hour of the day before.")
    expect(page.locator("#both")).to_be_hidden()


@pytest.mark.parametrize(
    ("plot", "marks"), [("bands", "circle"), ("shape", "rect"), ("both", "path"), ("heat", "rect")]
)
def test_a_plot_is_saved_as_svg_and_as_png(url: str, page: Page, plot: str, marks: str) -> None:
    page.goto(f"{url}/ui/key?key={quote_plus(SLOW)}")
    expect(page.locator("#both canvas")).to_be_visible()
    with page.expect_download() as saved:
        page.locator(f'.save[data-plot="{plot}"][data-kind="png"]').click()
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")
    with page.expect_download() as saved:
        page.locator(f'.save[data-plot="{plot}"][data-kind="svg"]').click()
    assert saved.value.suggested_filename.endswith(".svg")
    drawing = ElementTree.fromstring(saved.value.path().read_bytes())
    name = "{http://www.w3.org/2000/svg}"
    assert SLOW in (drawing.findtext(f"{name}title") or "").replace("-", " ")
    inside = drawing if plot == "heat" else drawing.find(f"{name}svg")
    assert inside is not None
    assert len(inside.findall(f"{name}{marks}")) > 1
    assert [each.text for each in drawing.iter(f"{name}text") if any(map(str.isdigit, each.text or ""))]
    assert "NaN" not in saved.value.path().read_text()


def test_hostile_names_are_texts_everywhere(url: str, page: Page) -> None:
    page.goto(f"{url}/?sort=count")
    names = page.locator("#table tbody td:first-child")
    expect(names).to_have_count(len(HOSTILE) + 5)
    assert set(names.all_text_contents()) > {SLOW, FAST, *HOSTILE}
    for key in HOSTILE:
        page.goto(f"{url}/ui/key?key={quote_plus(key)}")
        expect(page.get_by_role("heading", level=1)).to_have_text(key)
        said = ("#state", "No browser can ask") if key == ".." else ("#hour-said", "1 values, exact")
        expect(page.locator(said[0])).to_contain_text(said[1])


def test_what_is_chosen_is_in_the_address_and_comes_back_with_it(url: str, page: Page) -> None:
    page.goto(url)
    page.get_by_label("Contains").fill("shop GET /orders")
    page.keyboard.press("Enter")
    expect(page.locator("#table tbody tr")).to_have_count(1)
    assert "contains=shop+GET" in page.url
    page.reload()
    expect(page.locator("#table tbody tr")).to_have_count(1)
    page.get_by_label("Contains").fill("no such key")
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("No key has values then.")
    page.go_back()
    expect(page.locator("#table tbody tr")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", f"/ui/key?key={quote_plus(SLOW)}", "/ui/system"])
def test_it_can_be_read_by_everybody_in_light_and_dark(url: str, page: Page, path: str, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(url + path)
    expect(page.locator("table tbody tr").first).to_be_visible()
    found = Axe().run(page)
    serious = [each for each in found.response["violations"] if each["impact"] in ("serious", "critical")]
    assert serious == [], found.generate_report()


def test_the_system_page_says_how_the_whole_group_is(url: str, page: Page) -> None:
    page.goto(f"{url}/ui/system")
    expect(page.locator("#state")).to_have_text("1 worker answers. Nothing is wrong.")
    workers = page.locator("#workers tbody tr")
    expect(workers).to_have_count(1)
    expect(workers.first).to_contain_text(url)
    for line in (partitions := page.locator("#partitions tbody tr")).all():
        expect(line).to_contain_text(url)
    expect(partitions.first.locator("td").nth(3)).to_have_text("0")
    with urllib.request.urlopen(f"{url}/system", timeout=20) as reply:
        told = json.load(reply)
    expect(partitions).to_have_count(len(told["partitions"]))
    accepted = page.locator("#flow tr").filter(has_text="accepted").locator("td")
    expect(accepted.nth(1)).to_have_text(f"{told['totals']['accepted_values']:,.0f}")
    expect(accepted.nth(2)).to_have_text("0")
    expect(page.locator("#forecast")).not_to_be_empty()
    expect(page.locator("#capacity tbody tr")).to_have_count(1)


def test_the_system_page_says_first_what_is_wrong(url: str, page: Page) -> None:
    """A worker of the group that is away, one that recovers, and a reason that is hostile."""
    with urllib.request.urlopen(f"{url}/system", timeout=20) as reply:
        told = json.load(reply)
    told["wrong"] = [f"http://b does not answer {HOSTILE[0]}"]
    told["partitions"][0] |= {"owner": None, "lag": None}
    told["partitions"][1]["recovering"] = {"partition": 1, "done": 250, "total": 1000, "eta_s": 125.0}
    told["by"]["rejected_values"] = {HOSTILE[1]: 7.0, "key": 0.0}
    page.route(
        "**/system", lambda route: route.fulfill(json=told) if "/ui/" not in route.request.url else route.continue_()
    )
    page.goto(f"{url}/ui/system")
    expect(page.locator("#state")).to_contain_text("To be looked at: 1.")
    expect(page.locator("#wrong li")).to_have_text(told["wrong"])
    lines = page.locator("#partitions tbody tr")
    expect(lines.nth(0)).to_contain_text("nobody")
    expect(lines.nth(0)).to_contain_text("unknown")
    expect(lines.nth(1)).to_contain_text("250 of 1,000 records (25 %), about 2 min to go")
    expect(page.locator("#reasons tbody tr")).to_have_count(1)
    expect(page.locator("#reasons tbody td").nth(1)).to_have_text(HOSTILE[1])


def test_dead_letters_are_shown_and_replayed_by_who_asks_for_it(installed: Installation, page: Page) -> None:
    with ThreadPoolExecutor(1) as beside:  # Playwright has the event loop of this thread
        beside.submit(lambda: asyncio.run(put_aside(installed.kafka.bootstrap))).result()
    page.goto(f"{installed.workers['a'].url}/ui/system")
    expect(page.locator("#letters")).to_be_hidden()
    page.get_by_role("button", name="Show", exact=True).click()
    lines = page.locator("#letters tbody tr")
    expect(lines).to_have_count(2)
    expect(lines.nth(0)).to_contain_text(f"{HOSTILE[0]}: 1")
    expect(lines.nth(1)).to_contain_text("cannot be read: 67 61 72")
    found = Axe().run(page)
    assert [each for each in found.response["violations"] if each["impact"] in ("serious", "critical")] == []
    page.get_by_role("button", name="Replay those").click()
    expect(page.locator("#letters-said")).to_contain_text("1 replayed, 1 cannot be read and stay.")
    expect(lines).to_have_count(1)


async def put_aside(kafka: str) -> None:
    """Two letters, one of which can be read."""
    hour = int(time.time()) // HOUR_S
    good = record.encode([Chunk(HOSTILE[0].encode(), hour - 30, struct.pack("<d", 1))])
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for offset, value in ((1_000_001, b"garbage"), (1_000_002, good)):
            origin = SimpleNamespace(topic="samples", partition=0, offset=offset, timestamp=hour * HOUR_S * 1000)
            headers = headers_of(origin, "fold: a bug")
            await producer.send_and_wait("samples-dead-letters", value, headers=headers)


def test_it_fits_a_phone(url: str, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    for path in ("/", f"/ui/key?key={quote_plus(SLOW)}", "/ui/system"):
        page.goto(url + path)
        expect(page.locator("table tbody tr").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


PICTURES = {
    "keys": ("/", "light", 760, "#table svg.spark"),
    "key": (f"/ui/key?key={quote_plus(SLOW)}", "light", 2750, "#both canvas"),
    "key-dark": (f"/ui/key?key={quote_plus(SLOW)}&days=7", "dark", 2750, "#both canvas"),
    "system": ("/ui/system", "light", 1420, "#capacity tbody tr"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_every_view(url: str, page: Page, tmp_path: Path, name: str) -> None:
    """`make screenshots` keeps them in docs/screenshots."""
    path, scheme, height, drawn = PICTURES[name]
    page.set_viewport_size({"width": 1200, "height": height})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(url + path)
    expect(page.locator(drawn).first).to_be_visible()
    page.wait_for_load_state("networkidle")
    picture = Path(os.environ.get("SCREENSHOTS", tmp_path)) / f"{name}.png"
    page.screenshot(path=picture)
    assert picture.stat().st_size > 20_000  # an empty page has less


def test_where_tokens_are_needed_it_asks_for_one(tmp_path: Path, page: Page) -> None:
    token, line = new_token("ann", ["query", "ingest"], [])
    tokens = tmp_path / "tokens.json"
    tokens.touch(0o600)
    tokens.write_text(line)
    settings = {"METRICS_TOKENS_FILE": str(tokens), "METRICS_CLUSTER_TOKEN": "x" * 40}
    with Installation(tmp_path / "run", {"a": "all"}, settings) as installation:
        page.goto(installation.workers["a"].url)
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_text("This token is not known")).to_be_visible()
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        expect(page.locator("#state")).to_have_text("No key has values then.")
