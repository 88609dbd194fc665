"""Ends a process in which something stands still, and says what: a new process goes on from what is durable.

Called by `role`, which starts it.

Faust's recovery can end without a word and its consumer can stop fetching, while the worker still sends heartbeats and
answers. A symptom is a marker that should change and does not; `Symptoms` reads the markers from the parts of the
worker. While Kafka is away nothing can change, so time counts only as long as Kafka answers: a worker without Kafka
goes on answering. `LoopGuard` watches the event loop itself, from a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import mode
from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from metrics_app.aggregator.agent import Folding
from metrics_app.aggregator.flusher import Flusher
from metrics_app.aggregator.replica import Replica
from metrics_app.aggregator.upkeep import Upkeep
from metrics_app.kafka import topics
from metrics_app.process import EXIT_CRASHED, leave
from metrics_app.settings import Settings

LOOK_INTERVAL_S = 1.0
ASK_INTERVAL_S = 5.0  # how often Kafka is asked while something does not change
OVERDUE_S = 30.0  # Kafka is asked, and a remedy tried, before a process is ended
PACKAGE = Path(__file__).parent.parent
SHOWN_AFTER = 0.25  # share of its limit after which a symptom makes the worker not ready

GiveUp = Callable[[str], NoReturn]


class Symptom(NamedTuple):
    """Something that is under way: it must end, or its marker must change, within `limit_s`."""

    marker: Hashable
    limit_s: float
    sentence: str


def _give_up(why: str) -> NoReturn:
    leave(EXIT_CRASHED, f"watchdog: {why}; ending this process so that it is started anew")


class Watchdog(mode.Service):
    """Looks at the symptoms every second.

    Args:
        symptoms: those of now, by name.
        kafka_answers: asks Kafka, by a way of its own.
        remedy: told the names of those that last, and for how long, every few seconds, before anything is ended.
    """

    def __init__(
        self,
        symptoms: Callable[[], Mapping[str, Symptom]],
        kafka_answers: Callable[[], Awaitable[bool]],
        remedy: Callable[[Mapping[str, float]], Awaitable[None]],
        give_up: GiveUp = _give_up,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.symptoms = symptoms
        self.kafka_answers = kafka_answers
        self.remedy = remedy
        self.give_up = give_up
        self.clock = clock
        self._since: dict[str, tuple[Hashable, float]] = {}
        self._asked = 0.0

    @mode.Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            await self.sleep(LOOK_INTERVAL_S)
            await self.look()

    async def look(self) -> None:
        """Notes what has changed; ends the process when something has not for too long."""
        now = self.clock()
        found = self.symptoms()
        before = self._since
        self._since = {
            name: before[name] if name in before and before[name][0] == symptom.marker else (symptom.marker, now)
            for name, symptom in found.items()
        }
        lasting = {name: now - since for name, (_, since) in self._since.items() if now - since >= ASK_INTERVAL_S}
        if not lasting or now - self._asked < ASK_INTERVAL_S:
            return
        self._asked = now
        if not await self.kafka_answers():
            self._since = {name: (marker, self.clock()) for name, (marker, _) in self._since.items()}
            return
        await self.remedy(lasting)
        for name, lasted_s in lasting.items():
            if lasted_s > found[name].limit_s:
                self.give_up(f"{found[name].sentence}, for {lasted_s:.0f} s, though Kafka answers")

    def suspicion(self) -> str | None:
        """What has been lasting for long; None when nothing has. For /readyz."""
        return self._lasting(lambda limit_s: SHOWN_AFTER * limit_s)

    def overdue(self) -> str | None:
        """What has lasted so long that the process would have been ended, were the watch itself alive. For /livez."""
        return self._lasting(lambda limit_s: limit_s + OVERDUE_S)

    def _lasting(self, longer_than: Callable[[float], float]) -> str | None:
        now = self.clock()
        for name, symptom in self.symptoms().items():
            marker, since = self._since.get(name, (None, now))
            if marker == symptom.marker and now - since > longer_than(symptom.limit_s):
                return f"{symptom.sentence}, for {now - since:.0f} s"
        return None


class LoopGuard(mode.Service):
    """Ends the process when its event loop has not turned for `limit_s`: heartbeats and queries stand still with it.

    Counted in beats of a thread, not by a clock: a process that was stopped as a whole is not blamed for it.
    """

    def __init__(self, limit_s: float, give_up: GiveUp = _give_up, beat_s: float = 0.5) -> None:
        super().__init__()
        self.limit_s = limit_s
        self.give_up = give_up
        self.beat_s = beat_s
        self._turns = 0
        self._ended = threading.Event()

    async def on_start(self) -> None:
        """Begins to watch the loop it is called in."""
        loop_thread = threading.get_ident()
        threading.Thread(target=self._guard, args=(loop_thread,), name="loop-guard", daemon=True).start()

    async def on_stop(self) -> None:
        """Ends the watch."""
        self._ended.set()

    @mode.Service.task
    async def _turn(self) -> None:
        while not self.should_stop:
            self._turns += 1
            await asyncio.sleep(self.beat_s / 2)

    def _guard(self, loop_thread: int) -> None:
        seen, missed = -1, 0
        while not self._ended.wait(self.beat_s):
            missed = missed + 1 if self._turns == seen else 0
            seen = self._turns
            if missed * self.beat_s > self.limit_s:
                self.give_up(f"the event loop has been blocked for {self.limit_s:g} s, {_where(loop_thread)}")


def _where(thread: int) -> str:
    """The line a thread is at and, when that is not one of ours, the line of ours that led there."""
    at: Any = sys._current_frames().get(thread)
    ours = at
    while ours is not None and PACKAGE not in Path(ours.f_code.co_filename).parents:
        ours = ours.f_back
    led_there = f", called by {_line(ours)}" if ours not in (None, at) else ""
    return f"at {_line(at)}{led_there}" if at is not None else "somewhere"


def _line(frame: Any) -> str:
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


logger = logging.getLogger(__name__)

ANSWER_S = 5.0
POSITION_S = 2.0
BUSY_S = 30.0  # while others are folded: standstill of a partition after which its next record is asked for again
ITS_TURN = 3  # a partition may wait for others so many times the limit of a standstill


class Symptoms:
    """The symptoms of one worker, read from its parts."""

    def __init__(
        self, settings: Settings, replica: Replica, folding: Folding, flusher: Flusher, upkeep: Upkeep
    ) -> None:
        self.settings = settings
        self.replica = replica
        self.folding = folding
        self.flusher = flusher
        self.upkeep = upkeep

    def now(self) -> dict[str, Symptom]:
        """Those that may be watched now, by name."""
        limit_s = self.settings.stall_timeout_s
        if self.replica.is_recovering():
            moves = *sorted(self.replica.positions.items()), *sorted(self.replica.written.items())
            return {"recovery": Symptom(moves, limit_s, "recovery reads nothing from the changelog")}
        if not self.upkeep.is_settled:
            longest_s = 3 * self.settings.session_timeout_s + 60
            return {"rebalance": Symptom(None, longest_s, "a rebalance does not end")}
        found = {"proof": Symptom(self.upkeep.proofs, limit_s, "Faust's consumer does not answer")}
        if self.flusher.failing_since is not None:
            found["flush"] = Symptom(self.flusher.failing_since, limit_s, "no flush succeeds")
        return found | self._lags(limit_s)

    def _lags(self, limit_s: float) -> dict[str, Symptom]:
        partitions = self.folding.partitions
        if not partitions.all_compared.is_set():
            sentence = "checkpoints cannot be compared with the samples topic"
            return {"compare": Symptom(partitions.indexed, limit_s, sentence)}
        behind = [
            partition
            for partition in partitions.active
            if self.upkeep.lags.get(partition) and partition not in partitions.stopped  # these have said why
        ]
        found = {
            # of a partition alone: with a backlog of others, it may have to wait its turn
            _lag(partition): Symptom(
                partitions.active[partition].fold.offset,
                ITS_TURN * limit_s,
                f"partition {partition} has records and none is folded",
            )
            for partition in behind
        }
        if behind:
            taken = self.folding.taken if self.folding.is_busy else tuple(each.marker for each in found.values())
            found["fold"] = Symptom(taken, limit_s, "this worker has records and none is folded")
        return found

    async def kafka_answers(self) -> bool:
        """Whether Kafka is in a state in which everything could go on, asked by a connection of its own."""
        needed = {topic.name: topic for topic in topics.topics(self.settings) if topic.fixed}
        try:
            async with asyncio.timeout(ANSWER_S), topics.admin_client(self.settings) as admin:
                found = [topic for topic in await admin.describe_topics() if topic["topic"] in needed]
        except (KafkaError, OSError, TimeoutError):
            return False
        return len(found) == len(needed) and all(
            partition["leader"] >= 0
            and len(partition["isr"]) >= int(needed[topic["topic"]].config["min.insync.replicas"])
            for topic in found
            for partition in topic["partitions"]
        )

    async def remedy(self, lasting: Mapping[str, float]) -> None:
        """Asks again for records that Faust has fetched and dropped.

        Without a later record in its partition, what was dropped is no hole that the fold could see. While others are
        folded a partition has longer: what only waits its turn would be fetched again and again.

        Args:
            lasting: the symptoms that have lasted for a while, and for how many seconds.
        """
        patience_s = BUSY_S if self.folding.is_busy else 0.0
        for partition, active in list(self.folding.partitions.active.items()):
            if lasting.get(_lag(partition), -1.0) >= patience_s:
                wanted = active.fold.offset + 1
                logger.warning("partition %s: offset %s does not come, asking for it again", partition, wanted)
                with contextlib.suppress(KafkaError, OSError, TimeoutError, ConsumerNotStarted):  # the watchdog goes on
                    if await self.folding.step_over(TP(self.settings.samples_topic, partition), active):
                        wanted = active.fold.offset + 1
                    await asyncio.wait_for(self.upkeep.log_of_samples.seek(partition, wanted), POSITION_S)


def _lag(partition: int) -> str:
    return f"lag {partition}"
