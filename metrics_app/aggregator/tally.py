"""What became of the values that were folded: added up, warned of, and counted once they are durable.

Called by `fold`, `agent` and `active`, which add it up, and by `flusher`, which counts it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from metrics_app.telemetry import Telemetry

logger = logging.getLogger(__name__)

SAY_AGAIN_S = 60.0
EXPIRED = "values were left out: their hour is beyond METRICS_RETENTION_DAYS"
AHEAD = "values are of an hour that had not begun by Kafka's clock: that of a collector is ahead, or Kafka's behind"


@dataclass(slots=True)
class Tally:
    """What became of the values of one record; they sum up to the values in it, `late`, `unfenced` and `ahead` apart.

    `overlapping` are the new ones of a histogram that was left out for the others in it, `overfull` those of a row that
    has VALUES_MAX, `ahead` those of an hour that had not begun when Kafka took the record.
    """

    folded: int = 0
    replayed: int = 0
    duplicate_numbers: int = 0
    duplicate_ids: int = 0
    overlapping: int = 0
    overfull: int = 0
    expired: int = 0
    late: int = 0
    unfenced: int = 0
    ahead: int = 0

    def add(self, other: Tally) -> None:
        """Takes in what became of the values of other records."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def count(self, telemetry: Telemetry) -> None:
        """Counts the values, which are durable now; what a rebalance drops from memory is counted by the next owner."""
        telemetry.folded.inc(self.folded)
        telemetry.late.inc(self.late)
        telemetry.unfenced.inc(self.unfenced)
        telemetry.expired.inc(self.expired)
        telemetry.overfull.inc(self.overfull)
        telemetry.ahead.inc(self.ahead)
        telemetry.duplicate.labels("number").inc(self.duplicate_numbers)
        telemetry.duplicate.labels("id").inc(self.duplicate_ids)
        telemetry.duplicate.labels("overlap").inc(self.overlapping)


class Notices:
    """Adds values up until the next warning is due."""

    def __init__(self) -> None:
        self._unsaid: dict[str, int] = {}
        self._said_s: dict[str, float] = {}

    def folded(self, partition: int, offset: int, tally: Tally) -> None:
        """Takes what became of the values of one record."""
        for what, values in ((EXPIRED, tally.expired), (AHEAD, tally.ahead)):
            if values:
                self._say(what, values, partition, offset)

    def _say(self, what: str, values: int, partition: int, offset: int) -> None:
        self._unsaid[what] = self._unsaid.get(what, 0) + values
        if time.monotonic() - self._said_s.get(what, -SAY_AGAIN_S) >= SAY_AGAIN_S:
            self._said_s[what] = time.monotonic()
            logger.warning(
                "%s %s; the last ones at partition %s, offset %s", self._unsaid.pop(what), what, partition, offset
            )
