"""Rows of few values without the objects of a `Row`: with very many keys nearly every row is one.

Called by `fold`, which folds into such a row as long as it stays small, and by `flush`, which encodes it.

A small row has a few distinct values, each once, of no sender or of one whose numbers have no gap; it is complete, and
nothing was left out of it. Its bytes are exactly those that `row.encode_row` gives for the same state. What does not
fit is done by the `Row` that `whole` returns. To decode, change and encode one takes about a tenth of the time.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from typing import NamedTuple
from zlib import crc32

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.ranges import Ranges
from metrics_app.aggregator.row import NO_STAMP, Row
from metrics_app.stats import codec
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.chunk import SENDER_BYTES, VALUE_BYTES, VALUE_MAX, Chunk

MOST_VALUES = 16

_VALUE = struct.Struct("<d")
_CRC = struct.Struct("<I")
# magic, version, flags, epoch, stamp; late, duplicates, unfenced, senders; then a sender, one range of it; then the
# head of the summary, the values: the layouts of `row` and `codec` in one
_BEFORE = "<BBHIqQQQH"
_SENDER = f"{SENDER_BYTES}sHQQ"
_SUMMARY = "BBBI"
_HEAD = (rows.MAGIC, rows.PLAIN, 0)  # what a small row has there
_FIELDS_BEFORE = 9
_EXACT = (codec.VERSION, codec.EXACT, 0)


class _Layout(NamedTuple):
    packed: struct.Struct
    has_sender: bool
    values: int


def _layout(has_sender: bool, count: int) -> _Layout:
    return _Layout(struct.Struct(f"{_BEFORE}{_SENDER if has_sender else ''}{_SUMMARY}{count}d"), has_sender, count)


_LAYOUTS = {has_sender: [_layout(has_sender, n) for n in range(MOST_VALUES + 1)] for has_sender in (False, True)}
_BY_SIZE = {  # of a row with its checksum; no two layouts have the same
    layout.packed.size + _CRC.size: layout for layouts in _LAYOUTS.values() for layout in layouts[1:]
}


class SmallRow:
    """State of one key in one hour, while that is small.

    Attributes:
        epoch, stamp, late: as in `Row`.
        values: the distinct values, ascending; each was counted once.
        sender: whose values they are, empty when nobody numbered them.
        first, stop: the sender's numbers that were counted; both 0 without a sender.
    """

    __slots__ = ("epoch", "first", "late", "sender", "stamp", "stop", "values")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.stamp = NO_STAMP
        self.late = 0
        self.values: list[float] = []
        self.sender = b""
        self.first = self.stop = 0

    def add(self, chunk: Chunk, most: int) -> int:
        """Adds all values of a chunk and returns how many; 0: the row would not be small, and nothing has changed.

        Args:
            most: values that a small row may have, at most MOST_VALUES.
        """
        _, _, added, sender, first, ids, histogram, _ = chunk
        count = len(added) // VALUE_BYTES
        if ids or histogram or not count or len(self.values) + count > most:
            return 0
        if sender and self.sender and (first != self.stop or sender != self.sender):
            return 0
        if not (self._insert(added) if count == 1 else self._merge(added, count)):
            return 0
        if sender:
            if not self.sender:
                self.sender, self.first = bytes(sender), first
            self.stop = first + count
        return count

    def _insert(self, added: bytes | memoryview) -> bool:
        value = _VALUE.unpack(added)[0] + 0.0  # + 0.0 makes -0.0 a plain zero
        values = self.values
        at = bisect_left(values, value)
        if at < len(values) and values[at] == value:
            return False
        values.insert(at, value)
        return True

    def _merge(self, added: bytes | memoryview, count: int) -> bool:
        merged = {*self.values, *[value + 0.0 for value in struct.unpack(f"<{count}d", added)]}
        if len(merged) != len(self.values) + count:
            return False
        self.values = sorted(merged)
        return True

    def encode(self) -> bytes:
        """The bytes that `row.encode_row` gives for the same state."""
        values, sender = self.values, self.sender
        count = len(values)
        numbered = (1, sender, 1, self.first, self.stop) if sender else (0,)
        pack = _LAYOUTS[bool(sender)][count].packed.pack
        packed = pack(*_HEAD, self.epoch, self.stamp, self.late, 0, 0, *numbered, *_EXACT, count, *values)
        return packed + _CRC.pack(crc32(packed))

    def whole(self, exact_distinct: int) -> Row:
        """The same state as a `Row`."""
        summary = HourlySummary.of_counts(self.values, [1] * len(self.values), exact_distinct)
        senders = {self.sender: Ranges([self.first, self.stop])} if self.sender else {}
        return Row(summary, self.epoch, self.stamp, self.late, senders=senders)

    @property
    def count(self) -> int:
        """Number of values."""
        return len(self.values)


def decode(value: bytes, most: int) -> SmallRow | None:
    """The small row of stored bytes; None when they are another row, or no sound row: `row.decode_row` says which."""
    layout = _BY_SIZE.get(len(value))
    if layout is None or layout.values > most:
        return None
    packed, has_sender, count = layout
    fields = packed.unpack_from(value)
    if fields[:3] != _HEAD or fields[6:9] != (0, 0, has_sender):
        return None
    if crc32(memoryview(value)[: -_CRC.size]) != int.from_bytes(value[-_CRC.size :], "little"):
        return None
    small = SmallRow(fields[3])
    small.stamp, small.late = fields[4:6]
    at = _FIELDS_BEFORE
    if has_sender:
        small.sender, ranges, small.first, small.stop = fields[at : at + 4]
        at += 4
        if ranges != 1 or not small.first < small.stop:
            return None
    if fields[at : at + 4] != (*_EXACT, count):
        return None
    small.values = [*fields[at + 4 :]]
    return small if _are_in_order(small.values, value, packed.size) else None


def _are_in_order(values: list[float], value: bytes, end: int) -> bool:
    """Whether they are as they may be in a row: ascending, in range, and the least is no -0.0."""
    if not values[0] >= 0.0 or not values[-1] <= VALUE_MAX or value[end - VALUE_BYTES * len(values) + 7] & 0x80:
        return False  # a sign bit at the first value; NaN fails both comparisons
    return len(values) == 1 or all(map(float.__lt__, values, values[1:]))
