"""A Chromium for tests of pages and of scripts in pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = shutil.which("chromium")
NO_CHROMIUM = "no Chromium on this machine: apt-get install chromium"


@contextmanager
def launched() -> Iterator[Browser]:
    """It runs within; tests run as root, where it has no sandbox."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
