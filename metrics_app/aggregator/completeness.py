"""Shows whether everything that a partition held a moment ago is folded: `as_of`, `stale` and "not yet" rest on it.

Called by `upkeep`, which asks Kafka where the log ends, and by `partitions` and `reader`, which answer by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from metrics_app.clocks import Instant

FRESH_S = 5.0  # a copy that has not been shown complete for this long says that it may be stale
BEHIND_S = 1.0  # and so does a copy with a record that has waited for this long to be folded


class LogEnd(NamedTuple):
    """The end of a partition of the log at a moment.

    Attributes:
        offset: the one after the last record.
        at: when it was the end, by our own clocks.
        both_s: that moment by our clock and Kafka's, whichever is behind; 0.0 where Kafka's is not known.
    """

    offset: int
    at: Instant
    both_s: float


@dataclass(slots=True)
class Completeness:
    """What has been shown of one partition.

    Attributes:
        asked: an end of the log that is to be reached; None before the first one is known.
        shown_s: monotonic seconds at which the fold held everything the partition had; None until first shown.
        complete_at: the same in epoch seconds, by our clock and Kafka's.
    """

    asked: LogEnd | None = None
    shown_s: float | None = None
    complete_at: float = 0.0

    def compare(self, folded: int, end: LogEnd) -> None:
        """Notes what is shown by a new end of the log.

        Under load some records are always on their way: what counts is that the end of last time has been reached.

        Args:
            folded: the last offset folded.
        """
        if folded + 1 == end.offset:
            self.show(end)
        elif self.asked is not None:
            if folded + 1 < self.asked.offset:
                return
            self.show(self.asked)
        self.asked = end

    def show(self, end: LogEnd) -> None:
        """Notes that everything before an end is folded. A time noted by a clock that was ahead is corrected."""
        shown = self.complete_at if self.complete_at <= end.at.own_s else 0.0
        self.shown_s, self.complete_at = end.at.monotonic_s, max(shown, end.both_s)

    def asked_before(self, offset: int) -> Instant | None:
        """A moment at which the record was not in the log yet; None if no such moment is known."""
        return self.asked.at if self.asked is not None and offset >= self.asked.offset else None

    def doubt(self, folded: int, now_s: float) -> str | None:
        """Why the partition may lack something accepted a moment ago; None if it has been shown that it does not.

        Args:
            folded: the last offset folded.
            now_s: monotonic seconds.
        """
        if self.shown_s is None:
            return "the backlog that it was taken over with is not folded yet"
        if self.asked is not None and folded + 1 < self.asked.offset:
            waits_s = now_s - self.asked.at.monotonic_s
            if waits_s > BEHIND_S:
                return f"records of {waits_s:.0f} s ago are not folded yet"
        if now_s - self.shown_s > FRESH_S:
            return f"it has not been shown for {now_s - self.shown_s:.0f} s that all is folded"
        return None
