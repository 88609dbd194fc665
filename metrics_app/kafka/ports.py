"""Ports of the loopback address: which are free, and which Kafka answers where.

Called by `cluster`, `embedded`, `storage`, `cli.stages` and `verify.private_up`.
"""

from __future__ import annotations

import io
import random
import socket
import struct
from collections.abc import Container, Iterator
from typing import NamedTuple

from aiokafka.protocol.api import RequestHeader_v1
from aiokafka.protocol.metadata import MetadataRequest_v2, MetadataResponse_v2

HOST = "127.0.0.1"
PROBE_TIMEOUT_S = 2.0
PORTS_TRIED = 100
OF_SERVERS = range(10_000, 32_768)  # Linux gives clients those from 32,768 on
MAX_REPLY_BYTES = 1 << 20  # anything may listen on a port


class Broker(NamedTuple):
    """Who answers as Kafka on a port.

    Attributes:
        cluster_id: of its cluster.
        run: the mark of this run of it (`broker.rack`), which no other process shares, not even one on a copy of its
            folder.
    """

    cluster_id: str
    run: str


def broker_at(port: int) -> Broker | None:
    """The Kafka broker that answers a metadata request there; None when none does, whatever else may listen."""
    request = MetadataRequest_v2([])
    body = RequestHeader_v1(request, correlation_id=1).encode() + request.encode()
    try:
        with socket.create_connection((HOST, port), PROBE_TIMEOUT_S) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            reply = connection.makefile("rb")
            (size,) = struct.unpack(">i", reply.read(4))
            answer = reply.read(size) if 0 <= size <= MAX_REPLY_BYTES else b""
        metadata = MetadataResponse_v2.decode(io.BytesIO(answer[4:]))  # behind the correlation id
    except (OSError, ValueError, struct.error):
        return None
    # of several, the one that listens there; a single one may tell clients another address
    ours = sorted(metadata.brokers, key=lambda broker: broker[2] != port)
    return Broker(metadata.cluster_id or "", ours[0][3] or "") if ours else None


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server may listen there now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError):
            return False
    return True


def free_from(first: int, count: int = 1, avoid: Container[int] = ()) -> int | None:
    """The lowest port from `first` on with which `count` free ports in a row begin; None when the next 100 have none.

    Below 32768, no client's own port can take one while its server is being restarted.
    """
    starts = range(first, first + PORTS_TRIED)
    return next((port for port in starts if all(_may_use(port + i, avoid) for i in range(count))), None)


def _may_use(port: int, avoid: Container[int]) -> bool:
    return port not in avoid and is_free(port)


def free_port() -> int:
    """A port of the loopback address nobody listens on now, below those that the kernel gives to clients.

    One of theirs could be a client's own before a server listens there.
    """
    return next(port for port in _at_random() if is_free(port))


def free_ports(count: int) -> list[int]:
    """So many ports of the loopback address nobody listens on now, all different."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


def _at_random() -> Iterator[int]:
    """Ports for servers, as no two processes that look at the same time choose them."""
    chosen = random.SystemRandom()
    while True:
        yield chosen.choice(OF_SERVERS)
