"""Warnings of accepted values that were left out, or are of an hour that had not begun; one a minute of each kind."""

from __future__ import annotations

import logging
import time

from metrics_app.aggregator.fold import Tally

logger = logging.getLogger(__name__)

SAY_AGAIN_S = 60.0
EXPIRED = "values were left out: their hour is beyond METRICS_RETENTION_DAYS"
AHEAD = "values are of an hour that had not begun by Kafka's clock: that of a collector is ahead, or Kafka's behind"


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
