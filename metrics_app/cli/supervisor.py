"""Keeps child processes alive: starts them in stages, restarts what dies, stops them in reverse order.

Each child has a log, `logs/<name>.log`, and, while it runs, its process id in `run/<name>.pid`, both below one folder.
A child that dies `CRASHES` times within `CRASH_WINDOW_S` without ever being ready in between ends the supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from metrics_app.cli.lifeline import dies_with_parent
from metrics_app.errors import ProcessError, SettingsError

FIRST_BACKOFF_S = 0.5
LAST_BACKOFF_S = 10.0
CRASHES = 5
CRASH_WINDOW_S = 60.0
PROBE_INTERVAL_S = 0.1
CANCEL_AGAIN_S = 1.0
MAX_LOG_BYTES = 20 << 20  # a log larger than this is set aside as <name>.log.1 when its child is next started
TAIL_LINES = 15
TAIL_BYTES = 16 << 10

Say = Callable[[str], None]


@dataclass(frozen=True)
class Program:
    """What to run, and how to tell that it is ready to work.

    Attributes:
        environment: added to our own.
        hopeless: the exit code with which it says that a new start will not help.
    """

    name: str
    command: Sequence[str]
    is_ready: Callable[[], Awaitable[bool]]
    environment: Mapping[str, str] = field(default_factory=dict)
    hopeless: int | None = None


class Child:
    """One program, kept running until cancelled, then stopped with `stop`."""

    def __init__(self, program: Program, folder: Path, say: Say, first_backoff_s: float = FIRST_BACKOFF_S) -> None:
        self.program = program
        self.name = program.name
        self.log = folder / "logs" / f"{program.name}.log"
        self.pid_file = folder / "run" / f"{program.name}.pid"
        self.ready = asyncio.Event()
        self._say = say
        self._first_backoff_s = first_backoff_s
        self._process: asyncio.subprocess.Process | None = None

    async def keep(self) -> None:
        """Runs the program over and over; returns never.

        Raises:
            ProcessError: it keeps dying without getting ready, or has said that a new start will not help.
        """
        deaths: deque[float] = deque(maxlen=CRASHES)
        backoff_s = self._first_backoff_s
        while True:
            status = await self._run_once()
            if status == self.program.hopeless:
                raise ProcessError(self.name, status, tail(self.log))
            if self.ready.is_set():
                self.ready.clear()
                deaths.clear()
                backoff_s = self._first_backoff_s
            deaths.append(time.monotonic())
            if len(deaths) == CRASHES and deaths[-1] - deaths[0] < CRASH_WINDOW_S:
                raise ProcessError(self.name, status, tail(self.log))
            self._say(f"{self.name} {describe(status)}; starting it again in {backoff_s:g} s")
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, LAST_BACKOFF_S)

    async def stop(self, grace_s: float) -> None:
        """Ends the process: SIGTERM, and SIGKILL to its whole group when it is still there after `grace_s`."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace_s)
        except TimeoutError:
            self._say(f"{self.name} did not stop within {grace_s:g} s; killed")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        self._forget()

    async def _run_once(self) -> int:
        process = self._process = await self._spawn()
        self.pid_file.write_text(f"{process.pid}\n")
        probing = asyncio.create_task(self._probe())
        try:
            status = await process.wait()
        finally:
            await cancel([probing])
        self._forget()
        return status

    async def _spawn(self) -> asyncio.subprocess.Process:
        rotate(self.log)
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self.program.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.program.environment},
                start_new_session=True,  # Ctrl-C reaches only us, so that the order of stopping is ours
                preexec_fn=dies_with_parent(),
            )

    async def _probe(self) -> None:
        while not await self.program.is_ready():  # noqa: ASYNC110  another process can set no event of ours
            await asyncio.sleep(PROBE_INTERVAL_S)
        self.ready.set()
        self._say(f"{self.name} is ready")

    def _forget(self) -> None:
        self._process = None
        self.pid_file.unlink(missing_ok=True)


class Supervisor:
    """Children in stages: a stage starts when the one before is ready, and stops before it."""

    def __init__(
        self,
        stages: Sequence[Sequence[Program]],
        folder: Path,
        say: Say,
        grace_s: float,
        first_backoff_s: float = FIRST_BACKOFF_S,
    ) -> None:
        self.stages = [[Child(program, folder, say, first_backoff_s) for program in stage] for stage in stages]
        self._grace_s = grace_s
        for name in ("logs", "run"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Runs everything until `stop` is set; calls `on_ready` once, when all children have become ready.

        Raises:
            ProcessError: a child keeps dying without getting ready; the others have been stopped.
        """
        keeping: list[asyncio.Task[None]] = []
        starting = asyncio.create_task(self._start(keeping, on_ready))
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stopping.done():
                watched = {stopping, *keeping, *([] if starting.done() else [starting])}
                timeout = None if starting.done() else PROBE_INTERVAL_S  # `keeping` grows while starting
                done, _ = await asyncio.wait(watched, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {stopping}:
                    task.result()
        finally:
            await cancel([starting, stopping, *keeping])
            for stage in reversed(self.stages):
                await asyncio.gather(*(child.stop(self._grace_s) for child in stage))

    async def _start(self, keeping: list[asyncio.Task[None]], on_ready: Callable[[], None]) -> None:
        for stage in self.stages:
            keeping.extend(asyncio.create_task(child.keep()) for child in stage)
            for child in stage:
                await child.ready.wait()
        on_ready()


async def cancel(tasks: Sequence[asyncio.Task[object]]) -> None:
    """Ends the tasks; their results, errors included, are dropped. One that swallows it is cancelled again."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Holds the folder for this process; released by the kernel when it ends, however it ends.

    Raises:
        SettingsError: another supervisor uses the folder now.
    """
    try:
        (folder / "run").mkdir(parents=True, exist_ok=True)
        file = (folder / "run" / "up.lock").open("w")
    except OSError as error:
        raise SettingsError([f"data folder {folder} cannot be used: {error}"]) from error
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError([f"data folder {folder}: another `metrics-app up` is using it"]) from None
        yield


def is_in_use(folder: Path) -> bool:
    """Whether a supervisor uses the folder now."""
    try:
        with (folder / "run" / "up.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def describe(status: int) -> str:
    """How a process ended, in words, from its return code."""
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with code {status}"


def tail(log: Path, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log; empty when there is none."""
    if not log.exists():
        return []
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return stream.read().decode(errors="replace").splitlines()[-lines:]


def rotate(log: Path) -> None:
    """Sets a log that has grown too large aside, over the one set aside before."""
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
