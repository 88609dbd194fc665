from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes the event loops that Faust makes for threads which a test never starts."""
    made: list[asyncio.AbstractEventLoop] = []
    make = asyncio.new_event_loop  # mode has asyncio itself, so the patch is of that

    def new_event_loop() -> Any:
        made.append(make())
        return made[-1]

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", new_event_loop)
        yield
    for loop in made:
        if not loop.is_running():
            loop.close()
