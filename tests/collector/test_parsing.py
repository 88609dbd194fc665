"""However many bodies come at once, and however large, the event loop has its turns between them."""

from __future__ import annotations

import asyncio
import gzip
import time
from contextlib import ExitStack

import pytest

from metrics_app.collector.body import MOST_OF_ONE, SMALL_BYTES, TURN_BYTES, BodyReader, Parsing, RequestBody
from metrics_app.errors import OverloadedError
from metrics_app.wire import bodies
from metrics_app.wire.bodies import BodyLimits
from metrics_app.wire.gathering import BodyParts, Steps

LARGE = RequestBody(b'[["a",1]' + b" " * SMALL_BYTES + b"]", "", False, b"")


def fresh(patience_s: float = 20.0) -> Parsing:
    return Parsing(
        BodyLimits(max_items=1000, max_ahead_s=300, retention_s=86_400, chunk_values=1000), 1 << 20, patience_s
    )


class Blocked:
    """`bodies.parsing`, which does not come to the end of a large body before it is told."""

    def __init__(self) -> None:
        self.may_end = False
        self.running = 0
        self.most = 0
        self.begun: list[int] = []
        self._parsing = bodies.parsing

    def __call__(self, body: bytes, content_type: str, parts: BodyParts) -> Steps:
        if len(body) > SMALL_BYTES:
            self.begun.append(len(body))
            self.running += 1
            self.most = max(self.most, self.running)
            while not self.may_end:
                yield
            self.running -= 1
        yield from self._parsing(body, content_type, parts)


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Blocked:
    stub = Blocked()
    monkeypatch.setattr(bodies, "parsing", stub)
    return stub


async def test_small_bodies_are_parsed_while_large_ones_are_one_at_a_time(blocked: Blocked) -> None:
    one = fresh()
    large = [asyncio.create_task(one.parse(LARGE, time.time())) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert (await one.parse(RequestBody(b'["a",1]', "", False, b""), time.time()))[1].accepted == 1
    assert not any(task.done() for task in large)
    blocked.may_end = True
    assert [(await task)[1].accepted for task in large] == [1, 1, 1]
    assert blocked.most == 1


async def test_who_waits_too_long_for_those_before_it_is_refused(blocked: Blocked) -> None:
    one = fresh(patience_s=0.05)
    first = asyncio.create_task(one.parse(LARGE, time.time()))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="nothing was kept, send it again") as refused:
        await one.parse(LARGE, time.time())
    assert refused.value.reason == "busy"
    blocked.may_end = True
    assert (await first)[1].accepted == 1
    assert (await one.parse(LARGE, time.time()))[1].accepted == 1


async def test_of_small_bodies_that_come_at_once_a_bounded_part_is_parsed_in_one_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, parsed, a_turn = fresh(), 0, []

    def parsing(body: bytes, _content_type: str, _parts: BodyParts) -> Steps:
        nonlocal parsed
        parsed += len(body)
        return iter(())

    def turn() -> None:
        nonlocal parsed
        a_turn.append(parsed)
        parsed = 0
        if not all(task.done() for task in tasks):
            asyncio.get_running_loop().call_soon(turn)

    monkeypatch.setattr(bodies, "parsing", parsing)
    body = RequestBody(b" " * (SMALL_BYTES // 4), "", False, b"")
    tasks = [asyncio.create_task(one.parse(body, time.time())) for _ in range(100)]
    turn()
    await asyncio.gather(*tasks)
    assert max(a_turn) <= TURN_BYTES
    assert sum(each > 0 for each in a_turn) >= 100 * len(body.sent) // TURN_BYTES


def large(size: int, client: str) -> RequestBody:
    return RequestBody(b'[["a",1]' + b" " * (SMALL_BYTES + size) + b"]", "", False, b"", client)


async def test_clients_with_large_bodies_have_their_turns_one_after_the_other(blocked: Blocked) -> None:
    one = fresh()
    tasks = [asyncio.create_task(one.parse(large(size, "greedy"), time.time())) for size in range(5)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(one.parse(large(100, "modest"), time.time())))
    await asyncio.sleep(0.01)
    blocked.may_end = True
    await asyncio.gather(*tasks)
    sizes = [size - len(large(0, "").sent) for size in blocked.begun]
    assert sizes == [0, 1, 100, 2, 3, 4], "the modest one waits for one that was before it, not for all"


async def test_a_client_that_has_too_many_large_bodies_waiting_is_refused_at_once_and_others_are_not(
    blocked: Blocked,
) -> None:
    one = fresh()
    tasks = [asyncio.create_task(one.parse(large(0, "greedy"), time.time())) for _ in range(MOST_OF_ONE + 1)]
    await asyncio.sleep(0.01)
    with pytest.raises(OverloadedError, match="too many large bodies"):
        await one.parse(large(0, "greedy"), time.time())
    tasks.append(asyncio.create_task(one.parse(large(0, "modest"), time.time())))
    blocked.may_end = True
    assert {parsed.accepted for _, parsed in await asyncio.gather(*tasks)} == {1}


async def test_a_body_that_nobody_waits_for_any_more_gives_its_turn_on(blocked: Blocked) -> None:
    one = fresh()
    first, second, third = (asyncio.create_task(one.parse(large(n, "a"), time.time())) for n in range(3))
    await asyncio.sleep(0.01)
    second.cancel()
    first.cancel()
    blocked.may_end = True
    async with asyncio.timeout(5):
        assert (await third)[1].accepted == 1


async def test_a_small_body_under_gzip_does_not_wait_for_large_ones(blocked: Blocked) -> None:
    one = fresh()
    waiting = asyncio.create_task(one.parse(LARGE, time.time()))
    await asyncio.sleep(0.01)
    small = RequestBody(gzip.compress(b'["a",1]'), "", True, b"")
    assert (await one.parse(small, time.time()))[1].accepted == 1
    assert not waiting.done()
    blocked.may_end = True
    await waiting


async def test_bodies_on_their_way_take_a_bounded_part_of_the_memory_and_small_ones_always_have_room():
    bodies_of = BodyReader(1 << 20, 20.0, 3 << 20)
    with ExitStack() as held:
        held.enter_context(bodies_of.room_for("greedy", 1 << 20))
        with pytest.raises(OverloadedError, match="on their way"):
            held.enter_context(bodies_of.room_for("greedy", 1 << 20))
        held.enter_context(bodies_of.room_for("modest", 1 << 20))
        held.enter_context(bodies_of.room_for("greedy", SMALL_BYTES))
        held.enter_context(bodies_of.room_for("third", 1 << 20))
        with pytest.raises(OverloadedError, match="on their way"):
            held.enter_context(bodies_of.room_for("fourth", 1 << 20))
    with bodies_of.room_for("greedy", 1 << 20):
        pass
