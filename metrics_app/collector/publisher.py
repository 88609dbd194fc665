"""Publishes the chunks of a request, and bounds what may wait while Kafka is away.

Called by `views`.

    publish -> lane of the partition -> one record every few milliseconds -> Kafka -> ack -> publish returns

A request is refused at once when Kafka is known to be away, or what waits takes too much memory or work, and after the
deadline when an ack does not come. Then its outcome is unknown as far as it was sent, and the answer says so. Work is
counted in rows (`record.costs_of`). Requests of many rows are prepared one after the other, and leave room for others.

One timer for all requests that wait, in place of one for each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import mode

from metrics_app.collector.lane import PartitionLane, Ticket, WaitingChunks, pieces_of
from metrics_app.collector.producer import Connection
from metrics_app.errors import OverloadedError
from metrics_app.http.problems import Check
from metrics_app.settings import Settings
from metrics_app.telemetry import Telemetry
from metrics_app.turns import turn
from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk
from metrics_app.wire.partition import partitions_of

PLACED_A_TURN = 800  # chunks, before others have the event loop
LARGE_COST = 100  # rows; a request of more is a large one
LARGE_SHARE = 0.9  # of the rows that may wait, those of large requests; the rest is for small ones alone
HELD_BYTES = 512  # about what a waiting chunk takes in memory besides its bytes

Placed = tuple[PartitionLane, WaitingChunks]

NOTHING_KEPT = "nothing was kept, send it again"
MAYBE_KEPT = (
    "some or all of it may have been kept: sent again it counts once only with an Idempotency-Key, ids or a sender"
)


class Publisher(mode.Service):
    """Puts chunks into the samples topic. Starts and stays up without Kafka.

    Args:
        topics: why nothing may be put into the topics, though Kafka is there.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry, topics: Check = lambda: None) -> None:
        super().__init__()
        self._topics = topics
        self._settings = settings
        self._connection = Connection(settings, telemetry)
        self.add_dependency(self._connection)
        self._pending_bytes = 0
        self._pending_cost = {False: 0, True: 0}  # of small requests, of large ones
        self._one_large = asyncio.Lock()
        self._deadlines = Deadlines(settings.request_deadline_s)
        self._idle = asyncio.Event()
        self._idle.set()
        self._lanes = [
            PartitionLane(
                partition, self._connection, settings.linger_ms / 1000, settings.max_record_bytes, self._release
            )
            for partition in range(settings.partitions)
        ]
        self.clocks = self._connection.clocks
        telemetry.pending.set_function(lambda: self._pending_bytes)

    def problem(self) -> str | None:
        """Why nothing can be published now; None: Kafka is connected."""
        return self._connection.problem() or self._topics()

    def doubt(self) -> str | None:
        """Why nobody can say what time it is, nor so whether a timestamp is within bounds; None when our clock can."""
        return None if self.clocks.is_vouched_for else self.clocks.doubt() or self.problem()

    async def publish(self, chunks: Sequence[Chunk]) -> None:
        """Returns when Kafka has acknowledged every record with a part of the chunks.

        Raises:
            OverloadedError: it did not, or not in time. All or none of the chunks are queued, but they may end up in
                several records: after a failure some can be in Kafka. The message says which of the two it is.
        """
        cost = sum(record.costs_of(chunks))
        ticket = Ticket(0, asyncio.get_running_loop().create_future(), cost > LARGE_COST)
        if ticket.large:
            self._check_open(cost, ticket.large)  # before any work is done for it
            async with self._one_large:
                placed = await self._placed(chunks, ticket)
        else:
            placed = self._place(chunks, ticket)
        self._admit(sum(_held(waiting) for _, waiting in placed), cost, ticket.large)
        if not chunks:
            return
        ticket.left = len(placed)
        for lane, waiting in placed:
            lane.put(waiting)
        self._deadlines.watch(ticket.outcome)
        await self._outcome(ticket)

    async def _placed(self, chunks: Sequence[Chunk], ticket: Ticket) -> list[Placed]:
        """The chunks of a large request with their lanes, found a little at a time."""
        placed: list[Placed] = []
        for at in range(0, len(chunks), PLACED_A_TURN):
            await turn()
            placed += self._place(chunks[at : at + PLACED_A_TURN], ticket)
        return placed

    def _place(self, chunks: Sequence[Chunk], ticket: Ticket) -> list[Placed]:
        homes = partitions_of([chunk.key for chunk in chunks], len(self._lanes))
        by_home: dict[int, list[Chunk]] = {}
        for chunk, home in zip(chunks, homes, strict=True):
            by_home.setdefault(home, []).append(chunk)
        most = self._settings.max_record_bytes
        return [
            (self._lanes[home], piece) for home, theirs in by_home.items() for piece in pieces_of(theirs, most, ticket)
        ]

    async def on_start(self) -> None:
        """Lets the lanes run; connecting goes on in the background."""
        for lane in self._lanes:
            self.add_future(lane.run())

    async def on_stop(self) -> None:
        """Refuses what is new, and sends what is queued as long as a request waits for it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.request_deadline_s):
                await self._idle.wait()

    def _admit(self, size: int, cost: int, large: bool) -> None:
        self._check_open(cost, large)
        limit = self._settings.max_pending_bytes
        if self._pending_bytes + size > limit:
            raise not_kept(f"over {limit:,} bytes would be waiting for Kafka", "memory")
        self._pending_bytes += size
        self._pending_cost[large] += cost
        if size:
            self._idle.clear()

    def _check_open(self, cost: int, large: bool) -> None:
        """Refuses what cannot be published."""
        if self.should_stop:
            raise not_kept("this collector is stopping", "stopping")
        if (problem := self.problem()) is not None:
            raise not_kept(problem, "kafka")
        if (doubt := self.clocks.doubt()) is not None:
            raise not_kept(f"the hour of samples cannot be told: {doubt}", "clock")
        share = LARGE_SHARE if large else 1.0 - LARGE_SHARE
        pending, most = self._pending_cost[large], round(self._settings.max_pending_rows * share)
        if pending and pending + cost > most:
            raise not_kept(f"over {most:,} rows would be waiting for Kafka", "rows")

    def _release(self, waiting: WaitingChunks) -> None:
        self._pending_bytes -= _held(waiting)
        self._pending_cost[waiting.ticket.large] -= waiting.cost
        if not self._pending_bytes:
            self._idle.set()

    async def _outcome(self, ticket: Ticket) -> None:
        deadline_s = self._settings.request_deadline_s
        reason = "kafka"
        try:
            failure = await ticket.outcome
        except TimeoutError:
            failure, reason = f"Kafka did not acknowledge within {deadline_s:g} s", "deadline"
        if failure is not None and not ticket.sent:
            raise not_kept(failure, reason)
        if failure is not None:
            raise OverloadedError(f"{failure}; {MAYBE_KEPT}", reason=reason)


def _held(waiting: WaitingChunks) -> int:
    """About what chunks that wait take in memory, in bytes."""
    return waiting.size + HELD_BYTES * len(waiting.chunks)


def not_kept(why: str, reason: str) -> OverloadedError:
    """The error that says so."""
    return OverloadedError(f"{why}; {NOTHING_KEPT}", reason=reason, nothing_kept=True)


class Deadlines:
    """Ends what has waited for `limit_s`; as all wait equally long, the first to come is the first to be ended."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, outcome: asyncio.Future[Any]) -> None:
        """Fails the future with TimeoutError if it is not done in time. It is kept until then."""
        loop = outcome.get_loop()
        self._waiting.append((loop.time() + self._limit_s, outcome))
        if self._timer is None:
            self._timer = loop.call_later(self._limit_s, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        while self._waiting:
            due, outcome = self._waiting[0]
            if not outcome.done():
                if due > loop.time():
                    self._timer = loop.call_at(due, self._sweep, loop)
                    return
                outcome.set_exception(TimeoutError())
            self._waiting.popleft()
