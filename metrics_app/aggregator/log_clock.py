"""What time it is in the log of a partition, where two witnesses agree on it (docs/adr/0009).

The log says it by the append times of its records, the worker by its own clock. An append time moves the clock on only
if the own clock has got there too, up to a tolerance. So neither a broker nor a worker whose clock is ahead can make
rows expire, hours close or ids be forgotten; a clock that is behind only delays that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Witness(NamedTuple):
    """What the worker that folds a record knows of the time.

    Attributes:
        own_ms: its own clock, epoch milliseconds.
        disputed: whether that clock and Kafka's are known to differ by more than the tolerance.
    """

    own_ms: int
    disputed: bool = False


ANY_TIME = Witness(1 << 62)  # confirms every append time: for a fold without a worker around it


@dataclass(slots=True)
class LogClock:
    """The clock of one partition's log.

    Attributes:
        newest_ms: the highest append time, confirmed or not. It tells this log from another one and nothing else.
        confirmed_ms: the highest append time that the own clock confirmed when the record was folded.
        tolerance_ms: how far the log may be ahead of the own clock.
    """

    newest_ms: int
    confirmed_ms: int
    tolerance_ms: int

    def read(self, stamp_ms: int, own_ms: int) -> None:
        """Takes the append time of the next record."""
        self.newest_ms = max(self.newest_ms, stamp_ms)
        latest = own_ms + self.tolerance_ms
        if stamp_ms > latest:
            return
        went_ahead = self.confirmed_ms > latest  # both witnesses say so now, whoever moved it there
        self.confirmed_ms = stamp_ms if went_ahead else max(self.confirmed_ms, stamp_ms)

    def agreed_ms(self, own_ms: int) -> int:
        """The time that both witnesses have reached."""
        return min(self.confirmed_ms, own_ms + self.tolerance_ms)
