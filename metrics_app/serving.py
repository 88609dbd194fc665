"""Runs an app until it is told to stop or crashes. Whatever happens then, the process is gone within its grace.

Called by `cli.roles`.

The end does not depend on what is ending: a thread keeps the deadline, for the event loop may be blocked; the stop is
waited for, not cancelled, for a task may swallow its cancellation; and the process leaves by `os._exit`, past hooks and
threads that would keep it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import sys
import threading
from typing import NamedTuple, NoReturn

from metrics_app import process
from metrics_app.app import MetricsApp
from metrics_app.errors import BrokerError, SettingsError
from metrics_app.kafka import belonging
from metrics_app.logs import configure_logging
from metrics_app.process import EXIT_CRASHED, EXIT_UNUSABLE, LOG_S, leave
from metrics_app.settings import Settings

logger = logging.getLogger(__name__)

GARBAGE_AFTER = 50_000  # objects made beyond those let go of
LOOK_INTERVAL_S = 0.1
MARGIN_S = 1.0  # what the event loop has beyond its grace before the deadline is kept by others


class Ending(NamedTuple):
    """How a process ends: its exit code and the sentence that goes with it."""

    code: int
    why: str


SWITCH_S = 0.0005
REPLAYED = "what was not flushed will be replayed"
STOPPED = Ending(0, "stopped")


def serve(app: MetricsApp, settings: Settings) -> NoReturn:
    """Runs the app until it is asked to stop, then drains it; never returns.

    Exits with 0 after a stop, EXIT_CRASHED when something in it died or the stop failed, EXIT_UNUSABLE when Kafka
    cannot be used as configured.
    """
    configure_logging(settings)
    process.raise_limit()
    belonging.guard(settings)
    # what has been made so far stays; rows in memory are many, and to go through them each 700 objects took a fifth of
    # the time of a fold of many keys
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER, 20, 20)
    # a thread takes large bodies apart; by default the event loop would wait 5 ms for it, several times a request
    sys.setswitchinterval(SWITCH_S)
    loop = asyncio.new_event_loop()
    try:  # not asyncio.run: what it does last is wait for every task to be cancelled
        end = loop.run_until_complete(_run(app, settings))
    except BaseException as error:
        end = Ending(EXIT_CRASHED, f"the worker cannot go on: {error!r}")
    leave(*end)


async def _run(app: MetricsApp, settings: Settings) -> Ending:
    loop = asyncio.get_running_loop()
    deadline = Deadline(settings.stop_grace_s)
    asked = asyncio.Event()

    def stop(name: str) -> None:  # in the thread that hears signals
        deadline.begin(settings.stop_delay_s)
        loop.call_soon_threadsafe(asked.set)
        logger.info("%s: stopping", name)

    def renew() -> None:
        loop.call_soon_threadsafe(_renew, app)

    has_files = settings.tls_cert_file is not None or settings.tokens_file is not None
    process.listen(stop, renew if has_files else None)
    starting = asyncio.create_task(app.start(), name="start")
    crashed = asyncio.create_task(_until_crashed(app, starting))
    await asyncio.wait([asyncio.create_task(asked.wait()), crashed], return_when=asyncio.FIRST_COMPLETED)
    crash = crashed.result() if crashed.done() else None
    if crash is None and not app.health.problems():  # nobody sends anything to one that was not ready
        crash = await go_on_unready(app, crashed, asked, settings.stop_delay_s)
    end = STOPPED if crash is None else _end_of(crash)
    app.health.ending = end.why
    deadline.begin()
    if crash is not None:
        logger.critical("%s", end.why)
    starting.cancel()
    return await _stopped(app, settings.stop_grace_s, end)


def _renew(app: MetricsApp) -> None:
    try:
        app.renew()
    except SettingsError as error:
        logger.error("SIGHUP: the certificates stay as they were: %s", error)


class Deadline:
    """Ends the process some time after `begin`, in whatever state it is."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._begun = threading.Lock()

    def begin(self, delay_s: float = 0.0) -> None:
        """Counts from now on, beginning with a delay; called again, it changes nothing."""
        if not self._begun.acquire(blocking=False):
            return
        left_s = delay_s + self._grace_s + MARGIN_S
        why = f"not stopped {left_s:g} s after it was to end, {REPLAYED}"
        timer = threading.Timer(left_s, leave, (EXIT_CRASHED, why))
        timer.daemon = True
        timer.start()
        # a thread of C, which needs no lock of the interpreter
        faulthandler.dump_traceback_later(left_s + LOG_S + MARGIN_S, exit=True)


async def _stopped(app: MetricsApp, grace_s: float, end: Ending) -> Ending:
    """The end once the app has stopped: another one than it was to be when the stop fails or takes too long."""
    stopping = asyncio.create_task(app.stop(), name="stop")
    await asyncio.wait([stopping], timeout=grace_s)
    if not stopping.done():
        failure = f"not over within {grace_s:g} s"
    elif (error := _error_of(stopping)) is not None:
        failure = repr(error)
    else:
        return end
    return Ending(
        end.code or EXIT_CRASHED, f"{end.why}; the stop failed, what was not flushed will be replayed: {failure}"
    )


async def go_on_unready(
    app: MetricsApp, crashed: asyncio.Task[BaseException | None], asked: asyncio.Event, delay_s: float
) -> BaseException | None:
    """Goes on, not ready, until the delay is over or a stop is asked for again; the reason when the app crashes."""
    app.health.stopping = True
    asked.clear()
    again = asyncio.create_task(asked.wait())
    await asyncio.wait([crashed, again], timeout=delay_s, return_when=asyncio.FIRST_COMPLETED)
    return crashed.result() if crashed.done() else None


async def _until_crashed(app: MetricsApp, starting: asyncio.Task[None]) -> BaseException:
    """Returns the reason when the app has crashed or stopped by itself."""
    while not (app.crashed or app.should_stop):
        if starting.done() and (error := _error_of(starting)) is not None:
            return error
        await asyncio.sleep(LOOK_INTERVAL_S)
    return app.crash_reason or RuntimeError("Faust stopped the app")


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    return asyncio.CancelledError("cancelled") if task.cancelled() else task.exception()


def _end_of(crash: BaseException) -> Ending:
    if isinstance(crash, BrokerError):
        return Ending(EXIT_UNUSABLE, f"the worker cannot go on: {crash}")
    return Ending(EXIT_CRASHED, f"the worker cannot go on: {crash!r}")
