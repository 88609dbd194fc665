"""Takes chunks of one partition to Kafka: gathers them for a moment, then sends one record at a time, in their order.

Called by `publisher`.

Chunks that are made one (`merged`) go where the first of them would.

Makes one chunk of several where that changes no count: what a chunk costs to fold hardly depends on its length.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from metrics_app.turns import turn
from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk


@dataclass(eq=False, slots=True)
class Ticket:
    """What one request waits for.

    Attributes:
        left: pieces of it not yet acknowledged.
        large: whether the request costs so much that those of others go before it.
        outcome: None once all are, or why the first that failed did; cancelled when nobody waits any more.
        sent: whether some of it may be in Kafka, whatever the outcome.
    """

    left: int
    outcome: asyncio.Future[str | None]
    large: bool = False
    sent: bool = False

    def settle(self, failure: str | None) -> None:
        """One more piece is acknowledged, or has failed."""
        self.left -= 1
        if not self.outcome.done() and (failure is not None or self.left == 0):
            self.outcome.set_result(failure)


class WaitingChunks(NamedTuple):
    """Chunks of one request that go together, the bytes they take in a record at most, and what they cost to fold.

    What is done for each of them alone is most of what a request of many keys costs.
    """

    chunks: Sequence[Chunk]
    size: int
    cost: int
    ticket: Ticket


# of a record: it is folded in one turn of a worker's event loop, which this bounds to about 15 ms
MOST_COST = 500
SMALL_SHARE = 0.75  # of a record's cost, for the chunks of small requests while large ones wait
PIECE_SHARE = 0.25  # of a record, in cost and bytes, that chunks which go together take at most


def pieces_of(chunks: Sequence[Chunk], max_bytes: int, ticket: Ticket) -> Iterator[WaitingChunks]:
    """The chunks of a request for one partition, in their order, in pieces that records can be filled with.

    Args:
        max_bytes: of a record.
    """
    size, cost = sum(record.sizes_of(chunks)), sum(record.costs_of(chunks))
    if len(chunks) < 2 or (size <= max_bytes * PIECE_SHARE and cost <= MOST_COST * PIECE_SHARE):
        yield WaitingChunks(chunks, size, cost, ticket)
        return
    middle = len(chunks) // 2
    yield from pieces_of(chunks[:middle], max_bytes, ticket)
    yield from pieces_of(chunks[middle:], max_bytes, ticket)


class Link(Protocol):
    """The connection to Kafka as the lanes need it."""

    def problem(self) -> str | None:
        """Why nothing can be sent now; None: it can."""

    async def send(self, partition: int, record: bytes) -> str | None:
        """None when the record is acknowledged, else why it is not known to be."""


class PartitionLane:
    """The queue of one partition. One record is in flight at a time; what arrives meanwhile goes into the next."""

    def __init__(
        self, partition: int, link: Link, linger_s: float, max_bytes: int, release: Callable[[WaitingChunks], None]
    ) -> None:
        self._partition = partition
        self._link = link
        self._linger_s = linger_s
        self._max_bytes = max_bytes
        self._release = release
        self._small: deque[WaitingChunks] = deque()
        self._large: deque[WaitingChunks] = deque()
        self._filled = asyncio.Event()

    def put(self, waiting: WaitingChunks) -> None:
        """Queue a piece; its ticket is settled, and `release` called with it, when its way has ended."""
        (self._large if waiting.ticket.large else self._small).append(waiting)
        self._filled.set()

    async def run(self) -> None:
        """Send what is queued, for ever."""
        while True:
            await self._filled.wait()
            await asyncio.sleep(self._linger_s)
            while batch := self._take():
                await self._flush(batch)
            self._filled.clear()

    def _take(self) -> list[WaitingChunks]:
        """The chunks of the next record: of small requests first, so that nobody waits for a large one."""
        batch = _RecordRoom(self._max_bytes - record.OVERHEAD_BYTES, self._release)
        batch.fill(self._small, SMALL_SHARE * MOST_COST if self._large else MOST_COST)
        batch.fill(self._large, MOST_COST)
        return batch.taken

    async def _flush(self, batch: list[WaitingChunks]) -> None:
        await turn()
        failure = self._link.problem()
        if failure is None:
            for waiting in batch:
                waiting.ticket.sent = True
            failure = await self._link.send(
                self._partition, record.encode(merged([chunk for waiting in batch for chunk in waiting.chunks]))
            )
        for waiting in batch:
            self._release(waiting)
            waiting.ticket.settle(failure)


class _RecordRoom:
    """The chunks of a record while it is filled."""

    def __init__(self, room: int, release: Callable[[WaitingChunks], None]) -> None:
        self.taken: list[WaitingChunks] = []
        self._room = room
        self._cost = 0
        self._release = release

    def fill(self, queue: deque[WaitingChunks], most_cost: float) -> None:
        """Takes what fits from the front of a queue; a piece too large for any record has one of its own."""
        while queue:
            waiting = queue[0]
            if waiting.ticket.outcome.done():
                self._release(waiting)  # its request was answered already: sending it now would count it unasked
            elif self.taken and (waiting.size > self._room or self._cost + waiting.cost > most_cost):
                return
            else:
                self._room -= waiting.size
                self._cost += waiting.cost
                self.taken.append(waiting)
            queue.popleft()


def merged(chunks: list[Chunk]) -> list[Chunk]:
    """The chunks, those of a key and hour made one that nothing identifies, or whose numbers follow each other.

    A merged chunk stands where its first part stood. What has ids is known by them as it is, and a histogram cannot be
    joined to anything. Numbered values stay on their side of what another sender, or a histogram, brings for the same
    row: how many senders and ranges a row notes is bounded, and the fold must come to that bound at the same chunk.
    """
    if len({chunk[:2] for chunk in chunks}) == len(chunks):  # no two of a key and hour
        return chunks
    runs: list[list[Chunk]] = []
    latest: dict[tuple[bytes, int, bool], list[Chunk]] = {}
    for chunk in chunks:
        if chunk.ids:
            runs.append([chunk])
            continue
        whose = chunk.key, chunk.hour, bool(chunk.sender)
        run = latest.get(whose)
        if run is None or not _follows(run[-1], chunk):
            run = latest[whose] = []
            runs.append(run)
        run.append(chunk)
    return [_joined(run) for run in runs]


def _follows(before: Chunk, chunk: Chunk) -> bool:
    if before.histogram or chunk.histogram or before.sender != chunk.sender:
        return False
    return not chunk.sender or chunk.first == before.first + before.count


def _joined(run: list[Chunk]) -> Chunk:
    return run[0] if len(run) == 1 else run[0]._replace(values=b"".join([chunk.values for chunk in run]))
