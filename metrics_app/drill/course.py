"""One drill: load, a question every 0.1 s, and meanwhile one process after the other killed and waited for."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

from metrics_app.drill.probe import Availability, Probe
from metrics_app.drill.targets import Target
from metrics_app.errors import ClientError
from metrics_app.load.ledger import Ledger, Outcome
from metrics_app.load.plan import Plan
from metrics_app.load.run import Advance, Run, perform

WHOLE_S = 90.0  # longest wait until an installation is itself again
LOOK_S = 0.25
LOOK_TIMEOUT_S = 2.0
PAUSE_S = (1.0, 3.0)  # before each kill, at random: not always at the same moment of a flush

Say = Callable[[str], None]


@dataclass(frozen=True)
class Kill:
    """One kill and what followed, in seconds after it; None: not within `WHOLE_S`.

    Attributes:
        at: moment of the monotonic clock.
        ready_s: until a new process ran and every worker said that it was ready.
        whole_s: until everything accepted by then, and something accepted after it, was in the answers.
    """

    name: str
    pid: int
    at: float
    ready_s: float | None = None
    whole_s: float | None = None


@dataclass(frozen=True)
class Drilled:
    """What came of a drill. `kills` has with each the questions asked until the installation was itself again."""

    run: Run
    kills: tuple[tuple[Kill, Availability], ...]
    asked: Availability
    wrong: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """All that was sent is counted, once, no statistic or answer was wrong, and every kill was recovered from."""
        verdict = self.run.verdict
        return self.run.is_right and verdict.sent == verdict.counted and not self.wrong

    @property
    def last_line(self) -> str:
        """The result in one line."""
        of = self.run.verdict
        return f"sent {of.sent} counted {of.counted} lost {of.lost} double {of.double}"


class Drill:
    """A drill and, while it runs, how it stands.

    Args:
        targets: what to kill, in an order that `plan.seed` decides, `rounds` times each.
        ready_urls: base URLs of all workers.
        say: told of each kill and recovery.
    Attributes:
        sent: values of the requests started so far.
        up: whether each of `ready_urls` answered that it was ready when last looked.
    """

    def __init__(self, targets: Sequence[Target], ready_urls: Sequence[str], plan: Plan, rounds: int, say: Say) -> None:
        self.phase = "starting"
        self.fault = ""
        self.sent = 0
        self.up = dict.fromkeys(ready_urls, False)
        self.ledger = Ledger()
        self.kills: list[Kill] = []
        self.probe: Probe | None = None
        self.started = time.monotonic()
        self._targets = list(targets)
        self._plan = plan
        self._rounds = rounds
        self._say = say
        self._chance = random.Random(plan.seed)
        self._over = asyncio.Event()

    @property
    def accepted(self) -> int:
        """Values accepted so far."""
        return self.ledger.count(Outcome.OK)

    @property
    def counted(self) -> int:
        """Values known to be counted so far; each key is asked for in turn, so this lags."""
        return sum(self.probe.counted.values()) if self.probe else 0

    async def run(self) -> Drilled:
        """The result, when everything is over.

        Raises:
            ClientError: the service cannot be reached at all, or does not answer queries any more.
            DrillError: a process to be killed is not ours, or is none.
        """
        async with self._session() as session:
            probe = self.probe = Probe(session, self._plan.asked)
            async with asyncio.TaskGroup() as tasks:
                load = perform(self._plan, until=self._over, progress=self._progress, ledger=self.ledger)
                loading = tasks.create_task(load)
                tasks.create_task(probe.run(lambda: self.ledger.counts(Outcome.OK), self._over))
                tasks.create_task(self._watch(session))
                tasks.create_task(self._kill_in_turn(session, probe))
        return self._result(loading.result(), probe)

    def _result(self, run: Run, probe: Probe) -> Drilled:
        ends = [kill.at + (WHOLE_S if kill.whole_s is None else kill.whole_s) for kill in self.kills]
        kills = [(kill, probe.availability(kill.at, end)) for kill, end in zip(self.kills, ends, strict=True)]
        failed = [f"{kill.name} killed: not itself again in {WHOLE_S:g} s" for kill in self.kills if not kill.whole_s]
        return Drilled(run, tuple(kills), probe.availability(), (*failed, *probe.wrong))

    async def _kill_in_turn(self, session: aiohttp.ClientSession, probe: Probe) -> None:
        try:
            self.phase = "warming up"
            async with asyncio.timeout(WHOLE_S):
                await self._until_ready(session)
                await self._until_all_counted(probe)
            for target in self._turns():
                self.phase = "under load"
                await asyncio.sleep(self._chance.uniform(*PAUSE_S))
                kill = await self._kill(target, session, probe)
                self.kills.append(kill)
                if kill.whole_s is None:
                    return
        except TimeoutError:
            raise ClientError(f"not ready, or not counting what it accepts, within {WHOLE_S:g} s") from None
        finally:
            self._over.set()

    def _turns(self) -> Iterator[Target]:
        for _ in range(self._rounds):
            # the workers first: Kafka's death is felt by all of them
            yield from sorted(self._targets, key=lambda target: (target.kind == "kafka", self._chance.random()))

    async def _kill(self, target: Target, session: aiohttp.ClientSession, probe: Probe) -> Kill:
        pid, at = target.kill(), time.monotonic()
        self.phase, self.fault = "recovering", f"{target.name} (pid {pid}) killed"
        self._say(f"{self.clock} {target.name} (pid {pid}) killed with SIGKILL")
        ready_s = whole_s = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WHOLE_S):
                while target.pid() in (None, pid):
                    await asyncio.sleep(LOOK_S)
                await self._until_ready(session)
                ready_s = time.monotonic() - at
                await self._until_all_counted(probe)
                whole_s = time.monotonic() - at
        self.fault = ""
        self._say(f"{self.clock} {target.name} {_spoken(ready_s, whole_s)}")
        return Kill(target.name, pid, at, ready_s, whole_s)

    @property
    def clock(self) -> str:
        """Time since the start, m:ss."""
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        return f"{minutes}:{seconds:02}"

    async def _until_ready(self, session: aiohttp.ClientSession) -> None:
        while not await self._look(session):
            await asyncio.sleep(LOOK_S)

    async def _until_all_counted(self, probe: Probe) -> None:
        """Waits until something more is accepted, and then for all that is accepted by then to be in the answers."""
        before = self.accepted
        while self.accepted == before:
            await asyncio.sleep(LOOK_S)
        left = self.ledger.counts(Outcome.OK)
        while left:
            found = await probe.counts(left)
            left = type(left)({each: count for each, count in left.items() if found.get(each, 0) < count})
            await asyncio.sleep(LOOK_S if left else 0)

    async def _watch(self, session: aiohttp.ClientSession) -> None:
        while not self._over.is_set():
            await self._look(session)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), LOOK_S)

    async def _look(self, session: aiohttp.ClientSession) -> bool:
        found = await asyncio.gather(*(_is_ready(session, url) for url in self.up))
        self.up.update(zip(self.up, found, strict=True))
        return all(found)

    def _progress(self, title: str, total: int) -> AbstractContextManager[Advance]:
        @contextmanager
        def opened() -> Iterator[Advance]:
            if title.startswith("reading"):
                self.phase = title
                yield lambda done: None
            else:
                yield self._on_sent

        return opened()

    def _on_sent(self, requests: int) -> None:
        self.sent = requests * self._plan.batch

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        try:
            async with aiohttp.ClientSession() as session:
                yield session
        except BaseExceptionGroup as group:
            raise _first(group) from group


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=LOOK_TIMEOUT_S)
    try:
        async with session.get(f"{url.rstrip('/')}/readyz", timeout=timeout) as reply:
            return reply.status == HTTPStatus.OK
    except (aiohttp.ClientError, TimeoutError):
        return False


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _spoken(ready_s: float | None, whole_s: float | None) -> str:
    if ready_s is None:
        return f"not ready again in {WHOLE_S:g} s"
    if whole_s is None:
        return f"ready again after {ready_s:.1f} s, but not all accepted was counted in {WHOLE_S:g} s"
    return f"ready again after {ready_s:.1f} s, all accepted counted after {whole_s:.1f} s"
