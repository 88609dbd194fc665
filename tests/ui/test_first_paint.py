"""How long a new reader looks at nothing, here and over the network of a phone."""

from __future__ import annotations

from urllib.parse import quote_plus

import pytest
from playwright.sync_api import Browser

from tests.faults.pace import stretched

from .conftest import IN_CHROMIUM
from .sent import SLOW

pytestmark = IN_CHROMIUM

MEGABIT = 1_000_000 / 8
PHONE = {"offline": False, "latency": 150, "downloadThroughput": 1.6 * MEGABIT, "uploadThroughput": 0.75 * MEGABIT}
PAINTS = 8


@pytest.mark.parametrize("network", ["here", "phone"])
@pytest.mark.parametrize("path", ["/", f"/ui/key?key={quote_plus(SLOW)}", "/ui/system"], ids=["keys", "key", "system"])
def test_something_is_painted_within_a_second(url: str, chromium: Browser, path: str, network: str) -> None:
    """Of a reader who has never been here; `make first-paint` prints what was measured."""
    painted = sorted(first_paint_ms(chromium, url + path, network == "phone") for _ in range(PAINTS))
    p75 = painted[3 * PAINTS // 4 - 1]
    print(
        f"first contentful paint of {path} ({network}): "
        f"p75 {p75:.0f} ms of {PAINTS}, {painted[0]:.0f} to {painted[-1]:.0f}"
    )
    assert p75 <= 1000 * stretched(1)


def first_paint_ms(chromium: Browser, address: str, on_phone: bool) -> float:
    """From asking for a page until something is on the screen, with nothing cached."""
    page = chromium.new_page(viewport={"width": 390, "height": 800})
    try:
        if on_phone:
            session = page.context.new_cdp_session(page)
            session.send("Network.enable")
            session.send("Network.emulateNetworkConditions", PHONE)
        page.goto(address)
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
        return float(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    finally:
        page.close()
