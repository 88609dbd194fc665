"""Fetches the last record of each partition again over every new connection to Kafka, so that a log that was cut shows.

Called by `consumer`.

A broker that loses power loses what its disk did not have yet. It gives the same offsets to other records then. A
consumer that goes on at its position takes these for the next ones, and never sees those that took the place of what it
has read. The last record read tells: it has another append time now. A broker cannot lose its end without losing its
connections, so one look for each new connection is enough. aiokafka does not send the leader epoch that Kafka would
check itself (KIP-320).
"""

from __future__ import annotations

from typing import Any

from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition


class LastRecords:
    """Moves the positions of one aiokafka consumer back by one record, partition by partition.

    A partition that was not fetched before is left alone: whoever assigns it has compared it with the log.
    """

    def __init__(self, consumer: Any) -> None:
        self._subscription = consumer._subscription
        self._connection: dict[TopicPartition, Any] = {}
        self._moved: dict[TopicPartition, int] = {}

    def ask_again(self, connection: Any, request: Any) -> None:
        """Changes a fetch, which is about to be sent over the connection, where it is the first one over it."""
        if isinstance(request, FetchRequest):
            request._topics = [
                (topic, [(number, self._begin(TopicPartition(topic, number), offset, connection), size)])
                for topic, partitions in request.topics
                for number, offset, size in partitions
            ]

    def _begin(self, partition: TopicPartition, offset: int, connection: Any) -> int:
        before = self._connection.get(partition, connection)
        self._connection[partition] = connection
        assignment = self._subscription.subscription.assignment
        state = assignment and assignment.state_value(partition)
        may_move = state is not None and state.has_valid_position and state.position == offset > 0
        if before is connection or not may_move or self._moved.get(partition) == offset:
            return offset
        self._moved[partition] = offset - 1
        state.seek(offset - 1)
        return offset - 1
