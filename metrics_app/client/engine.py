"""Puts the parts of a client together and runs its two threads.

Called by `client`.

    app's threads -> intake -> [gathering thread: numbers, series, batches] -> buffer -> [sending thread] -> collectors

The gathering never waits for the network, so what the app's threads leave is taken away whatever the collectors do.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from metrics_app.client import signals
from metrics_app.client.buffer import MAX_ITEMS, Batch, Buffer, Waiting
from metrics_app.client.contents import Tidings
from metrics_app.client.delivery import Delivery
from metrics_app.client.gathering import Gathering
from metrics_app.client.intake import Intake
from metrics_app.client.options import Dropped, Options, Stats, states
from metrics_app.client.outcome import BatchOutcome, Skew
from metrics_app.client.transport import Addresses, Transport
from metrics_app.credentials import NO_CREDENTIALS, Credentials

if TYPE_CHECKING:
    from metrics_app.client.spool import Spool

logger = logging.getLogger("metrics_app.client")

THREADS = ("gather", "send")
TICK_S = 0.05
HASTE_S = 60.0  # after a signal to end, what is recorded is sent with the next tick for so long


class Engine:
    """Everything of a client but its intake. It belongs to one process: after a fork another one is made."""

    def __init__(
        self,
        intake: Intake,
        urls: Sequence[str],
        options: Options,
        clock: Callable[[], int],
        credentials: Credentials = NO_CREDENTIALS,
    ) -> None:
        self._intake = intake
        self._options = options
        self._addresses = Addresses(urls, options.backoff_first_s, options.backoff_max_s)
        self._dropped = Dropped()
        self._spool = _spool(options)
        tidings = Tidings()
        self._buffer = _buffer(options, self._dropped, self._spool, tidings)
        self._gathering = Gathering(options)
        transport = Transport(options.headers, options.connect_timeout_s, clock, credentials)
        self._outcome = BatchOutcome(
            self._buffer,
            self._dropped,
            tidings,
            Skew(options.clock_tolerance_s),
            clock,
            self._instead,
            self._turn,
            self._void,
        )
        self._delivery = Delivery(self._addresses, transport, self._buffer, self._dropped, self._outcome, options)
        self._one_gathers = threading.Lock()
        self._one_starts = threading.Lock()
        self._stopping = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._explained: set[str] = set()
        self._recorded = self._recovered = 0
        self._waiting_since = 0.0
        self._hasty_until = 0.0
        self._confessed = 0

    def relieve(self) -> None:
        """Starts missing threads, and gathers unless another thread is gathering; never blocks, never raises."""
        self.start()
        with signals.undisturbed():  # a handler that sends what waits must not find this half done
            if self._one_gathers.acquire(blocking=False):
                try:
                    self._gather(seal=False)
                finally:
                    self._one_gathers.release()

    def start(self) -> None:
        """Starts the threads once; if a thread cannot be started now, the next call tries again."""
        if len(self._threads) == len(THREADS) or self._stopping.is_set():
            return
        if not self._one_starts.acquire(blocking=False):
            return
        try:
            for name, run in zip(THREADS, (self._keep_gathering, self._delivery.run), strict=True):
                if name not in self._threads:
                    thread = threading.Thread(target=run, name=f"metrics-{name}", daemon=True)
                    thread.start()
                    self._threads[name] = thread
        except RuntimeError as error:  # no more threads, or the interpreter is ending
            self._explain("thread", f"values are only kept, not sent: {error}")
        finally:
            self._one_starts.release()

    def open(self) -> None:
        """Opens the spool, so that an unusable folder is reported now, and starts the threads.

        Raises:
            OSError: it cannot.
        """
        if self._spool is not None:
            self._spool.open()
        self.start()

    def flush(self, timeout_s: float) -> bool:
        """Sends all recorded values; False when the time was too short, or a drop was not yet reported by a flush."""
        until = monotonic() + timeout_s
        self.start()
        gathered = self._gather_all(timeout_s)
        empty = gathered and self._buffer.wait_empty(max(0.0, until - monotonic()))
        lost = self._dropped.lost
        if not empty or lost == self._confessed:
            return empty
        self._confessed = lost
        return False

    def hurry(self, within_s: float) -> None:
        """Starts to send all values at once, ignoring backoff and pace: the process may be about to end."""
        self._gather_all(within_s)
        self._hasty_until = monotonic() + HASTE_S
        self._delivery.hurry(within_s, ends=False)

    def settle(self, until: float) -> None:
        """Waits until the sending that `hurry` started has ended, at most until that monotonic time."""
        while self._is_sending and self._delivery.hurries and monotonic() < until:
            if self._buffer.wait_empty(min(TICK_S, until - monotonic())):
                break

    @property
    def _is_sending(self) -> bool:
        return "send" in self._threads and self._threads["send"].is_alive()

    def stop(self, within_s: float) -> None:
        """Starts to send the waiting values, and makes the threads end within so many seconds; returns at once."""
        self._gather_all(within_s)
        self._stopping.set()
        self._delivery.hurry(within_s, ends=True)

    def join(self, timeout_s: float) -> None:
        """Waits until the threads have ended; sends in this thread if none could be started."""
        until = monotonic() + timeout_s
        if "send" not in self._threads and len(self._buffer):
            self._delivery.run()
        for thread in self._threads.values():
            thread.join(max(0.0, until - monotonic()))
        if self._spool is not None:
            self._spool.close()
        if self._buffer.count and "end" not in self._explained:  # a client that was closed ends with its process again
            self._explained.add("end")
            where = "lost" if self._spool is None else "left in the spool"
            logger.warning("%s values that were not sent before the end are %s", self._buffer.count, where)

    def stats(self) -> Stats:
        """Counts as of now."""
        if self._one_gathers.acquire(blocking=False):  # else it is just being done; once closed nobody else does it
            try:
                self._note_faults()
            finally:
                self._one_gathers.release()
        delivery, buffer = self._delivery, self._buffer
        return Stats(
            recorded=self._recorded,
            recovered=self._recovered,
            sent=self._outcome.sent,
            waiting=buffer.count,
            waiting_bytes=buffer.bytes,
            dropped=dict(self._dropped.total),
            batches=delivery.batches,
            retries=delivery.retries,
            sender=str(self._gathering.numbering.sender),
            addresses=states(self._addresses.all),
        )

    def abandon(self) -> None:
        """Closes the parent's spool files in the child of a fork."""
        if self._spool is not None:
            self._spool.abandon()

    def _keep_gathering(self) -> None:
        if self._spool is not None:
            try:
                self._take_over(self._spool)
            except Exception:
                logger.exception("what earlier processes left in the spool is not sent")
        while not self._stopping.wait(TICK_S):
            with self._one_gathers:
                self._gather(seal=self._is_due(monotonic()))

    def _take_over(self, spool: Spool) -> None:
        left_behind = spool.left_behind()
        for batch in left_behind:
            self._recovered += batch.count
            self._buffer.put(batch)
        if left_behind:
            self._delivery.pace.recovered(self._recovered, monotonic())
            logger.info("%s values that an earlier process left in the spool are sent", self._recovered)

    def _gather_all(self, timeout_s: float) -> bool:
        with signals.undisturbed():
            if not self._one_gathers.acquire(timeout=max(0.0, timeout_s)):
                return False
            try:
                self._gather(seal=True)
            finally:
                self._one_gathers.release()
        return True

    def _gather(self, seal: bool) -> None:
        try:
            count = 0
            for taken in self._intake.collect():
                self._gathering.add(taken)
                count += len(taken.values)
            self._recorded += count
            now = monotonic()
            self._delivery.pace.came_in(count, now)
            self._note_faults()
            if seal or self._gathering.values >= MAX_ITEMS:
                for batch in self._gathering.seal():
                    self._keep(batch)
                self._waiting_since = 0.0
        except Exception:
            logger.exception("a bug in the client; values may be lost")

    def _is_due(self, now: float) -> bool:
        gathering, options = self._gathering, self._options
        if gathering.empty:
            return False
        if now < self._hasty_until:
            return True
        self._waiting_since = self._waiting_since or now
        if now - self._waiting_since >= options.interval_s:
            return True
        # more batches than can be sent would only be smaller ones
        return gathering.values >= options.batch_values and not len(self._buffer)

    def _keep(self, batch: Batch) -> None:
        self._buffer.make_room(batch.items, batch.size)
        for kept in self._kept(batch):
            self._buffer.put(kept)

    def _instead(self, batches: Sequence[Batch]) -> None:
        self._buffer.swap([kept for batch in batches for kept in self._kept(batch)])

    def _kept(self, batch: Batch) -> list[Waiting]:
        kept = batch if self._spool is None else self._spool.keep(batch)
        if kept is not None:
            return [kept]
        self._dropped.total["disk"] += batch.count
        self._outcome.tidings.note(batch)
        return []

    def _turn(self, ahead_s: float) -> None:
        self._intake.set_ahead(int(ahead_s * 1e9))

    def _void(self, hour: int) -> None:
        self._gathering.numbering.void(hour)

    def _note_faults(self) -> None:
        for reason, detail in self._intake.faults():
            self._dropped.total[reason] += 1
            self._explain(reason, f"a value is left out: {detail}")

    def _explain(self, about: str, text: str) -> None:
        if about not in self._explained:
            self._explained.add(about)
            logger.warning("%s; from now on such are only counted (%s)", text, about)


def _buffer(options: Options, dropped: Dropped, spool: Spool | None, tidings: Tidings) -> Buffer:
    if spool is None:
        return Buffer(options.max_values, options.max_bytes, dropped.total, lost=tidings.note)
    return Buffer(sys.maxsize, spool.room_bytes, dropped.total, spool.let_go, tidings.note)


def _spool(options: Options) -> Spool | None:
    if options.spool is None:
        return None
    try:
        from metrics_app.client.spool import Spool  # here, because Windows has no locks of the kind it needs
    except ImportError:
        raise ValueError("spool: needs a POSIX system") from None
    return Spool(Path(options.spool), options.spool_bytes, options.max_bytes, options.spool_sync)
