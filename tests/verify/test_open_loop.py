from __future__ import annotations

import asyncio

from metrics_app.verify.sender import OpenLoop


async def test_slow_replies_do_not_slow_the_schedule() -> None:
    """Ten requests whose replies all wait for the tenth request to start; a closed loop would hang."""
    loop = OpenLoop(total=10, interval_s=0.001, in_flight=10)
    started: list[int] = []
    all_started = asyncio.Event()

    async def send(number: int, lane: int) -> bool:
        started.append(number)
        if len(started) == 10:
            all_started.set()
        await all_started.wait()
        return True

    async with asyncio.timeout(10):
        await loop.run(send)
    assert started == list(range(10))


async def test_requests_beyond_the_bound_wait_and_the_schedule_is_not_held() -> None:
    loop = OpenLoop(total=6, interval_s=0.001, in_flight=2)
    now = most = 0

    async def send(number: int, lane: int) -> bool:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.15)
        now -= 1
        return True

    await loop.run(send)
    assert most == 2
    assert loop.late >= 2
    assert not loop.is_held


async def test_the_requests_of_a_lane_follow_each_other_and_few_lanes_are_used() -> None:
    loop = OpenLoop(total=20, interval_s=0.005, in_flight=8)
    busy: set[int] = set()
    used: set[int] = set()

    async def send(number: int, lane: int) -> bool:
        assert lane not in busy
        busy.add(lane)
        used.add(lane)
        await asyncio.sleep(0)
        busy.remove(lane)
        return True

    await loop.run(send)
    assert len(used) < 4  # one, but for a machine that is late


async def test_only_kept_requests_have_a_latency() -> None:
    loop = OpenLoop(total=4, interval_s=0.0, in_flight=4)

    async def send(number: int, lane: int) -> bool:
        return number % 2 == 0

    await loop.run(send)
    assert len(loop.latency_s) == 2
    assert len(loop.behind_s) == 4
