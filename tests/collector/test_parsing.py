"""However many bodies come at once, and however large, the event loop has its turns between them."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from metrics_app.collector.body import SMALL_BYTES, TURN_BYTES, Parsing, RequestBody
from metrics_app.errors import OverloadedError
from metrics_app.wire import bodies
from metrics_app.wire.bodies import BodyLimits
from metrics_app.wire.gathering import BodyParts

LARGE = RequestBody(b'[["a",1]' + b" " * SMALL_BYTES + b"]", "", False, b"")


def fresh(patience_s: float = 20.0) -> Parsing:
    return Parsing(
        BodyLimits(max_items=1000, max_ahead_s=300, retention_s=86_400, chunk_values=1000), 1 << 20, patience_s
    )


class Blocked:
    """`bodies.parse`, which does not return from a large body before it is told."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.running = 0
        self.most = 0
        self._parse = bodies.parse

    def __call__(self, body: bytes, *args: Any) -> bodies.Parsed:
        if len(body) > SMALL_BYTES:
            self.running += 1
            self.most = max(self.most, self.running)
            self.go_on.wait(20)
            self.running -= 1
        return self._parse(body, *args)


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Blocked:
    stub = Blocked()
    monkeypatch.setattr(bodies, "parse", stub)
    return stub


async def test_small_bodies_are_parsed_while_large_ones_are_one_at_a_time(blocked: Blocked) -> None:
    one = fresh()
    large = [asyncio.create_task(one.parse(LARGE, time.time())) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert (await one.parse(RequestBody(b'["a",1]', "", False, b""), time.time()))[1].accepted == 1
    assert not any(task.done() for task in large)
    blocked.go_on.set()
    assert [(await task)[1].accepted for task in large] == [1, 1, 1]
    assert blocked.most == 1


async def test_who_waits_too_long_for_those_before_it_is_refused(blocked: Blocked) -> None:
    one = fresh(patience_s=0.05)
    first = asyncio.create_task(one.parse(LARGE, time.time()))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="nothing was kept, send it again") as refused:
        await one.parse(LARGE, time.time())
    assert refused.value.reason == "busy"
    blocked.go_on.set()
    assert (await first)[1].accepted == 1
    assert (await one.parse(LARGE, time.time()))[1].accepted == 1


async def test_of_small_bodies_that_come_at_once_a_bounded_part_is_parsed_in_one_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, parsed, a_turn = fresh(), 0, []

    def parse(body: bytes, *args: Any) -> bodies.Parsed:
        nonlocal parsed
        parsed += len(body)
        return BodyParts(args[1], args[2], args[3]).done()

    def turn() -> None:
        nonlocal parsed
        a_turn.append(parsed)
        parsed = 0
        if not all(task.done() for task in tasks):
            asyncio.get_running_loop().call_soon(turn)

    monkeypatch.setattr(bodies, "parse", parse)
    body = RequestBody(b" " * (SMALL_BYTES // 4), "", False, b"")
    tasks = [asyncio.create_task(one.parse(body, time.time())) for _ in range(100)]
    turn()
    await asyncio.gather(*tasks)
    assert max(a_turn) <= TURN_BYTES
    assert sum(each > 0 for each in a_turn) >= 100 * len(body.sent) // TURN_BYTES
