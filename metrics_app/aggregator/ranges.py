"""Sets of numbers as ranges: which of its numbers a sender has used, and which positions an id has claimed.

Called by `fold`, `row` and `deduplication`. A number that is in the set belongs to a value that was counted already.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

WHOLE = (0, 2**64 - 1)  # claimed by an id that stands for everything that comes with it: all positions


@dataclass(slots=True)
class Ranges:
    """A set of numbers as disjoint half-open intervals.

    Attributes:
        edges: ascending [start, stop, start, stop, ...]; a sender without losses needs two of them for ever.
    """

    edges: list[int] = field(default_factory=list)

    def claim(self, first: int, count: int) -> list[tuple[int, int]]:
        """Adds [first, first + count) and returns the parts of it that were not there, as (start, stop), ascending."""
        stop = first + count
        edges = self.edges
        if edges and edges[-1] == first:  # the next batch of a sender that lost nothing
            edges[-1] = stop
            return [(first, stop)]
        low, high = self._touching(first, stop)
        touching = edges[low:high]
        fresh, at = [], first
        for start, end in zip(touching[::2], touching[1::2], strict=True):
            if at < start:
                fresh.append((at, start))
            at = max(at, end)
        if at < stop:
            fresh.append((at, stop))
        if touching:
            first, stop = min(first, touching[0]), max(stop, touching[-1])
        edges[low:high] = [first, stop]
        return fresh

    def _touching(self, first: int, stop: int) -> tuple[int, int]:
        """From where to where in `edges` the intervals lie that touch [first, stop).

        Found in all edges, starts and stops alike: a set of many gaps is not to be copied for each chunk.
        """
        return bisect_left(self.edges, first) // 2 * 2, (bisect_right(self.edges, stop) + 1) // 2 * 2

    def is_apart(self, first: int, count: int) -> bool:
        """Whether [first, first + count) touches none of the intervals, so that to claim it begins another one."""
        edges = self.edges
        if edges and edges[-1] == first:
            return False
        low, high = self._touching(first, first + count)
        return low == high

    def fresh(self, first: int, count: int) -> int:
        """How many of [first, first + count) are not there."""
        stop = first + count
        low, high = self._touching(first, stop)
        starts, ends = self.edges[low:high:2], self.edges[low + 1 : high : 2]
        return count - sum(max(0, min(end, stop) - max(start, first)) for start, end in zip(starts, ends, strict=True))

    def claim_whole(self, first: int, count: int) -> int:
        """Adds [first, first + count) if nothing of it is there, and returns how many of it are not."""
        new = self.fresh(first, count)
        if new == count:
            self.claim(first, count)
        return new

    def claim_all(self, edges: Sequence[int]) -> None:
        """Adds the intervals of another set."""
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            self.claim(start, stop - start)

    def reach(self, stop: int) -> None:
        """Notes that the numbers below `stop` were given to values: those that are not there are missing."""
        if not self.edges or self.edges[-1] < stop:
            self.edges += [stop, stop]

    @property
    def missing(self) -> int:
        """How many numbers below the highest one are not in the set, counted from 0."""
        edges = self.edges
        if not edges:
            return 0
        covered = sum(edges[1::2]) - sum(edges[::2])
        return edges[-1] - covered
