"""Sending what waits, one batch after the other, for as long as it takes: what the sending thread does."""

from __future__ import annotations

import logging
import threading
import time
from time import monotonic

from metrics_app.client.addresses import Address, Addresses, RetryBudget
from metrics_app.client.batch import Batch
from metrics_app.client.buffer import Buffer, Waiting
from metrics_app.client.options import Options
from metrics_app.client.pace import Pace
from metrics_app.client.stats import Dropped
from metrics_app.client.transport import Attempt, Result, Transport
from metrics_app.wire.dropped import header_of

logger = logging.getLogger("metrics_app.client")

IDLE_S = 10.0


class Delivery:
    """Takes batches from the buffer to the collectors.

    Attributes:
        sent, batches, retries: values and batches accepted, attempts that were not a batch's first.
    """

    def __init__(self, addresses: Addresses, transport: Transport, buffer: Buffer, dropped: Dropped, options: Options):
        self._addresses = addresses
        self._transport = transport
        self._buffer = buffer
        self._dropped = dropped
        self._options = options
        self._budget = RetryBudget(options.retry_share)
        self._hurry = threading.Event()
        self._until = float("inf")
        self._last_chances: set[str] = set()
        self._told: set[str] = set()
        self._tried: object = None
        self.pace = Pace(options.catch_up)
        self.sent = self.batches = self.retries = 0

    def run(self) -> None:
        """Sends until the time of `hurry` is over, or all is sent after it."""
        while monotonic() < self._until:
            waiting = self._buffer.take(IDLE_S)
            if waiting is None:
                if self._hurry.is_set():
                    break
                continue
            try:
                self._send(waiting)
            except Exception:
                logger.exception("a batch of %s values is dropped: a bug in the client", waiting.count)
                self._drop("bug", waiting.count)
        self._transport.close()

    def hurry(self, within_s: float) -> None:
        """Sends what waits without regard to backoff and pace, and ends after so many seconds at the latest.

        It ends sooner when every address has failed once more: a process need not wait for a service that is away.
        """
        self._until = monotonic() + within_s
        self._last_chances = {address.url for address in self._addresses.all}
        for address in self._addresses.all:
            address.not_before = 0.0
        self._hurry.set()
        self._buffer.wake()

    def _send(self, waiting: Waiting) -> None:
        now = monotonic()
        address = self._addresses.pick(now)
        pause_s = self._addresses.wait_s(now) if address is None else self.pace.wait_s(now)
        hurries = self._hurry.is_set()
        if address is not None and (hurries or not pause_s):
            self._try(waiting, address, now)
            return
        self._buffer.give_back()
        if hurries:
            time.sleep(max(0.0, min(pause_s, self._until - now)))
        else:
            self._hurry.wait(pause_s)

    def _try(self, waiting: Waiting, address: Address, now: float) -> None:
        batch = waiting.load()
        if batch is None:
            self._drop("disk", waiting.count)
            return
        self.retries += self._tried is waiting
        self._tried = waiting
        dropped = self._dropped.unreported()
        timeout_s = max(0.01, min(self._options.timeout_s, self._until - now))
        attempt = self._transport.send(address.url, batch, timeout_s, header_of(dropped))
        if attempt.result is Result.TAKEN:
            self._dropped.reported(dropped)
            self._taken(address, batch, attempt)
        elif attempt.result is Result.REFUSED:
            self._addresses.worked(address)
            self._say_once(attempt.detail, "%s refused a batch, which is dropped: %s", address.url, attempt.detail)
            self._drop("refused", batch.count)
        else:
            self._failed(address, attempt)

    def _taken(self, address: Address, batch: Batch, attempt: Attempt) -> None:
        if address.failures:
            logger.warning("%s takes batches again", address.url)
        self._addresses.worked(address)
        self._budget.earn()
        self.batches += 1
        self.sent += attempt.accepted
        if attempt.accepted < batch.count:
            self._say_once(attempt.detail, "%s rejected a series, which is dropped: %s", address.url, attempt.detail)
            self._dropped.total["rejected"] += batch.count - attempt.accepted
        self._buffer.done()
        self.pace.sent(batch.count, monotonic(), behind=len(self._buffer) > 0)

    def _failed(self, address: Address, attempt: Attempt) -> None:
        if not address.failures:
            logger.warning("%s: %s; values are kept and sent later or elsewhere", address.url, attempt.detail)
        # an address where nobody listens costs nobody anything
        patient = attempt.result is Result.NOT_NOW and not self._budget.spend()
        now = monotonic()
        self._addresses.failed(address, now, attempt.detail, attempt.retry_after_s, patient)
        self.pace.failed(now)
        self._buffer.give_back()
        if self._hurry.is_set():
            self._last_chances.discard(address.url)
            if not self._last_chances:
                self._until = 0.0

    def _drop(self, reason: str, count: int) -> None:
        self._dropped.total[reason] += count
        self._buffer.done()

    def _say_once(self, about: str, text: str, *facts: object) -> None:
        if about not in self._told and len(self._told) < 100:
            self._told.add(about)
            logger.error(text, *facts)
