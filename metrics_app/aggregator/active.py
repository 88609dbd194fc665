"""One partition that this worker owns: everything that it has in memory of it.

Called by `partitions`, which makes it from the recovered table, and by `agent`, `flusher`, `upkeep` and `reader`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from metrics_app.aggregator.completeness import Completeness, LogEnd
from metrics_app.aggregator.fencing import Fence, Records, Repeat
from metrics_app.aggregator.flush import Flush
from metrics_app.aggregator.fold import PartitionFold
from metrics_app.aggregator.tally import Tally


@dataclass(slots=True)
class ActivePartition:
    """Everything that this worker has in memory of one partition it owns.

    Attributes:
        number: of the partition.
        fold: rows and ids, flushed or not.
        fence: what is known of other writers to its changelog.
        completeness: whether everything is folded.
        tally: what became of the values applied and not flushed yet.
    """

    number: int
    fold: PartitionFold
    fence: Fence
    completeness: Completeness = field(default_factory=Completeness)
    tally: Tally = field(default_factory=Tally)

    def as_of(self, own_s: float) -> float:
        """Epoch seconds up to which all that was accepted is folded: by our clock and by Kafka's, never by one.

        Stamps of records do not show it: behind a record whose stamp was ahead lies what came before that time.
        """
        return min(own_s, max(self.completeness.complete_at, self.fold.checkpoint.as_of))

    def lag_at(self, end: LogEnd) -> int | None:
        """How many records before an end of the log are not folded; None when the log ends before what is folded."""
        if end.offset <= self.fold.offset:
            return None
        self.completeness.compare(self.fold.offset, end)
        return end.offset - self.fold.offset - 1

    def doubt(self) -> str | None:
        """Why it may lack something that was accepted a moment ago; None if it has been shown that it does not."""
        return self.completeness.doubt(self.fold.offset, time.monotonic())

    @property
    def is_proven(self) -> bool:
        """Whether it has been shown once that everything accepted before is folded."""
        return bool(self.completeness.complete_at)

    @property
    def is_changed(self) -> bool:
        """Whether something is folded that is not flushed."""
        return bool(self.fold.dirty) or self.fold.offset != self.fold.checkpoint.offset

    def take(self, own_s: float, most_repeated: int) -> FlushPart:
        """Takes what the next flush has to write.

        Args:
            own_s: the time by our own clock, epoch seconds.
            most_repeated: at most so many rows are written once more.
        """
        repeat = self.fence.repeat(self.fold, most_repeated)
        flush = self.fold.take(self.as_of(own_s))
        tally, self.tally = self.tally, Tally()
        # a row that changed goes out in this flush anyway, in a newer state than the stored one
        kept = [(row_key, value) for row_key, value in repeat.rows if row_key not in flush.taken]
        flush.checkpoint = flush.checkpoint._replace(sealed=repeat.sealed)
        return FlushPart(self, flush, tally, repeat._replace(rows=kept))

    def give_back(self, taken: FlushPart) -> None:
        """Takes back what a flush could not write; it goes out with the next one."""
        self.fold.failed(taken.flush)
        self.tally.add(taken.tally)

    def settle(self, taken: FlushPart) -> None:
        """Notes that changelog and store have what a flush took."""
        self.fence.written(taken.repeat, [row_key for row_key, _ in taken.rows])
        self.fold.flushed(taken.flush)


class FlushPart(NamedTuple):
    """What one flush writes of one partition.

    Attributes:
        tally: what became of the values in it.
        repeat: rows that the changelog has already, and that are written once more.
    """

    active: ActivePartition
    flush: Flush
    tally: Tally
    repeat: Repeat

    @property
    def rows(self) -> Records:
        """All rows that go to the changelog before the checkpoint."""
        return [*self.repeat.rows, *self.flush.rows]
