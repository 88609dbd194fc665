"""Keeps child processes alive: starts them in stages, restarts what dies, stops them in reverse order.

Called by `drill` and `up`.

Each child has a log, `logs/<name>.log`, and, while it runs, its process id in `run/<name>.pid`, both below one folder.
What once was ready is started again as often as it takes. One that never was, and dies `CRASHES` times within
`CRASH_WINDOW_S`, ends the supervisor, and so does one that says that a new start will not help.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from metrics_app.cli.child import PROBE_INTERVAL_S, Child, Program, RestartPace, Say, cancel
from metrics_app.errors import SettingsError


class Supervisor:
    """Children in stages: a stage starts when the one before is ready, and stops before it."""

    def __init__(
        self,
        stages: Sequence[Sequence[Program]],
        folder: Path,
        say: Say,
        grace_s: float,
        pace: RestartPace,
    ) -> None:
        self.stages = [[Child(program, folder, say, pace, grace_s) for program in stage] for stage in stages]

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Runs everything until `stop` is set; calls `on_ready` once, when all children have become ready.

        Raises:
            ProcessError: a child cannot go on, or keeps dying and never was ready; the others have been stopped.
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
                await asyncio.gather(*(child.stop() for child in stage))

    async def _start(self, keeping: list[asyncio.Task[None]], on_ready: Callable[[], None]) -> None:
        for stage in self.stages:
            keeping.extend(asyncio.create_task(child.keep()) for child in stage)
            for child in stage:
                await child.ready.wait()
        on_ready()


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
