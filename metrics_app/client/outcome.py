"""Decides about a batch after each attempt: its values are sent, are sent in another way, or are dropped and reported.

Called by `delivery` and `engine`.

How far this machine's clock is from the collectors', which decide what hour it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

from metrics_app.client.buffer import Batch, Buffer, Waiting
from metrics_app.client.contents import Tidings, body_of, halves_of, moved
from metrics_app.client.options import Dropped
from metrics_app.client.transport import Attempt, CollectorAddress, Heard, Rejected, Result

logger = logging.getLogger("metrics_app.client")

LEAST_DIVIDED = 8 << 10  # bytes of a body; a smaller one that is too large is not divided
MOST_SAID = 100  # different problems that are logged
WRONG_HOUR = ("hour", "timestamp")  # why it rejects a series, or a row of a table, whose hour has not begun or is past


class BatchOutcome:
    """Settles the batch that the buffer has given out.

    Args:
        clock: nanoseconds since the epoch, by the clock of this machine.
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
        clock: Callable[[], int],
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
        self._clock = clock
        self._said: set[str] = set()
        self.tidings = tidings
        self.sent = 0

    def taken(self, batch: Batch, address: CollectorAddress, attempt: Attempt) -> None:
        """Settles a batch that a collector has accepted, wholly or in part."""
        self.sent += attempt.accepted
        rejected = batch.count - attempt.accepted
        again = self._moved(batch, attempt.rejected) if rejected > 0 else []
        if rejected > 0:
            self._say_once(attempt.detail, "%s rejected a series: %s", address.url, attempt.detail)
            self._lose("rejected", rejected - _count(again), batch)
        self._instead(again)

    def refused(self, batch: Batch, address: CollectorAddress, attempt: Attempt) -> None:
        """Settles a batch that a collector refuses in this form."""
        is_divided = attempt.result is Result.TOO_LARGE and len(batch.body) > LEAST_DIVIDED
        again = halves_of(batch) if is_divided else self._moved(batch, attempt.rejected)
        if not is_divided:
            self._say_once(attempt.detail, "%s refused a batch: %s", address.url, attempt.detail)
        self._lose("refused", batch.count - _count(again), batch)
        self._instead(again)

    def drop(self, reason: str, waiting: Waiting) -> None:
        """Drops a batch that cannot be sent, and counts its values under the reason."""
        self._dropped.total[reason] += waiting.count
        self._buffer.done()

    def announce(self) -> None:
        """Notes the batches waiting in memory as missing, so that answers say so if they are never sent."""
        for waiting in self._buffer.waiting():
            if isinstance(waiting, Batch):
                self.tidings.note(waiting)

    def heard(self, address: CollectorAddress, heard: Heard) -> None:
        """Compares the clock of a collector with ours, and corrects the hours when all collectors disagree with it."""
        if self._skew.heard(address.url, heard, monotonic()):
            ahead_s = self._skew.ahead_s
            logger.warning("this machine's clock is %.0f s ahead of the collectors', by which hours begin", ahead_s)
            self._turned(ahead_s)

    def _moved(self, batch: Batch, rejected: Sequence[Rejected]) -> list[Batch]:
        """The values of a batch that were rejected only for their hour, moved to the right hour."""
        if batch.moved or not rejected:
            return []
        series, now_s = body_of(batch).series, self._clock() / 1e9
        wrong = {series[one.index].hour for one in rejected if one.reason in WRONG_HOUR and one.index < len(series)}
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


DATE_S = 1.0  # the header `Date` has whole seconds
MEMORY_S = 300.0  # what a collector said is of no weight when others were heard so long after it
HOUR_S = 3600


class _Witness(NamedTuple):
    ahead_s: float
    at: float


class Skew:
    """By how much this machine's clock is ahead, as the replies of collectors show.

    A reply bounds it: between the request and the reply the collector's clock stood within the second of its `Date`.
    The clock of this machine is believed as long as it is within the tolerance of that of any collector: one that
    goes wrong cannot lead others astray. When all contradict it, it is corrected by the least of what they say.

    Args:
        tolerance_s: a difference up to it is none.
    """

    def __init__(self, tolerance_s: float) -> None:
        self._tolerance_s = tolerance_s
        self._witnesses: dict[str, _Witness] = {}
        self.ahead_s = 0.0

    def heard(self, address: str, heard: Heard, now: float) -> bool:
        """Takes a reply into account; True when `ahead_s` has changed.

        Args:
            now: moment of the monotonic clock.
        """
        least, most = heard.sent_s - heard.date_s - DATE_S, heard.received_s - heard.date_s
        if least > most:  # our clock was set back meanwhile
            return False
        known = self._witnesses.get(address, _Witness(0.0, now)).ahead_s
        self._witnesses[address] = _Witness(min(max(known, least), most), now)
        ahead_s = min((one.ahead_s for one in self._witnesses.values() if now - one.at <= MEMORY_S), key=abs)
        before, self.ahead_s = self.ahead_s, ahead_s if abs(ahead_s) > self._tolerance_s else 0.0
        return self.ahead_s != before

    def right_hour(self, hour: int, now_s: float) -> int:
        """The hour in which values with a wrong hour label were recorded: the latest possible one, at most the present.

        Args:
            hour: the label, by the clock of this machine.
            now_s: epoch seconds by the same clock.
        """
        if not self.ahead_s:
            return hour
        latest_s = (hour + 1) * HOUR_S - 1 - self.ahead_s
        return int(min(latest_s, now_s - self.ahead_s) // HOUR_S)
