"""The files of the page: what a browser gets, whoever asks, and that it needs nothing from elsewhere."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from metrics_app.http.access import Access
from metrics_app.http.problems import problem_middleware
from metrics_app.http.tokens import new_token
from metrics_app.kafka.ports import free_port
from metrics_app.telemetry import Telemetry
from metrics_app.ui import pages
from metrics_app.ui.pages import PAGES, POLICY, STATIC
from tests.conftest import MakeSettings

FILES = sorted(path.name for path in STATIC.iterdir())
OWN_SCRIPTS = [path for path in STATIC.glob("*.js") if path.name != "uplot.js"]
MOST_BYTES = 200 << 10


class FakeApp:
    """Of a Faust app, its web application."""

    def __init__(self, web_app: web.Application) -> None:
        self.web = type("FakeWeb", (), {"web_app": web_app})


@pytest.fixture
async def url(make_settings: MakeSettings, tmp_path: Path) -> AsyncIterator[str]:
    """A server of the page, which knows one token."""
    _, line = new_token("ann", ["query"], [])
    tokens = tmp_path / "tokens.json"
    tokens.touch(0o600)
    tokens.write_text(line)
    settings = make_settings(tokens_file=tokens)
    app = web.Application(middlewares=[problem_middleware(Telemetry(), Access(settings))])
    pages.register(FakeApp(app))  # type: ignore[arg-type]  # as far as it is used
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


@pytest.mark.parametrize("path", [*PAGES, *(f"/ui/static/{name}" for name in FILES)])
async def test_every_file_is_served_to_anybody_with_a_strict_policy(url: str, path: str) -> None:
    async with ClientSession() as session, session.get(url + path) as reply:
        assert (reply.status, reply.headers["Content-Security-Policy"]) == (200, POLICY)
        assert (reply.headers["X-Content-Type-Options"], reply.headers["Cache-Control"]) == ("nosniff", "no-cache")
        tag, size = reply.headers["ETag"], len(await reply.read())
    async with ClientSession() as session, session.get(url + path, headers={"If-None-Match": tag}) as again:
        assert (again.status, await again.read()) == (304, b"")
    assert size


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fpages.py", "%2E%2E", "pages.py", "a%00b"])
async def test_there_are_no_other_files(url: str, name: str) -> None:
    async with ClientSession() as session, session.get(f"{url}/ui/static/{name}") as reply:
        assert reply.status in (400, 401, 404)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_nothing_can_be_sent_to_it(url: str, method: str) -> None:
    async with ClientSession() as session, session.request(method, f"{url}/") as reply:
        assert reply.status in (401, 405)


@pytest.mark.parametrize("page", PAGES.values())
def test_a_page_takes_nothing_from_elsewhere_and_has_no_script_or_style_in_it(page: str) -> None:
    text = (STATIC / page).read_text()
    named = re.findall(r'(?:src|href)="([^"#]+)"', text)
    assert all(name in PAGES or name.removeprefix("/ui/static/") in FILES for name in named), named
    assert not re.search(r"<script(?! src=)|<style|style=|\son\w+=|javascript:", text)
    assert 'lang="en"' in text


@pytest.mark.parametrize("script", OWN_SCRIPTS, ids=lambda path: path.name)
def test_our_scripts_put_texts_into_the_page_as_texts(script: Path) -> None:
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script.read_text()
    )


@pytest.mark.parametrize("page", PAGES.values())
def test_a_page_weighs_less_than_a_picture(page: str) -> None:
    names = re.findall(r'/ui/static/([^"]+)"', (STATIC / page).read_text())
    assert sum(len((STATIC / name).read_bytes()) for name in {page, *names}) <= MOST_BYTES
    assert sum(len(gzip.compress((STATIC / name).read_bytes())) for name in {page, *names}) <= MOST_BYTES // 4
