"""Gives up connections to Kafka on which an answer is due and no byte arrives: half-open ones, for example.

Called by `consumer` and `kafka.connections`.

A firewall that forgets a connection, or a broker's machine that loses power, tells nobody. aiokafka then waits for the
whole request timeout of a consumer, 90 s with Faust, as a JoinGroup may last that long. Meanwhile heartbeats wait too:
the group has given the partitions to others, and the worker answers questions from rows that get older. A limit on
silence finds such a connection in seconds, and lets an answer of many megabytes over a thin link take its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.client import ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.errors import NodeNotReadyError, RequestTimedOutError
from aiokafka.protocol.group import HeartbeatRequest

SILENT_SHARE = 0.8  # of the session timeout: a worker is back before its partitions move, if its new connection works


Prepare = Callable[[Any, Any], None]  # of a connection and the request that is about to be sent over it


def bounded(consumer: Any, session_s: float, prepare: Prepare = lambda *_: None) -> Any:
    """The aiokafka consumer, which gives up a silent connection; to be called before it is started.

    Args:
        session_s: session timeout of the group. A connection is given up after 0.4 to 0.8 of it without a byte; to
            connect may take 0.8 of it.
        prepare: called with the connection and the request before each is sent.
    """
    client = consumer._client
    client.send = _Requests(client, client._request_timeout_ms / 1000, session_s * SILENT_SHARE / 2, prepare).send
    client._request_timeout_ms = round(session_s * SILENT_SHARE * 1000)  # to connect, and metadata
    return consumer


class _Requests:
    """Requests of one aiokafka client.

    Args:
        longest_s: longest wait for an answer that arrives bit by bit, and for one of the group's coordinator.
        look_s: time between two looks at a connection.
    """

    def __init__(self, client: Any, longest_s: float, look_s: float, prepare: Prepare) -> None:
        self._client = client
        self._prepare = prepare
        self._longest_s = longest_s
        self._look_s = look_s

    async def send(self, node_id: int, request: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT) -> Any:
        """The answer of a node, as `AIOKafkaClient.send`.

        Raises:
            NodeNotReadyError: no connection.
            RequestTimedOutError: no byte came for too long, or not the whole answer.
            KafkaConnectionError: the connection was closed.
        """
        if not await self._client.ready(node_id, group=group):
            raise NodeNotReadyError(f"no connection to node {node_id}")
        connection = self._client._conns[node_id, group]
        self._prepare(connection, request)
        sent = _sent(connection, request, self._longest_s)
        # a JoinGroup is answered when the last member has joined, and a commit behind it later; a heartbeat at once
        may_be_silent = group == ConnectionGroup.COORDINATION and not isinstance(request, HeartbeatRequest)
        try:
            return await (sent if may_be_silent else self._unless_silent(connection, sent))
        except TimeoutError:
            connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
            raise RequestTimedOutError from None

    async def _unless_silent(self, connection: Any, sent: Awaitable[Any]) -> Any:
        answer, before = asyncio.ensure_future(sent), -1
        try:
            while not (await asyncio.wait([answer], timeout=self._look_s))[0]:
                if (now := _waiting_bytes(connection)) == before:
                    raise TimeoutError
                before = now
            return answer.result()
        finally:
            answer.cancel()


def _sent(connection: Any, request: Any, within_s: float) -> Awaitable[Any]:
    usual_s, connection._request_timeout = connection._request_timeout, within_s
    try:
        answer: Awaitable[Any] = connection.send(request)
    finally:
        connection._request_timeout = usual_s
    return answer


def _waiting_bytes(connection: Any) -> int:
    """How much of an answer that is not whole has arrived."""
    return len(connection._reader._buffer) if connection._reader is not None else 0
