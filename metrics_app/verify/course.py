"""Runs one drill: load, a question every 0.1 s, and meanwhile one process after another is killed and waited for.

Called by `cli.drill`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import aiohttp

from metrics_app.errors import ClientError
from metrics_app.verify.drill_report import WHOLE_S, Drilled, Kill
from metrics_app.verify.ledger import Ledger, Outcome
from metrics_app.verify.plan import Plan
from metrics_app.verify.probe import LOOK_S, Probe, Readiness
from metrics_app.verify.run import Advance, Run, perform
from metrics_app.verify.targets import Kind, Target

PAUSE_S = (1.0, 3.0)  # before each kill, at random: not always at the same moment of a flush

Say = Callable[[str], None]


class Drill:
    """A drill and, while it runs, how it stands.

    Args:
        session: open client session.
        targets: what to kill, `rounds` times each, in an order that the seed of the plan decides.
        ready_urls: base URLs of all workers.
        say: told of each kill and recovery.
    Attributes:
        sent: values of the requests started so far.
        trouble: why nothing could be killed; empty when all was well before.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        targets: Sequence[Target],
        ready_urls: Sequence[str],
        plan: Plan,
        rounds: int,
        say: Say,
    ) -> None:
        self.phase = "starting"
        self.fault = ""
        self.sent = 0
        self.ledger = Ledger()
        self.probe = Probe(session, plan.asked)
        self.readiness = Readiness(session, ready_urls)
        self.kills: list[Kill] = []
        self.trouble: list[str] = []
        self._targets = list(targets)
        self._plan = plan
        self._rounds = rounds
        self._say = say
        self._chance = random.Random(plan.seed)
        self._over = asyncio.Event()
        self._started = time.monotonic()

    @property
    def clock(self) -> str:
        """Time since the start, m:ss."""
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        return f"{minutes}:{seconds:02}"

    @property
    def accepted(self) -> int:
        """Values accepted so far."""
        return self.ledger.count(Outcome.OK)

    @property
    def counted(self) -> int:
        """Values known to be counted so far; each key is asked for in turn, so this lags."""
        return sum(self.probe.counted.values())

    async def run(self) -> Drilled:
        """The result, when everything is over.

        Raises:
            ClientError: the service cannot be reached at all, or does not answer queries any more.
            DrillError: a process to be killed is not ours, or is none.
        """
        load = perform(self._plan, until=self._over, progress=self._progress, ledger=self.ledger)
        try:
            async with asyncio.TaskGroup() as tasks:
                loading = tasks.create_task(load)
                tasks.create_task(self.probe.run(lambda: self.ledger.counts(Outcome.OK), self._over))
                tasks.create_task(self.readiness.watch(self._over))
                tasks.create_task(self._kill_in_turn())
        except BaseExceptionGroup as group:
            raise _first(group) from group
        return self._result(loading.result())

    def _result(self, run: Run) -> Drilled:
        kills = [(kill, self.probe.availability(kill.at, kill.end)) for kill in self.kills]
        return Drilled(run, tuple(kills), self.probe.availability(), (*self.trouble, *self.probe.wrong))

    async def _kill_in_turn(self) -> None:
        try:
            await self._warm_up()
            self.phase = "under load"
            for target in [] if self.trouble else self._turns():
                await asyncio.sleep(self._chance.uniform(*PAUSE_S))
                await self._await_running(target)
                self.kills.append(await self._kill(target))
                if self.kills[-1].whole_s is None:
                    break
        finally:
            self._over.set()

    def _turns(self) -> Iterator[Target]:
        for _ in range(self._rounds):
            # Kafka last: its death is felt by all the others
            yield from sorted(self._targets, key=lambda target: (target.kind is Kind.KAFKA, self._chance.random()))

    async def _warm_up(self) -> None:
        self.phase = "warming up"
        try:
            async with asyncio.timeout(WHOLE_S):
                await self.readiness.until_all()
                await self._until_more_accepted()
        except TimeoutError:
            up = sum(self.readiness.up.values())
            raise ClientError(
                f"nothing was killed: after {WHOLE_S:g} s {up} of {len(self.readiness.up)} workers are ready "
                f"and {self.accepted:,} values accepted"
            ) from None
        try:
            async with asyncio.timeout(WHOLE_S):
                await self._until_all_counted()
        except TimeoutError:
            self.trouble.append(f"nothing was killed: not all that was accepted is counted in {WHOLE_S:g} s")

    async def _await_running(self, target: Target) -> None:
        # it may have ended by itself as an aftermath of the kill before, and be on its way up again
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WHOLE_S):
                await self.readiness.until_all()
                await _until(lambda: target.pid() is not None)

    async def _kill(self, target: Target) -> Kill:
        pid, at = target.kill(), time.monotonic()
        self.phase, self.fault = "recovering", f"{target.name} (pid {pid}) killed"
        self._say(f"{self.clock} {target.name} (pid {pid}) killed with SIGKILL")
        kill = await self._recovery(target, Kill(target.name, pid, at))
        self.phase, self.fault = "under load", ""
        self._say(f"{self.clock} {target.name} {kill}")
        return kill

    async def _recovery(self, target: Target, kill: Kill) -> Kill:
        ready_s = whole_s = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WHOLE_S):
                await _until(lambda: target.pid() not in (None, kill.pid))
                await self._until_more_accepted()
                await self.readiness.until_all()
                ready_s = time.monotonic() - kill.at
                await self._until_all_counted()
                whole_s = time.monotonic() - kill.at
        return Kill(kill.name, kill.pid, kill.at, ready_s, whole_s)

    async def _until_more_accepted(self) -> None:
        before = self.accepted
        await _until(lambda: self.accepted > before)

    async def _until_all_counted(self) -> None:
        """Waits until all that is accepted at the time of the call is in the answers."""
        left = self.ledger.counts(Outcome.OK)
        while left:
            found = await self.probe.counts(left)
            left = Counter({each: count for each, count in left.items() if found.get(each, 0) < count})
            await asyncio.sleep(LOOK_S if left else 0)

    @contextmanager
    def _progress(self, title: str, total: int) -> Iterator[Advance]:
        if title.startswith("reading"):
            self.phase = title
            yield lambda done: None
        else:
            yield self._on_sent

    def _on_sent(self, requests: int) -> None:
        self.sent = requests * self._plan.batch


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  another process can set no event of ours
        await asyncio.sleep(LOOK_S)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
