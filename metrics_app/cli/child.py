"""Keeps one program running: starts and probes it, starts it again when it dies or hangs, and stops it when told to.

Called by `drill`, `stages`, `supervisor`, `up` and `verify.private_up`.

Unlike `verify.running`, which runs a process once for a drill, a test or a benchmark, this one starts it again.

No trouble around it may end the supervisor: a disk without space, a full process table or a log that cannot be written
is reported, waited out, and tried again.

Child processes that do not outlive us, not even when we are killed with SIGKILL.

Linux only (`PR_SET_PDEATHSIG`); elsewhere a killed parent leaves its children behind, and the next start says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from metrics_app.cli.reasons import rotate, tail, why_it_ended
from metrics_app.errors import ProcessError

CRASHES = 5
CRASH_WINDOW_S = 60.0
PROBE_INTERVAL_S = 0.1
LOOK_INTERVAL_S = 1.0
CANCEL_AGAIN_S = 1.0
START_S = 120.0  # without a sign of life before it is ready: a machine may be busy, and a start is long
SAY_AGAIN_S = 30.0
MB = 1 << 20
NO_SPACE = ("No space left on device", "Disk quota exceeded")

Say = Callable[[str], None]
Probe = Callable[[int], Awaitable[bool]]


class RestartPace(NamedTuple):
    """Times and bounds that a child is kept by.

    Attributes:
        first_backoff_s: pause before the first restart; it doubles up to `last_backoff_s`.
        silence_s: time without a sign of life after which it is started again, once it was ready.
        free_mb: disk space without which it is not started.
    """

    first_backoff_s: float = 0.5
    last_backoff_s: float = 10.0
    silence_s: float = 30.0
    free_mb: int = 0


async def _always(_pid: int) -> bool:
    return True


@dataclass(frozen=True)
class Program:
    """What to run, and how to tell how it is. Probes get the process id, as others may answer in its place.

    Attributes:
        is_ready: whether it can work now.
        is_alive: whether it is more than a process that exists.
        environment: added to our own at each start; when it changes, the program is started again.
        hopeless: the exit codes with which it says that a new start will not help.
    """

    name: str
    command: Sequence[str]
    is_ready: Probe
    is_alive: Probe = _always
    environment: Callable[[], Mapping[str, str]] = dict
    hopeless: Container[int | None] = ()


class ChildEnd(NamedTuple):
    """How a run ended: exit code, None when it did not even begin, and the reason as far as it is known."""

    status: int | None
    reason: str

    def __str__(self) -> str:
        ended = "cannot be started" if self.status is None else describe(self.status)
        return f"{ended}: {self.reason}" if self.reason else ended

    @property
    def for_want_of_space(self) -> bool:
        """Whether it may go on as soon as there is space."""
        return any(sign in self.reason for sign in NO_SPACE)


class Child:
    """One program, kept running until cancelled, then stopped with `stop`."""

    def __init__(self, program: Program, folder: Path, say: Say, pace: RestartPace, grace_s: float) -> None:
        self.program = program
        self.name = program.name
        self.log = folder / "logs" / f"{program.name}.log"
        self.pid_file = folder / "run" / f"{program.name}.pid"
        self.ready = asyncio.Event()
        self._folder = folder
        self._say = say
        self._pace = pace
        self._grace_s = grace_s
        self._process: asyncio.subprocess.Process | None = None
        self._environment: Mapping[str, str] = {}
        self._log_from = 0
        self._probe_failed = ""

    async def keep(self) -> None:
        """Runs the program over and over; returns never.

        Raises:
            ProcessError: it has said that a new start will not help, or keeps dying and has never been ready.
        """
        deaths: deque[float] = deque(maxlen=CRASHES)
        has_been_ready = False
        backoff_s = self._pace.first_backoff_s
        while True:
            await self._await_space()
            end = await self._run_once()
            if end.status in self.program.hopeless and not end.for_want_of_space:
                raise self._given_up(self.name, end)
            if self.ready.is_set():
                self.ready.clear()
                has_been_ready = True
                backoff_s = self._pace.first_backoff_s
            elif not has_been_ready and not end.for_want_of_space:
                deaths.append(time.monotonic())
            if len(deaths) == CRASHES and deaths[-1] - deaths[0] < CRASH_WINDOW_S and not has_been_ready:
                raise self._given_up(f"{self.name} keeps dying", end)
            self._say(f"{self.name} {end}; starting it again in {backoff_s:g} s")
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, self._pace.last_backoff_s)

    async def stop(self) -> None:
        """Ends the process: SIGTERM, and SIGKILL to its whole group when it is still there after its grace."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._grace_s)
        except TimeoutError:
            self._say(f"{self.name} did not stop within {self._grace_s:g} s; killed")
            await self._kill(process)
        self._forget()

    async def _kill(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    async def _await_space(self) -> None:
        said = -math.inf
        while (free_mb := shutil.disk_usage(self._folder).free / MB) < self._pace.free_mb:
            if time.monotonic() - said >= SAY_AGAIN_S:
                self._say(
                    f"{self.name} waits for disk space: {self._folder} has {free_mb:.0f} MB, and {self._pace.free_mb} "
                    "MB are needed to start; delete something there, and it goes on by itself"
                )
                said = time.monotonic()
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def _run_once(self) -> ChildEnd:
        self._environment = self.program.environment()
        try:
            process = self._process = await self._spawn()
        except OSError as error:
            return ChildEnd(None, f"{error.strerror}: {error.filename}" if error.filename else str(error))
        watching = asyncio.create_task(self._watch(process))
        try:
            status = await process.wait()
        finally:
            await cancel([watching])
        self._forget()
        return ChildEnd(status, why_it_ended(self.log, self._log_from))

    async def _spawn(self) -> asyncio.subprocess.Process:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        rotate(self.log)
        with self.log.open("ab") as log:
            self._log_from = log.tell()
            return await asyncio.create_subprocess_exec(
                *self.program.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
                start_new_session=True,  # Ctrl-C reaches only us, so that the order of stopping is ours
                preexec_fn=dies_with_parent(),
            )

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Notes its process id, says when it is ready, and ends it when it must be started again."""
        alive_at, noted = time.monotonic(), False
        while True:
            noted = noted or self._note(process.pid)
            if not self.ready.is_set() and await self._says(self.program.is_ready, process.pid):
                self.ready.set()
                self._say(f"{self.name} is ready")
            patience_s = self._pace.silence_s if self.ready.is_set() else max(START_S, self._pace.silence_s)
            if await self._says(self.program.is_alive, process.pid):
                alive_at = time.monotonic()
            elif time.monotonic() - alive_at > patience_s:
                self._say(f"{self.name} gave no sign of life for {patience_s:g} s; killed")
                return await self._kill(process)
            if self.program.environment() != self._environment:
                self._say(f"{self.name} is stopped, as what it was started with has changed")
                return await self._end_in_order(process)
            await asyncio.sleep(LOOK_INTERVAL_S if self.ready.is_set() else PROBE_INTERVAL_S)

    async def _says(self, probe: Probe, pid: int) -> bool:
        """What a probe says. One that fails itself says no; nobody else would hear of it."""
        try:
            return await probe(pid)
        except Exception as error:
            if self._probe_failed != (failure := repr(error)):
                self._probe_failed = failure
                self._say(f"{self.name} cannot be probed: {failure}")
            return False

    async def _end_in_order(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.sleep(self._grace_s)  # who watches for the end of the process cancels us
        await self._kill(process)

    def _note(self, pid: int) -> bool:
        try:
            self.pid_file.parent.mkdir(parents=True, exist_ok=True)
            self.pid_file.write_text(f"{pid}\n")
        except OSError:  # tried again: what is kept does not depend on it
            return False
        return True

    def _given_up(self, what: str, end: ChildEnd) -> ProcessError:
        return ProcessError(what, end.status, end.reason, self.log, tail(self.log, self._log_from))

    def _forget(self) -> None:
        self._process = None
        with contextlib.suppress(OSError):
            self.pid_file.unlink(missing_ok=True)


async def cancel(tasks: Sequence[asyncio.Task[object]]) -> None:
    """Ends the tasks; their results, errors included, are dropped. One that swallows it is cancelled again."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


def describe(status: int) -> str:
    """How a process ended, in words, from its return code."""
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with code {status}"


PR_SET_PDEATHSIG = 1  # linux/prctl.h


def dies_with_parent() -> Callable[[], None] | None:
    """A `preexec_fn` that makes the kernel kill the child as soon as the thread that started it has ended.

    Start such children from the main thread: the kernel watches the thread that forked. None where there is no prctl.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(
        None, use_errno=True
    ).prctl  # looked up before the fork: the child must not take the import lock
    parent = os.getpid()

    def watch_parent() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return watch_parent
