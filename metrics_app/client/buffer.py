"""Batches that wait to be sent. Their number is bounded; when it is full the oldest are dropped.

Called by `contents`, `delivery`, `engine`, `gathering`, `outcome` and others.

The body of one request: many series, as MessagePack, compressed where that pays.

It is made once. Every attempt to send it, also one by another process from the spool, sends the same bytes, and so the
same numbers.
"""

from __future__ import annotations

import gzip
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from metrics_app.client.series import Series, packed


class Waiting(Protocol):
    """A batch in memory or on disk, with what it takes there."""

    @property
    def count(self) -> int:
        """Number of recorded values in it."""

    @property
    def items(self) -> int:
        """Values and buckets in it."""

    @property
    def size(self) -> int:
        """Bytes."""

    def load(self) -> Batch | None:
        """The batch; None when it cannot be read any more.

        Raises:
            OSError: it cannot be read now.
        """


class Buffer:
    """Batches in the order they came. One that is being sent stays, and is not dropped meanwhile.

    Args:
        max_items: values and buckets that may wait.
        max_bytes: bytes that may wait.
        dropped: where values dropped to make room are counted.
        let_go: called with a batch that is sent or dropped.
        lost: called with a batch that is dropped, before it is let go.
    """

    def __init__(
        self,
        max_items: int,
        max_bytes: int,
        dropped: Counter[str],
        let_go: Callable[[Waiting], None] = lambda batch: None,
        lost: Callable[[Waiting], None] = lambda batch: None,
    ) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._let_go = let_go
        self._lost = lost
        self._changed = threading.Condition()
        self._batches: deque[Waiting] = deque()
        self._sending: Waiting | None = None
        self._woken = False
        self._dropped = dropped
        self.items = 0
        self.bytes = 0
        self.count = 0

    def __len__(self) -> int:
        return len(self._batches) + (self._sending is not None)

    def put(self, batch: Waiting) -> None:
        """Adds a batch; drops the oldest batches when the limits are exceeded."""
        with self._changed:
            self._batches.append(batch)
            self._weigh(batch, 1)
            self.make_room(0, 0)
            self._changed.notify_all()

    def make_room(self, items: int, size: int) -> None:
        """Drops the oldest batches until so many items and bytes fit: the spool on disk must never exceed its limit."""
        with self._changed:
            while self._batches and (self.items + items > self._max_items or self.bytes + size > self._max_bytes):
                oldest = self._batches.popleft()
                self._dropped["overflow"] += oldest.count
                self._lost(oldest)
                self._forget(oldest)

    def take(self, wait_s: float) -> Waiting | None:
        """Takes the oldest batch for sending; None when no batch comes within the time."""
        with self._changed:
            self._changed.wait_for(lambda: self._batches or self._woken, wait_s)
            self._sending = self._batches.popleft() if self._batches else None
            return self._sending

    def waiting(self) -> list[Waiting]:
        """All waiting batches, with the one that is being sent."""
        with self._changed:
            return [*([self._sending] if self._sending else []), *self._batches]

    def wake(self) -> None:
        """Makes `take` return at once, now and in later calls."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def give_back(self) -> None:
        """Puts the batch that was taken back as the oldest: it was not sent."""
        with self._changed:
            if self._sending is not None:
                self._batches.appendleft(self._sending)
                self._sending = None

    def done(self) -> None:
        """Removes the batch that was taken: it was sent or dropped."""
        with self._changed:
            if self._sending is not None:
                self._forget(self._sending)
                self._sending = None
            self._changed.notify_all()

    def swap(self, batches: Sequence[Waiting]) -> None:
        """The batch that was taken is done with, and what takes no more room than it comes in its place."""
        with self._changed:
            for batch in reversed(batches):
                self._batches.appendleft(batch)
                self._weigh(batch, 1)
            self.done()

    def wait_empty(self, wait_s: float) -> bool:
        """Waits until no batch waits or is being sent; False when that takes longer than so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._batches and self._sending is None, wait_s)

    def _forget(self, batch: Waiting) -> None:
        self._weigh(batch, -1)
        self._let_go(batch)

    def _weigh(self, batch: Waiting, sign: int) -> None:
        self.items += sign * batch.items
        self.bytes += sign * batch.size
        self.count += sign * batch.count


SAMPLE_BYTES = 4096
WORTH_IT = 0.8  # of its size; response times as float64 hardly shrink, histograms do
MAX_BODY_BYTES = 512 << 10  # a collector takes 1 MiB
MAX_ITEMS = 50_000  # values and buckets; a collector takes 100,000
SERIES_BYTES = 64  # names of members and numbers, besides key and values


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
        """Returns itself: the batch is in memory."""
        return self


def batch_of(sender: UUID, series: Sequence[Series | Mapping[str, object]], count: int, items: int) -> Batch:
    """The series as one body, which stands for `count` values."""
    body = packed(sender, series)
    gzipped = len(body) >= 256 and len(gzip.compress(body[:SAMPLE_BYTES], 1)) < WORTH_IT * min(len(body), SAMPLE_BYTES)
    return Batch(count, items, gzipped, gzip.compress(body, 6, mtime=0) if gzipped else body)
