"""The watchdog ends what stands still while Kafka answers, and nothing else. Its clock is a number."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import pytest

from metrics_app.aggregator.watchdog import LoopGuard, Symptom, Watchdog

LIMIT_S = 60.0


class Ended(BaseException):
    """The process would have ended here."""


class Worker:
    """A process whose symptoms are set by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.symptoms: dict[str, Symptom] = {}
        self.kafka_is_there = True
        self.remedies = 0
        self.watchdog = Watchdog(
            lambda: self.symptoms, self._answers, self._remedy, self._end, clock=lambda: self.now_s
        )

    async def _answers(self) -> bool:
        return self.kafka_is_there

    async def _remedy(self, lasting: Mapping[str, float]) -> None:
        self.remedies += "recovery" in lasting

    def _end(self, why: str) -> NoReturn:
        raise Ended(why)

    def stall(self, name: str = "lag", marker: int = 7, limit_s: float = LIMIT_S) -> None:
        self.symptoms[name] = Symptom(marker, limit_s, f"{name} stands still")

    async def pass_time(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += 1
            await self.watchdog.look()


async def test_what_stands_still_for_longer_than_its_limit_ends_the_process_with_one_sentence():
    worker = Worker()
    worker.stall()
    await worker.pass_time(LIMIT_S)
    with pytest.raises(Ended, match=r"^lag stands still, for 6\d s, though Kafka answers$"):
        await worker.pass_time(10)


async def test_a_standstill_that_nobody_ends_since_the_watch_itself_has_died_is_for_livez_to_say():
    worker = Worker()
    worker.stall()
    await worker.pass_time(5)
    worker.now_s += LIMIT_S  # the watch looks no more
    assert worker.watchdog.overdue() is None
    worker.now_s += LIMIT_S
    assert worker.watchdog.overdue() == "lag stands still, for 124 s"


async def test_progress_starts_the_time_anew():
    worker = Worker()
    for marker in range(20):
        worker.stall(marker=marker)
        await worker.pass_time(50)


async def test_a_symptom_that_goes_away_and_comes_back_starts_anew():
    worker = Worker()
    for _ in range(5):
        worker.stall()
        await worker.pass_time(50)
        worker.symptoms.clear()
        await worker.pass_time(2)


async def test_progress_of_one_partition_does_not_hide_the_standstill_of_another():
    worker = Worker()
    worker.stall("lag 1")
    for marker in range(12):
        worker.stall("lag 2", marker)
        await worker.pass_time(5)
    worker.stall("lag 2", 99)
    with pytest.raises(Ended, match="lag 1"):
        await worker.pass_time(10)


async def test_while_kafka_is_away_nothing_is_ended_and_time_counts_from_its_return():
    """A worker without Kafka goes on answering, for as long as that lasts."""
    worker = Worker()
    worker.stall()
    await worker.pass_time(40)
    worker.kafka_is_there = False
    await worker.pass_time(600)
    worker.kafka_is_there = True
    await worker.pass_time(LIMIT_S - 6)
    with pytest.raises(Ended):
        await worker.pass_time(20)


async def test_each_symptom_has_its_own_limit():
    worker = Worker()
    worker.stall("rebalance", limit_s=90)
    await worker.pass_time(85)
    with pytest.raises(Ended):
        await worker.pass_time(15)


async def test_the_remedy_is_tried_before_anything_is_ended():
    worker = Worker()
    worker.stall("recovery")
    await worker.pass_time(20)
    assert worker.remedies > 0


async def test_a_long_standstill_is_told_and_a_short_one_is_not():
    worker = Worker()
    worker.stall()
    await worker.pass_time(10)
    assert worker.watchdog.suspicion() is None
    await worker.pass_time(10)
    assert worker.watchdog.suspicion() == "lag stands still, for 19 s"


async def guarded(limit_s: float) -> tuple[LoopGuard, list[str], threading.Event]:
    said: list[str] = []
    ended = threading.Event()

    def end(why: str) -> Any:
        said.append(why)
        ended.set()

    guard = LoopGuard(limit_s, end, beat_s=0.02)
    await guard.start()
    return guard, said, ended


async def test_a_blocked_event_loop_ends_the_process_and_says_where():
    guard, said, ended = await guarded(limit_s=0.1)
    await asyncio.sleep(0.1)
    give_up = time.monotonic() + 10
    while not ended.is_set() and time.monotonic() < give_up:
        time.sleep(0.01)  # noqa: ASYNC251  that is what it is about
    await guard.stop()
    assert "the event loop has been blocked for 0.1 s, at test_watchdog.py" in said[0]


async def test_of_a_blocked_event_loop_the_line_of_ours_is_told_that_led_there():
    guard, said, ended = await guarded(limit_s=0.1)
    await asyncio.sleep(0.1)

    def symptoms() -> dict[str, Symptom]:
        ended.wait(10)
        return {}

    worker = Worker()
    worker.watchdog.symptoms = symptoms
    worker.watchdog.suspicion()
    await guard.stop()
    assert "at threading.py:" in said[0]
    assert ", called by watchdog.py:" in said[0]


async def test_a_loop_that_turns_is_left_alone():
    guard, said, _ = await guarded(limit_s=0.3)
    await asyncio.sleep(1.0)
    await guard.stop()
    assert said == []
