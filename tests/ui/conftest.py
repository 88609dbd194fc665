"""A running system with values in it, and a Chromium that looks at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import CHROMIUM, NO_CHROMIUM, launched
from tests.faults.installation import Installation
from tests.faults.pace import stretched

from .sent import send

IN_CHROMIUM = [
    pytest.mark.kafka,
    pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM),
]
PATIENCE_MS = 1000 * stretched(20)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("ui"), {"a": "all"}) as installation:
        send(installation.workers["a"].url)
        yield installation


@pytest.fixture(scope="module")
def url(installed: Installation) -> str:
    return installed.workers["a"].url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page; nothing may run that is not ours, and no script may fail."""
    page = chromium.new_page(viewport={"width": 1280, "height": 1000}, timezone_id="Europe/Berlin")
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    yield page
    page.close()
    assert faults == []
