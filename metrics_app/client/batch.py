"""The body of one request: many series, as MessagePack columns, compressed where that pays.

It is made once. Every attempt to send it, also one by another process from the spool, sends the same bytes, and so the
same numbers.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec import Struct, msgpack

SAMPLE_BYTES = 4096
WORTH_IT = 0.8  # of its size; response times as float64 hardly shrink, histograms do
MAX_BODY_BYTES = 512 << 10  # a collector takes 1 MiB
MAX_ITEMS = 50_000  # values and buckets; a collector takes 100,000
SERIES_BYTES = 64  # names of members and numbers, besides key and values


class Series(Struct, omit_defaults=True):
    """Values of a key and hour, or a histogram of them; `first` is the number of the first."""

    key: str
    hour: int
    first: int
    values: bytes = b""
    histogram: dict[str, Any] | None = None


class Batch(Struct, frozen=True):
    """A body and what it holds.

    Attributes:
        count: recorded values that it stands for.
        items: values and buckets in it.
        gzipped: whether the body is compressed.
        moved: whether its hours were corrected, which is done once.
    """

    count: int
    items: int
    gzipped: bool
    body: bytes
    moved: bool = False

    @property
    def size(self) -> int:
        """Bytes it takes while it waits."""
        return len(self.body) + SERIES_BYTES

    def load(self) -> Batch:
        """Itself: it is in memory."""
        return self


def batch_of(sender: UUID, series: Sequence[Series | Mapping[str, object]], count: int, items: int) -> Batch:
    """The series as one body, which stands for `count` values."""
    body = msgpack.encode({"sender": str(sender), "series": series})
    gzipped = len(body) >= 256 and len(gzip.compress(body[:SAMPLE_BYTES], 1)) < WORTH_IT * min(len(body), SAMPLE_BYTES)
    return Batch(count, items, gzipped, gzip.compress(body, 6, mtime=0) if gzipped else body)
