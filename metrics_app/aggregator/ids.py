"""Which values came under which ids: what keeps a request, or a sample, that is sent again from being counted again.

An id stands for values with places, counted from 1, of which a chunk holds some, or for what it comes with as a whole.
A record claims what no record before it has claimed. Claims carry the offset of their record, so a replay of the log,
over a store that has seen what follows, leads to the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fences import WHOLE, Ranges
from metrics_app.wire.chunk import ID_BYTES, Chunk

EVERYTHING = Ranges([*WHOLE])  # shared: to claim more of it changes nothing
Parts = list[tuple[int, int]]  # of a chunk's values: from an index to before another, ascending


class Sight(NamedTuple):
    """An id in one source record: when that arrived, which it was, and what was claimed, as edges of `Ranges`."""

    arrival_hour: int
    epoch: int
    offset: int
    claimed: Sequence[int]


Sights = dict[bytes, list[Sight]]


def nothing_stored(_ids: Collection[bytes], _from_hour: int) -> Sights:
    """The sights in a store without any."""
    return {}


@dataclass(slots=True)
class SeenIds:
    """The claims of a partition: those not flushed yet are here, the others in the store.

    A store may hold sights of records that are folded again, and of ids that came again after their horizon. So none is
    merged with another: a question is about the records before one, and not older than an hour.

    Attributes:
        stored: reads the sights that the store has of these ids, of records that arrived in an hour or later.
        noted: by source record the hour in which it arrived, and what its ids claimed.
        records: by id the noted records that have it.
        dirty: records whose claims are in no flush.
        count: how many ids are noted.
    """

    stored: Callable[[Collection[bytes], int], Sights] = nothing_stored
    noted: dict[int, tuple[int, dict[bytes, Ranges]]] = field(default_factory=dict)
    records: dict[bytes, tuple[int, ...]] = field(default_factory=dict)
    dirty: set[int] = field(default_factory=set)
    count: int = 0

    def claimed(self, ids: AbstractSet[bytes], epoch: int, offset: int, from_hour: int) -> dict[bytes, Ranges]:
        """What was claimed under ids before the record at an offset, by records that arrived in an hour or later."""
        found: dict[bytes, Ranges] = {}
        if not ids:
            return found
        for id_, sights in self.stored(ids, from_hour).items():
            for sight in sights:
                if sight.arrival_hour >= from_hour and (sight.epoch, sight.offset) < (epoch, offset):
                    found.setdefault(id_, Ranges()).claim_all(sight.claimed)
        for id_ in ids & self.records.keys():
            for before in self.records[id_]:
                arrival_hour, claims = self.noted[before]
                if arrival_hour >= from_hour and before < offset:
                    found.setdefault(id_, Ranges()).claim_all(claims[id_].edges)
        return found

    def note(self, arrival_hour: int, offset: int, ids: Iterable[bytes], claims: Ranges) -> None:
        """Notes what the record at an offset claims of each of these ids."""
        _, noted = self.noted.setdefault(offset, (arrival_hour, {}))
        self.dirty.add(offset)
        self.count -= len(noted)
        for id_ in ids:
            if id_ not in noted:
                self.records[id_] = (*self.records.get(id_, ()), offset)
            if claims is EVERYTHING:
                noted[id_] = claims
            else:
                noted.setdefault(id_, Ranges()).claim_all(claims.edges)
        self.count += len(noted)

    def take(self, epoch: int) -> tuple[set[int], list[tuple[bytes, bytes]]]:
        """The records whose claims are in no flush, and the rows that hold these."""
        encoded = []
        for offset in sorted(self.dirty):
            arrival_hour, claims = self.noted[offset]
            encoded.append((rows.ids_key(arrival_hour, offset), rows.encode_ids(epoch, offset, claims)))
        taken, self.dirty = self.dirty, set()
        return taken, encoded

    def flushed(self, taken: set[int]) -> None:
        """Lets go of the claims of records: the store has them."""
        for offset in taken - self.dirty:
            _, claims = self.noted.pop(offset)
            self.count -= len(claims)
            for id_ in claims:
                self._forget(id_, offset)

    def _forget(self, id_: bytes, offset: int) -> None:
        left = tuple(record for record in self.records[id_] if record != offset)
        if left:
            self.records[id_] = left
        else:
            del self.records[id_]

    def failed(self, taken: set[int]) -> None:
        """Takes the claims of a flush back, to go out with the next one."""
        self.dirty |= taken


@dataclass(slots=True)
class RecordClaims:
    """What the chunks of one record claim, one after the other.

    Attributes:
        claimed: what has been, by the records before and by the chunks of this one so far.
    """

    ids: SeenIds
    arrival_hour: int
    offset: int
    claimed: dict[bytes, Ranges]

    def claim(self, chunk: Chunk) -> Parts | None:
        """The parts of a chunk that nobody has claimed, and now it has; None when it has no ids."""
        ids = ids_of(chunk)
        if not ids:
            return None
        return self._claim_one(chunk, ids[0]) if len(ids) == 1 else self._claim_each(ids)

    def _claim_one(self, chunk: Chunk, id_: bytes) -> Parts:
        first = chunk.first
        wanted = Ranges([first, first + chunk.count]) if first else EVERYTHING
        start, stop = wanted.edges
        ranges = self.claimed.setdefault(id_, Ranges())
        if first and not chunk.histogram:
            fresh = [(at - first, end - first) for at, end in ranges.claim(start, stop - start)]
        else:  # it cannot be divided
            fresh = [(0, chunk.count)] if ranges.claim_whole(start, stop - start) == stop - start else []
        if fresh:
            self.ids.note(self.arrival_hour, self.offset, [id_], wanted)
        return fresh

    def _claim_each(self, ids: list[bytes]) -> Parts:
        new = dict.fromkeys([id_ for id_ in ids if id_ not in self.claimed], EVERYTHING)
        if not new:
            return []
        self.ids.note(self.arrival_hour, self.offset, new, EVERYTHING)
        fresh = [(0, len(ids))] if len(new) == len(ids) else self._new_parts(ids)
        self.claimed |= new
        return fresh

    def _new_parts(self, ids: list[bytes]) -> Parts:
        """Where the ids are that nobody has claimed, of those given twice the first."""
        first = {id_: index for index, id_ in reversed([*enumerate(ids)]) if id_ not in self.claimed}
        return [(index, index + 1) for index in sorted(first.values())]


def ids_of(chunk: Chunk) -> list[bytes]:
    """The ids of a chunk: none, one for all of it, or one a value."""
    return [bytes(chunk.ids[at : at + ID_BYTES]) for at in range(0, len(chunk.ids), ID_BYTES)]
