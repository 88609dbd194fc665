"""Remembers ids for 24 hours, so that a request, or a sample, that is sent again is not counted again.

Called by `fold` for each record, and by `local_copies`, which keeps the index of ids in RocksDB.

An id stands either for values at positions, counted from 1, of which a chunk holds some, or for everything that comes
with it. A record claims what no record before it has claimed. A claim carries the offset of its record, so a replay of
the log over a store that has seen later records leads to the same rows.

The index has an entry for each id, beside the ids rows, which are by record:

    entry  0x40 | bucket u32 BE | id        of each record that has the id: arrival hour, epoch, offset, what it claimed

A bucket is `BUCKET_HOURS` of arrivals. So an id is found by one read a bucket, two as a rule; nothing is read when a
partition is taken over; and ids expire by the range of a bucket. Entries are written in the same batch as the ids rows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import rocksdict

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.ranges import WHOLE, Ranges
from metrics_app.errors import FormatError
from metrics_app.wire.chunk import ID_BYTES, Chunk

EVERYTHING = Ranges([*WHOLE])  # shared: to claim more of it changes nothing
Parts = list[tuple[int, int]]  # of a chunk's values: from an index to before another, ascending


class Occurrence(NamedTuple):
    """An id in one source record: when that arrived, which it was, and what was claimed, as edges of `Ranges`."""

    arrival_hour: int
    epoch: int
    offset: int
    claimed: Sequence[int]


Occurrences = dict[bytes, list[Occurrence]]


def nothing_stored(_ids: Collection[bytes], _from_hour: int) -> Occurrences:
    """The occurrences in a store without any."""
    return {}


@dataclass(slots=True)
class SeenIds:
    """The claims of a partition: those not flushed yet are here, the others in the store.

    After the deduplication window an id counts as new. The store may then hold two occurrences of it, and also those of
    records that are folded again. So every occurrence is kept with its offset, and a question names the record before
    which, and the hour after which, it looks for claims.

    Attributes:
        stored: reads the occurrences that the store has of these ids, of records that arrived in an hour or later.
        noted: by source record the hour in which it arrived, and what its ids claimed.
        records: by id the noted records that have it.
        dirty: records whose claims are in no flush.
        count: how many ids are noted.
    """

    stored: Callable[[Collection[bytes], int], Occurrences] = nothing_stored
    noted: dict[int, tuple[int, dict[bytes, Ranges]]] = field(default_factory=dict)
    records: dict[bytes, tuple[int, ...]] = field(default_factory=dict)
    dirty: set[int] = field(default_factory=set)
    count: int = 0

    def claimed(self, ids: AbstractSet[bytes], epoch: int, offset: int, from_hour: int) -> dict[bytes, Ranges]:
        """What was claimed under ids before the record at an offset, by records that arrived in an hour or later."""
        found: dict[bytes, Ranges] = {}
        if not ids:
            return found
        for id_, occurrences in self.stored(ids, from_hour).items():
            for occurrence in occurrences:
                if occurrence.arrival_hour >= from_hour and (occurrence.epoch, occurrence.offset) < (epoch, offset):
                    found.setdefault(id_, Ranges()).claim_all(occurrence.claimed)
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
        """Claims the parts of a chunk that no record has claimed, and returns them; None when it has no ids."""
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
        """Positions of the ids that no record has claimed; of an id that is given twice, the first."""
        first = {id_: index for index, id_ in reversed([*enumerate(ids)]) if id_ not in self.claimed}
        return [(index, index + 1) for index in sorted(first.values())]


def ids_of(chunk: Chunk) -> list[bytes]:
    """The ids of a chunk: none, one for all of it, or one a value."""
    return [bytes(chunk.ids[at : at + ID_BYTES]) for at in range(0, len(chunk.ids), ID_BYTES)]


ENTRY = 0x40
BUCKET_HOURS = 24
SLICE_BYTES = 64 << 10  # of ids rows, or one row, indexed in one go: other tasks wait for so long
BUILT_KEY = b"__metrics\0indexed"  # row key from which ids rows may have no entries; empty: all have
SINCE_KEY = b"__metrics\0ids-since"  # first arrival hour of which no ids were dropped

_IDS = bytes([rows.IDS])
_PREFIX = struct.Struct(">BI")
_OCCURRENCE = struct.Struct("<IIqI")  # arrival hour, epoch, offset, number of ranges; 0: the id is claimed as a whole
_RANGE_BYTES = 16


class IdIndex:
    """The entries of one copy.

    Attributes:
        db: the database of the copy.
        since_hour: first arrival hour of which no ids were dropped; 0 when none ever were.
    """

    def __init__(self, db: rocksdict.Rdict) -> None:
        self.db = db
        self.since_hour = int(db.get(SINCE_KEY) or 0)
        self._buckets = set(_buckets(db))
        built = db.get(BUILT_KEY)
        self._unbuilt: bytes = _IDS if built is None else built
        if self._unbuilt and not self._next_rows():
            self._note_built(b"")

    @property
    def is_built(self) -> bool:
        """Whether every ids row of the copy has its entries."""
        return not self._unbuilt

    def build_on(self) -> None:
        """Makes the entries of the next ids rows that may have none."""
        found = self._next_rows()
        batch = rocksdict.WriteBatch(raw_mode=True)
        self.add(batch, found)
        self.db.write(batch)
        self._note_built(found[-1][0] + b"\0" if found else b"")

    def find(self, ids: Collection[bytes], from_hour: int) -> Occurrences:
        """What is known of ids that were seen in an hour or later; earlier occurrences may be among it."""
        found: Occurrences = {}
        ids = sorted(ids)  # neighbours are found faster
        for bucket in self._buckets:
            if bucket >= from_hour // BUCKET_HOURS:
                entries = self._entries([_PREFIX.pack(ENTRY, bucket) + id_ for id_ in ids])
                for id_, entry in zip(ids, entries, strict=True):
                    if entry is not None:
                        found.setdefault(id_, []).extend(_decode(entry))
        return found

    def add(self, batch: rocksdict.WriteBatch, written: Iterable[tuple[bytes, bytes]]) -> None:
        """Puts the entries of ids rows into the batch in which these are written."""
        news: dict[bytes, bytes] = {}
        for row_key, value in written:
            if row_key.startswith(_IDS):
                for key, occurrence in _occurrences(row_key, value):
                    news[key] = news.get(key, b"") + occurrence
        keys = sorted(news)
        for key, entry in zip(keys, self._entries(keys), strict=True):
            batch.put(key, news[key] if entry is None else _joined(entry, news[key]))
        self._buckets |= {_bucket_of(prefix) for prefix in {key[: _PREFIX.size] for key in keys}}

    def drop(self, before_hour: int) -> None:
        """Forgets ids that arrived before an hour, bucket by bucket; some of the last bucket stay and do no harm."""
        first = max(before_hour, 0) // BUCKET_HOURS
        self.db.delete_range(_PREFIX.pack(ENTRY, 0), _PREFIX.pack(ENTRY, first))
        self._buckets = {bucket for bucket in self._buckets if bucket >= first}
        if before_hour > self.since_hour:
            self.since_hour = before_hour
            self.db.put(SINCE_KEY, str(before_hour).encode())

    def _entries(self, keys: list[bytes]) -> list[bytes | None]:
        return cast("list[bytes | None]", self.db.get(cast("list[Any]", keys))) if keys else []

    def _next_rows(self) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        size, at = 0, self.db.iter()
        at.seek(self._unbuilt)
        while at.valid() and at.key().startswith(_IDS) and size < SLICE_BYTES:
            found.append((at.key(), at.value()))
            size += len(found[-1][1])
            at.next()
        at.status()  # at a damaged block an iterator just ends
        return found

    def _note_built(self, unbuilt: bytes) -> None:
        self.db.put(BUILT_KEY, unbuilt)
        self._unbuilt = unbuilt


def _buckets(db: rocksdict.Rdict) -> Iterator[int]:
    at = db.iter()
    at.seek(bytes([ENTRY]))
    while at.valid() and at.key()[0] == ENTRY:
        bucket = _bucket_of(at.key())
        yield bucket
        at.seek(_PREFIX.pack(ENTRY, bucket + 1))
    at.status()


def _bucket_of(key: bytes) -> int:
    _, bucket = _PREFIX.unpack_from(key)
    return int(bucket)


def _occurrences(row_key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The ids of an ids row: the key of the entry of each, and what the row adds to it."""
    arrival_hour, offset = rows.split_ids_key(row_key)
    prefix = _PREFIX.pack(ENTRY, arrival_hour // BUCKET_HOURS)
    where = arrival_hour, rows.version_of(value).epoch, offset
    whole = _OCCURRENCE.pack(*where, 0)
    for id_, claimed in rows.decode_ids(value).items():
        yield prefix + id_, whole if claimed is WHOLE else _encode(Occurrence(*where, claimed))


def _joined(entry: bytes, news: bytes) -> bytes:
    """Joins two entries of an id; a record that was written again is in the result once."""
    occurrences = {occurrence[:-1]: occurrence for occurrence in (*_decode(entry), *_decode(news))}
    return b"".join(map(_encode, occurrences.values()))


def _encode(occurrence: Occurrence) -> bytes:
    edges = () if occurrence.claimed == WHOLE else occurrence.claimed
    return _OCCURRENCE.pack(*occurrence[:-1], len(edges) // 2) + struct.pack(f"<{len(edges)}Q", *edges)


def _decode(entry: bytes) -> Iterator[Occurrence]:
    at = 0
    try:
        while at < len(entry):
            arrival_hour, epoch, offset, count = _OCCURRENCE.unpack_from(entry, at)
            at += _OCCURRENCE.size
            edges = struct.unpack_from(f"<{2 * count}Q", entry, at)
            at += count * _RANGE_BYTES
            yield Occurrence(arrival_hour, epoch, offset, edges or WHOLE)
    except struct.error as error:
        raise FormatError("entry of an id", str(error)) from error
