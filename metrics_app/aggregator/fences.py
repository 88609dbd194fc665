"""What keeps a value that arrives twice from being counted twice: numbered ranges of senders, and ids of requests.

Both are pure state of the fold. A range or an id is only ever added together with the values it covers, and both carry
the stamp of the source offset, so a replay of the log leads to the same state.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field


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
        starts, stops = edges[::2], edges[1::2]
        low, high = bisect_left(stops, first), bisect_right(starts, stop)  # the intervals that touch ours
        fresh, at = [], first
        for start, end in zip(starts[low:high], stops[low:high], strict=True):
            if at < start:
                fresh.append((at, start))
            at = max(at, end)
        if at < stop:
            fresh.append((at, stop))
        if low < high:
            first, stop = min(first, starts[low]), max(stop, stops[high - 1])
        edges[2 * low : 2 * high] = [first, stop]
        return fresh

    def is_apart(self, first: int, count: int) -> bool:
        """Whether [first, first + count) touches none of the intervals, so that to claim it begins another one."""
        edges = self.edges
        if edges and edges[-1] == first:
            return False
        return bisect_left(edges[1::2], first) == bisect_right(edges[::2], first + count)

    def fresh(self, first: int, count: int) -> int:
        """How many of [first, first + count) are not there."""
        stop = first + count
        edges = self.edges
        known = sum(
            max(0, min(end, stop) - max(start, first)) for start, end in zip(edges[::2], edges[1::2], strict=True)
        )
        return count - known

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


@dataclass(slots=True)
class IdIndex:
    """Ids seen in a partition, each with the offset of its first sight, bounded by age and number.

    An id that comes again after its horizon is a new one. A store may hold both sights, and the later one is read
    before the first is forgotten, so all are kept.

    Attributes:
        limit: most ids kept; beyond it the oldest source records are forgotten first.
        offsets: first sight of each id.
        later: the other sights, ascending, of the few ids that have any.
        forgotten: ids forgotten before their horizon because of the limit.
    """

    limit: int
    offsets: dict[bytes, int] = field(default_factory=dict)
    later: dict[bytes, list[int]] = field(default_factory=dict)
    records: dict[int, tuple[int, dict[bytes, None]]] = field(default_factory=dict)
    forgotten: int = 0

    def first_seen(self, id_: bytes) -> int | None:
        """Offset at which an id was first seen; None for a new one."""
        return self.offsets.get(id_)

    def add(self, arrival_hour: int, offset: int, ids: Iterable[bytes]) -> None:
        """Notes the ids that were new in the source record at `offset`."""
        _, known = self.records.setdefault(offset, (arrival_hour, {}))
        for id_ in ids:
            known[id_] = None
            if self.offsets.setdefault(id_, offset) != offset:
                self._keep(id_, {offset, self.offsets[id_], *self.later.get(id_, ())})
        while len(self.offsets) > self.limit and len(self.records) > 1:
            self.forgotten += self._forget(next(iter(self.records)))

    def of_record(self, offset: int) -> tuple[int, list[bytes]]:
        """(arrival hour, ids that were new there) of a source record noted before."""
        arrival_hour, ids = self.records[offset]
        return arrival_hour, list(ids)

    def expire(self, before_hour: int) -> None:
        """Forgets the ids of records that arrived before an hour."""
        for offset in [offset for offset, (hour, _) in self.records.items() if hour < before_hour]:
            self._forget(offset)

    def _forget(self, offset: int) -> int:
        _, ids = self.records.pop(offset)
        for id_ in ids:
            if id_ in self.later:
                self._keep(id_, {self.offsets.pop(id_), *self.later.pop(id_)} - {offset})
            else:
                del self.offsets[id_]
        return len(ids)

    def _keep(self, id_: bytes, sights: set[int]) -> None:
        self.offsets[id_], *others = sorted(sights)
        if others:
            self.later[id_] = others
