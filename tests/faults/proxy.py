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
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends a reset
SO_LINGER = 13


@dataclass(frozen=True)
class Weather:
    """What happens to every byte that passes; as it is, nothing.

    Attributes:
        latency_s, jitter_s: delay of each part, plus or minus a random part of the jitter.
        slice_bytes: parts are cut to this size; 0: they are not.
        deaf: bytes of the client get lost on their way, the connection stays open.
        mute: bytes of the server get lost on their way, the connection stays open.
        reset_share: of connections, reset at their first byte from the client.
        lost_replies: share of replies of the server dropped whole, with a reset of the connection: its work is done.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    slice_bytes: int = 0
    deaf: bool = False
    mute: bool = False
    reset_share: float = 0.0
    lost_replies: float = 0.0


FAIR = Weather()
BLACK_HOLE = Weather(deaf=True, mute=True)


@dataclass
class Proxy:
    """Stands before one server on this machine.

    Attributes:
        did: how often it did what: connected, refused, delayed, sliced, swallowed, reset, lost.
        weather: may be changed at any time, also for connections that are open.
    """

    target_port: int
    seed: int
    weather: Weather = FAIR
    did: Counter[str] = field(default_factory=Counter)
    port: int = 0

    async def __aenter__(self) -> Self:
        self._random = random.Random(self.seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, HOST, self.port, limit=PART_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            server, to_server = await asyncio.open_connection(HOST, self.target_port)
        except OSError:
            self.did["refused"] += 1
            self._reset(to_client)
            return
        self.did["connected"] += 1
        ways = [
            asyncio.create_task(self._pass(client, to_server, to_client, from_client=True)),
            asyncio.create_task(self._pass(server, to_client, to_client, from_client=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            to_server.close()
            to_client.close()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        to_client: asyncio.StreamWriter,
        from_client: bool,
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while part := await source.read(self.weather.slice_bytes or PART_BYTES):
                weather = self.weather
                share, what = (weather.reset_share, "reset") if from_client else (weather.lost_replies, "lost")
                if share and self._random.random() < share:
                    self.did[what] += 1
                    return self._reset(to_client)
                if weather.deaf if from_client else weather.mute:
                    self.did["swallowed"] += 1
                    continue
                await self._delay(weather)
                self.did["sliced"] += bool(weather.slice_bytes)
                sink.write(part)
                await sink.drain()
        return None

    async def _delay(self, weather: Weather) -> None:
        if weather.latency_s or weather.jitter_s:
            self.did["delayed"] += 1
            await asyncio.sleep(max(0.0, weather.latency_s + self._random.uniform(-1, 1) * weather.jitter_s))

    def _reset(self, to_client: asyncio.StreamWriter) -> None:
        connection = to_client.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(1, SO_LINGER, RESET)
        to_client.transport.abort()
