"""The sending thread: sends the waiting batches one after another, for as long as it takes.

Called by `engine`.

How fast a backlog is sent after an outage: all clients come back at once, and the service must survive it.
"""

from __future__ import annotations

import logging
import threading
import time
from time import monotonic

from metrics_app.client.buffer import Batch, Buffer, Waiting
from metrics_app.client.contents import as_series
from metrics_app.client.options import Dropped, Options
from metrics_app.client.outcome import BatchOutcome
from metrics_app.client.transport import Addresses, Attempt, CollectorAddress, Result, RetryBudget, Transport
from metrics_app.wire.dropped import header_of

logger = logging.getLogger("metrics_app.client")

IDLE_S = 10.0
DISK_PAUSE_S = 0.2
DOUBTS = 5  # attempts to send a batch until what may be the moment's fault is taken for the batch's


class Delivery:
    """Takes batches from the buffer to the collectors.

    Attributes:
        batches, retries: batches accepted, attempts that were not a batch's first.
    """

    def __init__(
        self,
        addresses: Addresses,
        transport: Transport,
        buffer: Buffer,
        dropped: Dropped,
        outcome: BatchOutcome,
        options: Options,
    ):
        self._addresses = addresses
        self._transport = transport
        self._buffer = buffer
        self._dropped = dropped
        self._outcome = outcome
        self._options = options
        self._budget = RetryBudget(options.retry_share)
        self._in_hurry = threading.Event()
        self._hurry_until = 0.0
        self._hurry_number = self._number_of_attempt = 0
        self._ends = False
        self._last_chances: set[str] = set()
        self._tried: object = None
        self._doubts = 0
        self._tells = True
        self.pace = Pace(options.catch_up)
        self.batches = self.retries = 0

    @property
    def hurries(self) -> bool:
        """Whether waiting batches are sent at once, ignoring backoff and pace."""
        return bool(self._last_chances) and monotonic() < self._hurry_until

    @property
    def _is_over(self) -> bool:
        return self._ends and not self.hurries

    def run(self) -> None:
        """Sends batches until `hurry(ends=True)` was called and either all is sent or its time is over."""
        while not self._is_over:
            owes = self._tells and self._outcome.tidings.owed
            waiting = self._buffer.take(0.0 if owes else IDLE_S)
            if waiting is None and not owes:
                if self._ends:
                    break
                continue
            try:
                self._send(waiting)
            except Exception:
                logger.exception("a batch is dropped: a bug in the client")
                if waiting is not None:
                    self._outcome.drop("bug", waiting)
                self._outcome.tidings.told()
        self._transport.close()

    def hurry(self, within_s: float, ends: bool) -> None:
        """Sends waiting batches at once, ignoring backoff and pace, for at most so many seconds.

        It is over sooner when every address has failed once more: a process need not wait for a service that is away.

        Args:
            ends: whether nothing is sent after it.
        """
        if ends and len(self._buffer) > 1:
            self._outcome.announce()
        self._hurry_number += 1
        self._hurry_until = monotonic() + within_s
        self._last_chances = {address.url for address in self._addresses.all}
        for address in self._addresses.all:
            address.not_before = 0.0
        self._ends = self._ends or ends
        self._in_hurry.set()
        if ends:
            self._buffer.wake()

    def _send(self, waiting: Waiting | None) -> None:
        now = monotonic()
        address = self._addresses.pick(now)
        pause_s = self._addresses.wait_s(now) if address is None else self.pace.wait_s(now)
        hurries = self.hurries
        if address is not None and (hurries or not pause_s):
            if self._has_told(address) and waiting is not None:
                self._try(waiting, address, now)
            return
        self._buffer.give_back()
        if hurries:
            time.sleep(max(0.0, min(pause_s, self._hurry_until - now)))
        elif self._in_hurry.wait(pause_s):
            self._in_hurry.clear()  # noticed: what `hurry` has set is looked at next

    def _has_told(self, address: CollectorAddress) -> bool:
        """Sends the numbers that a collector must be told; False when that failed and the address should be skipped."""
        if not (self._tells and self._outcome.tidings.owed):
            return True
        for batch in self._outcome.tidings.batches():
            attempt = self._attempt(address, batch)
            if attempt.result in (Result.NOT_NOW, Result.UNREACHABLE):
                self._failed(address, attempt)
                return False
            if attempt.result is not Result.TAKEN:
                self._tells = False  # until a batch is taken: what is refused now would be again
                return True
        self._outcome.tidings.told()
        return True

    def _attempt(self, address: CollectorAddress, batch: Batch) -> Attempt:
        self._number_of_attempt = self._hurry_number
        dropped = self._dropped.unreported()
        left_s = self._hurry_until - monotonic() if self._ends else self._options.timeout_s
        timeout_s = max(0.01, min(self._options.timeout_s, left_s))
        attempt = self._transport.send(address.url, batch, timeout_s, header_of(dropped))
        if attempt.heard is not None:
            self._outcome.heard(address, attempt.heard)
        if attempt.result is Result.TAKEN:
            self._dropped.reported(dropped)
        return attempt

    def _try(self, waiting: Waiting, address: CollectorAddress, now: float) -> None:
        batch = self._loaded(waiting)
        if batch is None:
            return
        is_retry = self._tried is waiting
        self.retries += is_retry
        self._doubts = self._doubts if is_retry else 0
        self._tried = waiting
        attempt = self._attempt(address, batch)
        if attempt.result is Result.REFUSED and not attempt.rejected and (series := as_series(batch)) is not None:
            batch, attempt = series, self._attempt(address, series)  # a collector of before tables knows none
        self._doubts += attempt.result is Result.DOUBTFUL
        if attempt.result is Result.TAKEN:
            self._taken(address, batch, attempt)
        elif attempt.result in (Result.REFUSED, Result.TOO_LARGE) or self._doubts >= DOUBTS:
            self._addresses.worked(address)
            self._outcome.refused(batch, address, attempt)
        else:
            self._failed(address, attempt)

    def _loaded(self, waiting: Waiting) -> Batch | None:
        try:
            batch = waiting.load()
        except OSError as error:
            logger.warning("the spool cannot be read now, which is tried again: %s", error)
            self._buffer.give_back()
            time.sleep(DISK_PAUSE_S)
            return None
        if batch is None:
            self._outcome.drop("disk", waiting)
        return batch

    def _taken(self, address: CollectorAddress, batch: Batch, attempt: Attempt) -> None:
        was_away = address.failures > 0
        if was_away:
            logger.warning("%s takes batches again", address.url)
        self._addresses.worked(address)
        self._budget.earn()
        self._tells = True
        self.batches += 1
        self._outcome.taken(batch, address, attempt)
        behind = len(self._buffer) > 0
        if was_away and behind:
            self._outcome.announce()
        self.pace.sent(batch.count, monotonic(), behind)

    def _failed(self, address: CollectorAddress, attempt: Attempt) -> None:
        if not address.failures:
            logger.warning("%s: %s; values are kept and sent later or elsewhere", address.url, attempt.detail)
        # an address where nobody listens costs nobody anything
        patient = attempt.result is not Result.UNREACHABLE and not self._budget.spend()
        now = monotonic()
        self._addresses.failed(address, now, attempt.detail, attempt.retry_after_s, patient)
        self.pace.failed(now)
        self._buffer.give_back()
        if self._number_of_attempt == self._hurry_number:
            self._last_chances.discard(address.url)
        else:  # it was on its way when the hurry began, so its last chance is still to come
            address.not_before = 0.0


LEAST = 10.0  # values per second, however few came in
MEMORY_S = 10.0  # over which the rate of what comes in is averaged
RECOVERED_S = 60.0  # a backlog from the spool is taken to have come in within this time


class Pace:
    """Sends a backlog at most `factor` times as fast as values come in now, or came in while it grew.

    Nothing is held back as long as nothing has failed; when nothing is left, it is over.
    """

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._rate = 0.0
        self._last = 0.0
        self._since: float | None = None  # when the backlog began
        self._backlog = 0
        self._next = 0.0

    def came_in(self, count: int, now: float) -> None:
        """Counts the values recorded since the last call."""
        elapsed = now - self._last
        if self._last and elapsed > 0:
            self._rate += (count / elapsed - self._rate) * min(1.0, elapsed / MEMORY_S)
        self._last = now
        self._backlog += count

    def failed(self, now: float) -> None:
        """Notes that a batch could not be sent: a backlog begins."""
        if self._since is None:
            self._since, self._backlog = now, 0

    def recovered(self, count: int, now: float) -> None:
        """Counts the values found in the spool as a backlog."""
        self._since, self._backlog = now - RECOVERED_S, self._backlog + count

    def sent(self, count: int, now: float, behind: bool) -> None:
        """Counts values that were sent; `behind`: a backlog is left."""
        if self._since is None:
            return
        while_it_grew = self._backlog / max(1.0, now - self._since)
        self._next = now + count / (self._factor * max(LEAST, self._rate, while_it_grew))
        if not behind:
            self._since = None

    def wait_s(self, now: float) -> float:
        """Seconds until the next batch may be sent."""
        return 0.0 if self._since is None else max(0.0, self._next - now)
