"""What becomes of the values of a batch after an attempt: sent, sent in another way, or dropped and said to be."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from time import monotonic

from metrics_app.client.addresses import Address
from metrics_app.client.batch import Batch
from metrics_app.client.buffer import Buffer, Waiting
from metrics_app.client.contents import body_of, halves_of, moved
from metrics_app.client.skew import Skew
from metrics_app.client.stats import Dropped
from metrics_app.client.tidings import Tidings
from metrics_app.client.transport import Attempt, Heard, Rejected, Result

logger = logging.getLogger("metrics_app.client")

LEAST_DIVIDED = 8 << 10  # bytes of a body; a smaller one that is too large is not divided
MOST_SAID = 100  # different problems that are logged
WRONG_HOUR = "hour"  # why a collector rejects a series whose hour has not begun, or is too old


class Outcome:
    """Settles the batch that the buffer has given out.

    Args:
        instead: what was given out is done with, and these batches are sent instead.
        turned: called with the seconds that this machine's clock is ahead when they change.
        void: called with an hour whose numbers were given to values of another one.

    Attributes:
        sent: values accepted.
        tidings: what has to be told of those that were not.
    """

    def __init__(
        self,
        buffer: Buffer,
        dropped: Dropped,
        tidings: Tidings,
        skew: Skew,
        instead: Callable[[Sequence[Batch]], None],
        turned: Callable[[float], None],
        void: Callable[[int], None],
    ) -> None:
        self._buffer = buffer
        self._dropped = dropped
        self._skew = skew
        self._instead = instead
        self._turned = turned
        self._void = void
        self._now = time.time
        self._said: set[str] = set()
        self.tidings = tidings
        self.sent = 0

    def taken(self, batch: Batch, address: Address, attempt: Attempt) -> None:
        """A collector has accepted it, or part of it."""
        self.sent += attempt.accepted
        rejected = batch.count - attempt.accepted
        again = self._moved(batch, attempt.rejected) if rejected > 0 else []
        if rejected > 0:
            self._say_once(attempt.detail, "%s rejected a series: %s", address.url, attempt.detail)
            self._lose("rejected", rejected - _count(again), batch)
        self._instead(again)

    def refused(self, batch: Batch, address: Address, attempt: Attempt) -> None:
        """A collector will not accept it as it is."""
        is_divided = attempt.result is Result.TOO_LARGE and len(batch.body) > LEAST_DIVIDED
        again = halves_of(batch) if is_divided else self._moved(batch, attempt.rejected)
        if not is_divided:
            self._say_once(attempt.detail, "%s refused a batch: %s", address.url, attempt.detail)
        self._lose("refused", batch.count - _count(again), batch)
        self._instead(again)

    def drop(self, reason: str, waiting: Waiting) -> None:
        """It cannot be sent."""
        self._dropped.total[reason] += waiting.count
        self._buffer.done()

    def announce(self) -> None:
        """What waits in memory will be told to be missing until it is there."""
        for waiting in self._buffer.waiting():
            if isinstance(waiting, Batch):
                self.tidings.note(waiting)

    def heard(self, address: Address, heard: Heard) -> None:
        """What time it is for a collector."""
        if self._skew.heard(address.url, heard, monotonic()):
            ahead_s = self._skew.ahead_s
            logger.warning("this machine's clock is %.0f s ahead of the collectors', by which hours begin", ahead_s)
            self._turned(ahead_s)

    def _moved(self, batch: Batch, rejected: Sequence[Rejected]) -> list[Batch]:
        """The values of a batch with which nothing is wrong but their hour, in the right one."""
        if batch.moved or not rejected:
            return []
        series, now_s = body_of(batch).series, self._now()
        wrong = {series[one.index].hour for one in rejected if one.reason == WRONG_HOUR and one.index < len(series)}
        right = {hour: self._skew.right_hour(hour, now_s) for hour in wrong}
        again = moved(batch, {hour: other for hour, other in right.items() if other != hour})
        if again:
            for hour in right:
                self._void(hour)
        return again

    def _lose(self, reason: str, count: int, batch: Batch) -> None:
        if count > 0:
            self._dropped.total[reason] += count
            self.tidings.note(batch)

    def _say_once(self, about: str, text: str, *facts: object) -> None:
        if about not in self._said and len(self._said) < MOST_SAID:
            self._said.add(about)
            logger.error(text, *facts)


def _count(batches: Sequence[Batch]) -> int:
    return sum(batch.count for batch in batches)
