"""The first fetch over a new connection begins with the record that was read last, once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import TopicPartition

from metrics_app.faust_runtime.last_records import LastRecords

SAMPLES = TopicPartition("samples", 3)


class Consumer:
    """aiokafka's, as far as its positions go: the assignment is the real one."""

    def __init__(self) -> None:
        self.assignment = Assignment([SAMPLES])
        self._subscription = SimpleNamespace(subscription=SimpleNamespace(assignment=self.assignment))
        self.last_records = LastRecords(self)

    def fetch(self, connection: object, offset: int) -> int:
        """The offset that is fetched over a connection, when the position is `offset`."""
        self.assignment.state_value(SAMPLES).seek(offset)
        request = FetchRequest(0, 0, 0, 0, [("samples", [(3, offset, 1024)])])
        self.last_records.ask_again(connection, request)
        fetched: int
        ((_, ((number, fetched, size),)),) = request.topics
        assert (number, size) == (3, 1024)
        assert self.assignment.state_value(SAMPLES).position == fetched
        return fetched


@pytest.fixture
async def consumer() -> Consumer:
    return Consumer()


async def test_the_first_fetch_over_a_new_connection_begins_a_record_earlier(consumer: Consumer) -> None:
    assert [consumer.fetch("a", offset) for offset in (7, 9)] == [7, 9]
    assert [consumer.fetch("b", offset) for offset in (12, 12, 15)] == [11, 12, 15]
    assert consumer.fetch("c", 15) == 14


async def test_connections_that_fail_before_they_bring_anything_do_not_move_it_further(consumer: Consumer) -> None:
    consumer.fetch("a", 7)
    assert [consumer.fetch(new, offset) for new, offset in (("b", 7), ("c", 6), ("d", 6))] == [6, 6, 6]
    assert consumer.fetch("d", 8) == 8
    assert consumer.fetch("e", 8) == 7


async def test_there_is_nothing_before_the_first_record(consumer: Consumer) -> None:
    assert [consumer.fetch("a", 0), consumer.fetch("b", 0)] == [0, 0]


async def test_a_fetch_that_a_seek_has_overtaken_and_other_requests_stay_as_they_are(consumer: Consumer) -> None:
    consumer.fetch("a", 7)
    request = FetchRequest(0, 0, 0, 0, [("samples", [(3, 5, 1024)])])  # the position is 7
    consumer.last_records.ask_again("b", request)
    assert request.topics == [("samples", [(3, 5, 1024)])]
    consumer.last_records.ask_again("b", MetadataRequest([]))


async def test_a_partition_that_was_taken_away_is_left_alone(consumer: Consumer) -> None:
    consumer.fetch("a", 7)
    request = FetchRequest(0, 0, 0, 0, [("other", [(1, 5, 1024)])])
    consumer.last_records.ask_again("a", request)
    consumer.last_records.ask_again("b", request)
    assert request.topics == [("other", [(1, 5, 1024)])]
