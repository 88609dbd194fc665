"""What a batch holds: series of numbered values, and the two forms in which a collector takes them.

Called by `buffer`, `contents` and `gathering`.

Few keys go as series, each with its values together. Where keys are many and each has few values, the names of the
members and what a collector does for each series are most of the cost: then they go as a table, a column each of keys,
values, timestamps and numbers, in which every value is a row (`wire.msgpack_table`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from struct import pack, unpack
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import Raw, Struct, msgpack

from metrics_app.wire.chunk import VALUE_BYTES

HOUR_S = 3600
MANY_KEYS = 100  # series; fewer are not worth it
FEW_VALUES = 3  # of a series, on average; with more it takes fewer bytes as a series


class Series(Struct, omit_defaults=True):
    """Values of a key and hour, or a histogram of them; `first` is the number of the first."""

    key: str
    hour: int
    first: int
    values: bytes = b""
    histogram: dict[str, Any] | None = None


class _SentTable(Struct):
    sender: UUID
    keys: list[str]
    index: bytes
    values: bytes
    timestamps: bytes
    numbers: list[int]


class _SentSeries(Struct):
    sender: UUID
    series: list[Series]


class BatchBody(NamedTuple):
    """Who numbered the values of a body, and these: of a table a series a row, so that each has the index of a row."""

    sender: UUID
    series: list[Series]


_SERIES = msgpack.Decoder(_SentSeries)
_TABLE = msgpack.Decoder(_SentTable)
_MEMBERS = msgpack.Decoder(dict[str, Raw])


def packed(sender: UUID, series: Sequence[Series | Mapping[str, object]]) -> bytes:
    """The series as a body."""
    many = [one for one in series if isinstance(one, Series) and one.values and one.histogram is None]
    values = sum(len(one.values) for one in many) // VALUE_BYTES
    if len(many) == len(series) >= MANY_KEYS and values <= FEW_VALUES * len(series):
        return msgpack.encode(_table(sender, many))
    return series_body(sender, series)


def series_body(sender: UUID, series: Sequence[Series | Mapping[str, object]]) -> bytes:
    """The series as a body of series, however many they are."""
    return msgpack.encode({"sender": str(sender), "series": series})


def is_packed_table(body: bytes) -> bool:
    """Whether `packed` has made a table of what it was given."""
    return "series" not in _MEMBERS.decode(body)


def unpacked(body: bytes) -> BatchBody:
    """What `packed` has packed."""
    if not is_packed_table(body):
        sent = _SERIES.decode(body)
        return BatchBody(sent.sender, sent.series)
    return _rows(_TABLE.decode(body))


def _table(sender: UUID, series: Sequence[Series]) -> _SentTable:
    places = {key: place for place, key in enumerate(dict.fromkeys(one.key for one in series))}
    counts = [len(one.values) // VALUE_BYTES for one in series]
    rows = list(zip(series, counts, strict=True))
    index = [places[one.key] for one, count in rows for _ in range(count)]
    return _SentTable(
        sender=sender,
        keys=list(places),
        index=pack(f"<{len(index)}I", *index),
        values=b"".join([one.values for one in series]),
        timestamps=b"".join([pack("<d", one.hour * HOUR_S) * count for one, count in rows]),
        numbers=list(chain.from_iterable(range(one.first, one.first + count) for one, count in rows)),
    )


def _rows(sent: _SentTable) -> BatchBody:
    count = len(sent.numbers)
    index, times = unpack(f"<{count}I", sent.index), unpack(f"<{count}d", sent.timestamps)
    values = [sent.values[at : at + VALUE_BYTES] for at in range(0, count * VALUE_BYTES, VALUE_BYTES)]
    rows = zip(index, times, sent.numbers, values, strict=True)
    return BatchBody(
        sent.sender, [Series(sent.keys[key], int(time // HOUR_S), number, value) for key, time, number, value in rows]
    )
