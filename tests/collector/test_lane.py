from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from metrics_app.collector.lane import MOST_COST, SMALL_SHARE, PartitionLane, Ticket, WaitingChunks, pieces_of
from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk

from .fakes import until

MAX_BYTES = 1000


def chunk(key: str = "a", *values: float, ids: bytes = b"", sender: bytes = b"") -> Chunk:
    numbers = values or (1.0,)
    return Chunk(key.encode(), 498740, struct.pack(f"<{len(numbers)}d", *numbers), sender, 0, ids)


@dataclass
class FakeLink:
    """A Kafka that acknowledges when `gate` is open, or fails as told."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    failure: str | None = None
    away: str | None = None
    records: list[bytes] = field(default_factory=list)
    in_flight: int = 0

    def problem(self) -> str | None:
        return self.away

    async def send(self, partition: int, record: bytes) -> str | None:
        assert partition == 3
        self.in_flight += 1
        assert self.in_flight == 1
        self.records.append(record)
        await self.gate.wait()
        self.in_flight -= 1
        return self.failure

    def chunks(self) -> list[list[Chunk]]:
        return [record.decode(sent) for sent in self.records]


@dataclass
class Running:
    lane: PartitionLane
    released: list[WaitingChunks] = field(default_factory=list)

    def put(self, *chunks: Chunk, large: bool = False) -> Ticket:
        ticket = Ticket(len(chunks), asyncio.get_running_loop().create_future(), large)
        for one in chunks:
            self.lane.put(WaitingChunks([one], record.sizes_of([one])[0], record.costs_of([one])[0], ticket))
        return ticket


@contextmanager
def lane(link: FakeLink, linger_s: float = 0.01, max_bytes: int = MAX_BYTES) -> Iterator[Running]:
    running = Running(PartitionLane(3, link, linger_s, max_bytes, lambda waiting: running.released.append(waiting)))
    task = asyncio.create_task(running.lane.run())
    try:
        yield running
    finally:
        task.cancel()


async def until_sent(link: FakeLink, count: int) -> None:
    await until(lambda: len(link.records) >= count)


async def test_what_arrives_within_the_linger_goes_into_one_record() -> None:
    link = FakeLink()
    link.gate.set()
    with lane(link) as running:
        tickets = [running.put(chunk("a", 1), chunk("b", 2, ids=b"i" * 16)), running.put(chunk("c", 3))]
        assert [await ticket.outcome for ticket in tickets] == [None, None]
    assert [[one.key for one in sent] for sent in link.chunks()] == [[b"a", b"b", b"c"]]


async def test_a_request_is_answered_only_after_the_ack_of_all_its_chunks() -> None:
    link = FakeLink()
    with lane(link) as running:
        big = running.put(*(chunk("a", *range(100), ids=b"%016d" % n) for n in range(2)))
        await until_sent(link, 1)
        assert not big.outcome.done()
        assert running.released == []
        link.gate.set()
        assert await big.outcome is None
    assert len(link.records) == len(running.released) == 2


async def test_one_record_is_in_flight_at_a_time_and_they_leave_in_the_order_of_arrival() -> None:
    link = FakeLink()
    with lane(link) as running:
        first = running.put(chunk("a", 1))
        await until_sent(link, 1)
        rest = [running.put(chunk("a", n)) for n in (2, 3)]
        await asyncio.sleep(0.05)
        assert len(link.records) == 1
        link.gate.set()
        for ticket in (first, *rest):
            assert await ticket.outcome is None
    assert [[struct.unpack(f"<{c.count}d", c.values) for c in sent] for sent in link.chunks()] == [[(1,)], [(2, 3)]]


async def test_records_stay_within_the_limit_and_a_larger_chunk_goes_alone() -> None:
    link = FakeLink()
    link.gate.set()
    with lane(link) as running:
        chunks = [chunk(f"k{n}", *range(10), ids=b"%016d" % n) for n in range(30)]
        chunks.insert(7, chunk("big", *range(500)))
        assert await running.put(*chunks).outcome is None
    assert [one for sent in link.chunks() for one in sent] == chunks
    sizes = [len(sent) for sent in link.records if len(record.decode(sent)) > 1]
    assert max(sizes) <= MAX_BYTES
    assert len(link.records) < 12


async def test_what_nobody_waits_for_any_more_is_not_sent() -> None:
    link = FakeLink()
    with lane(link) as running:
        running.put(chunk("a"))
        await until_sent(link, 1)
        given_up, awaited = running.put(chunk("b")), running.put(chunk("c"))
        given_up.outcome.cancel()
        link.gate.set()
        assert await awaited.outcome is None
    assert [[one.key for one in sent] for sent in link.chunks()] == [[b"a"], [b"c"]]
    assert len(running.released) == 3
    assert (given_up.sent, awaited.sent) == (False, True)


async def test_a_failed_record_fails_its_requests_and_gives_its_memory_back() -> None:
    link = FakeLink(failure="gone")
    link.gate.set()
    with lane(link) as running:
        tickets = [running.put(chunk("a"), chunk("b")), running.put(chunk("c"))]
        assert [await ticket.outcome for ticket in tickets] == ["gone", "gone"]
        await asyncio.sleep(0)
    assert [ticket.sent for ticket in tickets] == [True, True]
    assert len(running.released) == 3


async def test_without_a_connection_nothing_is_sent_and_the_request_knows() -> None:
    link = FakeLink(away="no Kafka")
    with lane(link) as running:
        ticket = running.put(chunk("a"))
        assert await ticket.outcome == "no Kafka"
    assert (ticket.sent, link.records, len(running.released)) == (False, [], 1)


async def test_an_ack_of_a_given_up_request_is_no_error() -> None:
    link = FakeLink()
    with lane(link) as running:
        ticket = running.put(chunk("a"))
        await until_sent(link, 1)
        ticket.outcome.cancel()
        link.gate.set()
        assert await running.put(chunk("b")).outcome is None
    assert (ticket.sent, len(running.released)) == (True, 2)


@pytest.mark.parametrize("failures", [(None, None), ("x", None), (None, "x")])
async def test_a_ticket_ends_at_its_first_failure_or_its_last_ack(failures: tuple[str | None, ...]) -> None:
    ticket = Ticket(2, asyncio.get_running_loop().create_future())
    for failure in failures:
        ticket.settle(failure)
    assert await ticket.outcome == next(filter(None, failures), None)


async def test_a_record_costs_a_bounded_time_to_fold_however_small_its_chunks_are():
    link = FakeLink()
    link.gate.set()
    with lane(link, max_bytes=512 << 10) as running:
        running.put(*(chunk(f"k{number}", 1) for number in range(MOST_COST + 1)))
        await until_sent(link, 2)
    assert [len(chunks) for chunks in link.chunks()] == [MOST_COST, 1]


async def test_chunks_of_small_requests_go_before_those_of_large_ones_which_are_not_starved():
    link = FakeLink()
    link.gate.set()
    with lane(link, max_bytes=512 << 10) as running:
        running.put(*(chunk(f"l{number}", 1) for number in range(MOST_COST)), large=True)
        running.put(*(chunk(f"s{number}", 1) for number in range(MOST_COST)))
        await until_sent(link, 2)
    first, second = ([one.key[:1] for one in chunks] for chunks in link.chunks()[:2])
    small = round(SMALL_SHARE * MOST_COST)
    assert first == [b"s"] * small + [b"l"] * (MOST_COST - small)
    assert second[0] == b"s"


async def test_the_pieces_of_a_request_leave_room_for_others_in_a_record_and_hold_all_of_it_in_its_order() -> None:
    ticket = Ticket(0, asyncio.get_running_loop().create_future())
    named = [chunk(f"k{n}", ids=b"i" * 16 * (n % 9)) for n in range(300)]
    long = [chunk(f"l{n}", *range(n)) for n in range(1, 200)]
    for chunks in (named, long, named[:1], [chunk("big", *range(5000)), *named[:3]]):
        pieces = list(pieces_of(chunks, 20_000, ticket))
        assert [one for piece in pieces for one in piece.chunks] == chunks
        for piece in pieces:
            assert piece.size == sum(record.sizes_of(piece.chunks))
            assert piece.cost == sum(record.costs_of(piece.chunks))
            assert len(piece.chunks) == 1 or (piece.size <= 20_000 / 4 and piece.cost <= MOST_COST / 4)
