"""A TCP proxy in the test's own event loop that does to a connection what networks do, and counts what it did."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Self

from metrics_app.kafka.ports import HOST

PART_BYTES = 64 << 10
REPEATED_AFTER_S = 0.2  # Linux's least retransmission timeout; it doubles each time
THROTTLED_PARTS = 20  # a second, so that a thin link is smooth
LOOK_S = 0.02  # between two looks whether a cut link is whole again
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends a reset
SO_LINGER = 13


@dataclass(frozen=True)
class Weather:
    """What happens to every byte that passes; as it is, nothing.

    Attributes:
        latency_s, jitter_s: delay of each part, plus or minus a random part of the jitter.
        loss: share of parts that get lost; TCP sends each again after 200 ms, then 400 ms and so on, and what is behind
            it waits.
        bytes_per_s: of each connection and direction; 0: no limit.
        slice_bytes: parts are cut to this size; 0: they are not.
        is_cut: nothing passes; what was sent arrives when the link is whole again, as TCP repeats it.
        deaf: bytes of the client get lost on their way, the connection stays open.
        mute: bytes of the server get lost on their way, the connection stays open. A connection that has lost bytes
            is half-open from then on, whatever the weather: nothing passes, and no end is told that the other closed.
        reset_share: of connections, reset at their first byte from the client.
        lost_replies: share of replies of the server dropped whole, with a reset of the connection: its work is done.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    bytes_per_s: float = 0.0
    slice_bytes: int = 0
    is_cut: bool = False
    deaf: bool = False
    mute: bool = False
    reset_share: float = 0.0
    lost_replies: float = 0.0


FAIR = Weather()
BLACK_HOLE = Weather(deaf=True, mute=True)


@dataclass
class Connection:
    """One client's connection through the proxy."""

    to_client: asyncio.StreamWriter
    is_half_open: bool = False


@dataclass
class Proxy:
    """Stands before one server on this machine.

    Attributes:
        did: how often it did what: connected, refused, delayed, repeated, throttled, sliced, held, swallowed, reset,
            lost.
        connections: a task for each that is open on either side.
        weather: may be changed at any time, also for connections that are open.
    """

    target_port: int
    seed: int
    weather: Weather = FAIR
    did: Counter[str] = field(default_factory=Counter)
    port: int = 0

    async def __aenter__(self) -> Self:
        self._random = random.Random(self.seed)
        self.connections: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, HOST, self.port, limit=PART_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self.connections:
            task.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)
        await asyncio.sleep(0)  # a closed transport lets go of its socket in the next turn of the loop

    @property
    def url(self) -> str:
        """Base URL of the server behind it."""
        return f"http://{HOST}:{self.port}"

    def change(self, **weather: float | bool) -> None:
        """Other weather from now on: what is not named stays."""
        self.weather = replace(self.weather, **weather)  # type: ignore[arg-type]

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)
        try:
            server, to_server = await asyncio.open_connection(HOST, self.target_port)
        except OSError:
            self.did["refused"] += 1
            self._reset(to_client)
            return
        self.did["connected"] += 1
        connection = Connection(to_client)
        ways = [
            asyncio.create_task(self._pass(client, to_server, connection, from_client=True)),
            asyncio.create_task(self._pass(server, to_client, connection, from_client=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if connection.is_half_open:
                await asyncio.wait(ways)
        finally:
            to_server.close()
            to_client.close()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, connection: Connection, from_client: bool
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while part := await source.read(self._part_bytes()):
                weather = self.weather
                share, what = (weather.reset_share, "reset") if from_client else (weather.lost_replies, "lost")
                if share and self._random.random() < share:
                    self.did[what] += 1
                    return self._reset(connection.to_client)
                if connection.is_half_open or (weather.deaf if from_client else weather.mute):
                    connection.is_half_open = True
                    self.did["swallowed"] += 1
                    continue
                await self._delay(weather)
                await self._throttle(weather, len(part))
                await self._hold()
                self.did["sliced"] += bool(weather.slice_bytes)
                sink.write(part)
                await sink.drain()
        return None

    def _part_bytes(self) -> int:
        most = round(self.weather.bytes_per_s / THROTTLED_PARTS) or PART_BYTES
        return self.weather.slice_bytes or min(most, PART_BYTES)

    async def _delay(self, weather: Weather) -> None:
        if weather.latency_s or weather.jitter_s:
            self.did["delayed"] += 1
            await asyncio.sleep(max(0.0, weather.latency_s + self._random.uniform(-1, 1) * weather.jitter_s))
        again_s = REPEATED_AFTER_S
        while weather.loss and self._random.random() < weather.loss:
            self.did["repeated"] += 1
            await asyncio.sleep(again_s)
            again_s *= 2

    async def _throttle(self, weather: Weather, size: int) -> None:
        if weather.bytes_per_s:
            self.did["throttled"] += 1
            await asyncio.sleep(size / weather.bytes_per_s)

    async def _hold(self) -> None:
        if self.weather.is_cut:
            self.did["held"] += 1
        while self.weather.is_cut:  # noqa: ASYNC110  # the weather is a plain value that tests set
            await asyncio.sleep(LOOK_S)

    def _reset(self, to_client: asyncio.StreamWriter) -> None:
        connection = to_client.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(1, SO_LINGER, RESET)
        to_client.transport.abort()
