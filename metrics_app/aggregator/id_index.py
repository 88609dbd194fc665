"""Finds ids in the local copy of a partition: beside its ids rows, which are by record, an entry for each id.

    entry  0x40 | bucket u32 BE | id        of each record that has the id: arrival hour, epoch, offset, what it claimed

A bucket is `BUCKET_HOURS` of arrivals. So an id is found by as many reads as there are buckets, two as a rule, nothing
has to be read when a partition is taken over, and ids leave by the range of a bucket. The entries are made of the ids
rows and written in the same batch with them.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator
from typing import Any, cast

import rocksdict

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fences import WHOLE
from metrics_app.aggregator.ids import Sight, Sights
from metrics_app.errors import FormatError

ENTRY = 0x40
BUCKET_HOURS = 24
SLICE_BYTES = 64 << 10  # of ids rows, or one row, indexed at a time: what that costs is how long others wait
BUILT_KEY = b"__metrics\0indexed"  # row key from which ids rows may have no entries; empty: all have
SINCE_KEY = b"__metrics\0ids-since"  # first arrival hour of which no ids were dropped

_IDS = bytes([rows.IDS])
_PREFIX = struct.Struct(">BI")
_SIGHT = struct.Struct("<IIqI")  # arrival hour, epoch, offset, number of ranges; 0: the id is claimed as a whole
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

    def find(self, ids: Collection[bytes], from_hour: int) -> Sights:
        """What is known of ids that were seen in an hour or later; with it may be what was seen before."""
        found: Sights = {}
        ids = sorted(ids)  # what lies together is found faster
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
                for key, sight in _sights(row_key, value):
                    news[key] = news.get(key, b"") + sight
        keys = sorted(news)
        for key, entry in zip(keys, self._entries(keys), strict=True):
            batch.put(key, news[key] if entry is None else _joined(entry, news[key]))
        self._buckets |= {_bucket_of(prefix) for prefix in {key[: _PREFIX.size] for key in keys}}

    def drop(self, before_hour: int) -> None:
        """Forgets the ids that arrived before an hour, bucket by bucket; of the last one some stay, and do no harm."""
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


def _sights(row_key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The ids of an ids row: the key of the entry of each, and what the row adds to it."""
    arrival_hour, offset = rows.split_ids_key(row_key)
    prefix = _PREFIX.pack(ENTRY, arrival_hour // BUCKET_HOURS)
    where = arrival_hour, rows.version_of(value).epoch, offset
    whole = _SIGHT.pack(*where, 0)
    for id_, claimed in rows.decode_ids(value).items():
        yield prefix + id_, whole if claimed is WHOLE else _encode(Sight(*where, claimed))


def _joined(entry: bytes, news: bytes) -> bytes:
    """One entry of two; a record that was written again is in it once."""
    sights = {sight[:-1]: sight for sight in (*_decode(entry), *_decode(news))}
    return b"".join(map(_encode, sights.values()))


def _encode(sight: Sight) -> bytes:
    edges = () if sight.claimed == WHOLE else sight.claimed
    return _SIGHT.pack(*sight[:-1], len(edges) // 2) + struct.pack(f"<{len(edges)}Q", *edges)


def _decode(entry: bytes) -> Iterator[Sight]:
    at = 0
    try:
        while at < len(entry):
            arrival_hour, epoch, offset, count = _SIGHT.unpack_from(entry, at)
            at += _SIGHT.size
            edges = struct.unpack_from(f"<{2 * count}Q", entry, at)
            at += count * _RANGE_BYTES
            yield Sight(arrival_hour, epoch, offset, edges or WHOLE)
    except struct.error as error:
        raise FormatError("entry of an id", str(error)) from error
