"""A connection to Kafka on which an answer is due and no byte comes is given up; a slow answer is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiokafka.client import ConnectionGroup
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import NodeNotReadyError, RequestTimedOutError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest
from aiokafka.protocol.metadata import MetadataRequest

from metrics_app.faust_runtime import silence
from metrics_app.kafka.ports import HOST

SESSION_S = 0.5
LONGEST_S = 2.0

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Client:
    """Of aiokafka's, what is used of it."""

    _request_timeout_ms = LONGEST_S * 1000
    send: Any

    def __init__(self, connection: AIOKafkaConnection) -> None:
        self._conns = {(1, group): connection for group in ConnectionGroup}

    async def ready(self, node_id: int, group: ConnectionGroup) -> bool:
        return (node_id, group) in self._conns


class Consumer:
    def __init__(self, connection: AIOKafkaConnection) -> None:
        self._client = Client(connection)


@contextlib.asynccontextmanager
async def connected(serve: Serve) -> AsyncIterator[tuple[Client, AIOKafkaConnection]]:
    async with await asyncio.start_server(serve, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = AIOKafkaConnection(HOST, port)
        connection._reader, connection._writer = await asyncio.open_connection(HOST, port)
        connection._read_task = connection._create_reader_task()
        connection._versions = {MetadataRequest.API_KEY: (0, 0), HeartbeatRequest.API_KEY: (0, 0)}
        connection._versions[JoinGroupRequest.API_KEY] = (0, 0)
        try:
            yield silence.bounded(Consumer(connection), SESSION_S)._client, connection
        finally:
            connection.close()
            await asyncio.sleep(0.3)  # the server's side ends as well


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def trickles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte ten times a second of an answer that never gets whole."""
    writer.write((1000).to_bytes(4, "big"))
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.1)
    writer.close()


JOIN = JoinGroupRequest("group", 1000, 1000, "", "", "consumer", [])
HEARTBEAT = HeartbeatRequest("group", 1, "member")


@pytest.mark.parametrize(
    ("serve", "request_", "group", "least_s", "most_s"),
    [
        (says_nothing, MetadataRequest(), ConnectionGroup.DEFAULT, 0.0, 1.0),
        (says_nothing, HEARTBEAT, ConnectionGroup.COORDINATION, 0.0, 1.0),
        (says_nothing, JOIN, ConnectionGroup.COORDINATION, LONGEST_S - 0.1, 4.0),
        (trickles, MetadataRequest(), ConnectionGroup.DEFAULT, LONGEST_S - 0.1, 4.0),
    ],
    ids=["fetch", "heartbeat", "join", "trickle"],
)
async def test_a_silent_connection_is_closed_and_one_that_brings_bytes_or_may_be_silent_is_not(
    serve: Serve, request_: Any, group: ConnectionGroup, least_s: float, most_s: float
) -> None:
    async with connected(serve) as (client, connection):
        started_s = time.monotonic()
        with pytest.raises(RequestTimedOutError):
            await client.send(1, request_, group=group)
        assert least_s <= time.monotonic() - started_s <= most_s
        assert not connection.connected()


async def test_without_a_connection_nothing_is_sent() -> None:
    async with connected(says_nothing) as (client, _):
        with pytest.raises(NodeNotReadyError):
            await client.send(2, MetadataRequest())
