"""`python -m tests.faults.dying <arguments>`: metrics-app whose end goes wrong, as the word in DYING says."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import faust

from metrics_app.__main__ import run
from metrics_app.app import MetricsApp

DYING = "DYING"
BLOCKED = "nothing goes on from here"


class BlockedHandler(logging.Handler):
    """A log whose reader has stopped reading."""

    def emit(self, record: logging.LogRecord) -> None:
        """Blocks as soon as the stop begins."""
        if "stopping" in record.getMessage().lower():
            time.sleep(3600)


async def _never() -> None:
    print(BLOCKED, file=sys.stderr, flush=True)
    await _stubborn()


async def _stubborn() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


def _spin() -> None:
    print(BLOCKED, file=sys.stderr, flush=True)
    while True:
        pass


def _sleep() -> None:
    print(BLOCKED, file=sys.stderr, flush=True)
    time.sleep(3600)


async def _raise() -> None:
    raise OSError(24, "Too many open files")


async def _exit() -> None:
    raise SystemExit(5)


async def _block() -> None:
    time.sleep(3600)  # noqa: ASYNC251  that is the fault


def _in_stop(act: Any) -> None:
    async def on_stop(self: MetricsApp) -> None:
        await act()

    MetricsApp.on_stop = on_stop  # type: ignore[method-assign]


def _after_start(act: Callable[[], Any]) -> None:
    on_first_start = MetricsApp.on_first_start

    async def started(self: faust.App) -> None:
        await on_first_start(self)
        asyncio.get_running_loop().call_soon(act)

    MetricsApp.on_first_start = started  # type: ignore[method-assign]


def _in_start(act: Any) -> None:
    async def on_first_start(self: faust.App) -> None:
        await act()

    MetricsApp.on_first_start = on_first_start  # type: ignore[method-assign]


def _block_log() -> None:
    logging.getLogger("metrics_app").addHandler(BlockedHandler())


def _crash_and_raise() -> None:
    _in_start(_raise)
    _in_stop(_raise)


def _stubborn_task_and_raise() -> None:
    _after_start(lambda: asyncio.get_running_loop().create_task(_stubborn()))
    _in_stop(_raise)


# what goes wrong, by word
FAULTS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "stop-raises": lambda: _in_stop(_raise),
    "stop-raises-among-tasks-that-swallow-cancellation": _stubborn_task_and_raise,
    "stop-exits": lambda: _in_stop(_exit),
    "stop-never-ends": lambda: _in_stop(_stubborn),
    "stop-blocks": lambda: _in_stop(_block),
    "loop-spins": lambda: _after_start(_spin),
    "loop-sleeps": lambda: _after_start(_sleep),
    "log-blocks": _block_log,
    "thread-stays": lambda: threading.Thread(target=time.sleep, args=(3600,)).start(),
    "hook-stays": lambda: atexit.register(time.sleep, 3600),
    "start-never-ends": lambda: _in_start(_never),
    "start-raises": lambda: _in_start(_raise),
    "start-exits": lambda: _in_start(_exit),
    "start-and-stop-raise": _crash_and_raise,
}


if __name__ == "__main__":
    FAULTS[os.environ[DYING]]()
    run()
