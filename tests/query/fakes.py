"""Workers of the query side, real but for their rows, and peers that misbehave; all on loopback."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any
from unittest.mock import patch

import faust
import numpy as np
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from yarl import URL

from metrics_app.errors import OwnerUnavailableError
from metrics_app.holdings import ACTIVE, STANDBY, FoundRow, Glance, Glances, Look, Loss, Stretch
from metrics_app.http import tls
from metrics_app.http.access import Access
from metrics_app.http.problems import Gate, problem_middleware
from metrics_app.kafka.ports import free_port
from metrics_app.query import hours, views
from metrics_app.query.reading import LongQuestions
from metrics_app.query.routing import Router
from metrics_app.settings import Settings
from metrics_app.stats.summary import HourlySummary
from metrics_app.telemetry import Telemetry
from metrics_app.wire.partition import partition_of

HOUR = hours.of_date("2025-11-23") + 22
PATH = "average/2025-11-23/22"
PARTITIONS = 8
END_S = hours.end(HOUR).timestamp()


def row(*values: float, as_of: float = END_S + 3600, role: str = ACTIVE, **quality: Any) -> FoundRow:
    summary = HourlySummary()
    summary.add(np.array(values or (10.0, 20.0, 60.0)))
    facts = {"missing": 0, "duplicates": 0, "late": 0, "stale": role == STANDBY, "offset": 7} | quality
    return FoundRow(summary, as_of=as_of, role=role, **facts)


@dataclass
class FakeReader:
    """Rows by (key, hour); `role` is that of every partition, `moved` takes them away between look-up and read.

    `roles` has the partitions that are held, if not all are; `in_memory` the keys whose rows are not in the store yet;
    `lost` is of every partition.
    """

    rows: dict[tuple[bytes, int], FoundRow] = field(default_factory=dict)
    role: str | None = ACTIVE
    moved: bool = False
    roles: dict[int, str] | None = None
    in_memory: set[bytes] = field(default_factory=set)
    looked_at: int = 0
    read_rows: int = 0
    stretch: int = 1000
    why_behind: str | None = None
    lost: list[Loss] = field(default_factory=list)

    def losses(self, partition: int) -> list[Loss]:
        return self.lost

    def recent_keys(self, partition: int, hours: range, prefix: bytes) -> set[bytes]:
        recorded = {key for key, hour in self.rows if hour in hours and key in self.in_memory}
        return {key for key in recorded if key.startswith(prefix) and partition_of(key, PARTITIONS) == partition}

    def stored_keys(
        self,
        partition: int,
        hour: int,
        prefix: bytes,
        after: bytes,
        upto: bytes | None,
        most: int,
        contains: bytes = b"",
    ) -> Stretch:
        if self.moved or self.holds(partition) is None:
            raise self.unavailable(partition)
        stored = sorted(key for key, at in self.rows if at == hour and key not in self.in_memory)
        ours = [key for key in stored if partition_of(key, PARTITIONS) == partition and key.startswith(prefix)]
        left = [key for key in ours if key > after and (upto is None or key <= upto)]
        found: list[bytes] = []
        for at, key in enumerate(left):
            if len(found) == most:
                break
            if at == self.stretch:
                return Stretch(found, left[at - 1])
            self.looked_at += 1
            if contains in key and self.rows[key, hour].summary.count:
                found.append(key)
        return Stretch(found, None)

    def recent_glances(self, partition: int, hours: range, look: Look) -> list[Glance]:
        return [
            each
            for hour in hours
            for each in self._glances(partition, hour, look)
            if each.key in self.in_memory and self.holds(partition) == ACTIVE
        ]

    def stored_glances(self, partition: int, hour: int, look: Look, after: bytes) -> Glances:
        if self.moved or self.holds(partition) is None:
            raise self.unavailable(partition)
        stored = [each for each in self._glances(partition, hour, look) if each.key not in self.in_memory]
        left = [each for each in stored if each.key > after]
        self.looked_at += len(left[: self.stretch])
        return Glances(left[: self.stretch], left[self.stretch - 1].key if len(left) > self.stretch else None)

    def _glances(self, partition: int, hour: int, look: Look) -> list[Glance]:
        return [
            Glance(key, hour, found.summary.count, found.summary.max)
            for (key, at), found in sorted(self.rows.items(), key=itemgetter(0))
            if at == hour and found.summary.count and look.takes(key) and partition_of(key, PARTITIONS) == partition
        ]

    def read(self, partition: int, key: bytes, hour: int) -> FoundRow | None:
        self.read_rows += 1
        if self.moved or self.holds(partition) is None:
            raise self.unavailable(partition)
        return self.rows.get((key, hour))

    def holds(self, partition: int) -> str | None:
        return self.role if self.roles is None else self.roles.get(partition)

    def behind(self, partition: int) -> str | None:
        return self.why_behind

    def unavailable(self, partition: int) -> OwnerUnavailableError:
        return OwnerUnavailableError(f"partition {partition} is elsewhere")


@dataclass
class FakeOwners:
    """The same owners for every partition, and other members of the group."""

    url: str
    known: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def owners(self, partition: int) -> list[str]:
        return self.known

    def members(self) -> list[str]:
        return [*self.known, *self.others]


@dataclass
class Worker:
    """A worker that listens."""

    url: str
    reader: FakeReader
    owners: FakeOwners
    telemetry: Telemetry
    router: Router
    long_questions: LongQuestions
    rankings: LongQuestions

    def forwards(self) -> dict[str, float]:
        """Forwards by outcome."""
        samples = next(iter(self.telemetry.forwards.collect())).samples
        return {each.labels["outcome"]: each.value for each in samples if each.name.endswith("_total")}


@asynccontextmanager
async def worker(
    *owners: str, found: FoundRow | None = None, role: str | None = ACTIVE, **settings: Any
) -> AsyncIterator[Worker]:
    """A worker that has `found` for checkout in HOUR, and takes `owners` for the holders of every partition."""
    reader = FakeReader({} if found is None else {(b"checkout", HOUR): found}, role)
    # on a busy machine even loopback takes its time; the tests of the time-out set their own
    chosen = Settings(_env_file=None, port=free_port(), **({"connect_timeout_s": 5.0} | settings))  # type: ignore[call-arg]
    telemetry, known = Telemetry(), FakeOwners(chosen.url, [*owners])
    app = web_app(telemetry, chosen.port, tls.server_side(chosen), Access(chosen))
    made: list[LongQuestions] = []

    def make(*given: Any) -> LongQuestions:
        made.append(LongQuestions(*given))
        return made[-1]

    with patch.object(views, "LongQuestions", side_effect=make):
        router = views.register(app, chosen, telemetry, reader, known)
    async with app.web:
        yield Worker(chosen.url, reader, known, telemetry, router, *made)


def web_app(
    telemetry: Telemetry, port: int, context: ssl.SSLContext | None = None, gate: Gate | None = None
) -> faust.App:
    """A Faust app of which only the web part is used."""
    return faust.App(
        "query-test",
        broker="kafka://127.0.0.1:1",
        web_bind="127.0.0.1",
        web_host="127.0.0.1",
        web_port=port,
        web_ssl_context=context,
        web_tables_enabled=False,
        web_router_enabled=False,
        web_application_options={"middlewares": [problem_middleware(telemetry, gate)]},
    )


def closed_url() -> str:
    """Nobody listens there."""
    return f"http://127.0.0.1:{free_port()}"


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def peer(handler: Handler) -> AsyncIterator[str]:
    """Base URL of a server that gives every request to the handler."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("")).rstrip("/")


@asynccontextmanager
async def hanging_peer() -> AsyncIterator[str]:
    """It accepts and never says a word."""
    done = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        done.set()
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def black_hole() -> AsyncIterator[str]:
    """It does not even accept: its backlog is full, so the kernel drops what else comes in."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            caller = sockets.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@dataclass
class Reply:
    """A whole response."""

    status: int
    headers: Any
    body: bytes
    json: Any = None


async def ask(
    base: str,
    path: str = f"/checkout/{PATH}",
    method: str = "GET",
    trusted: ssl.SSLContext | bool = True,
    **headers: str,
) -> Reply:
    """What the server gives for a path that is sent exactly as it stands; header names with _ for -."""
    sent = {"Accept-Encoding": "identity"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        ClientSession(auto_decompress=False) as session,
        session.request(
            method, URL(base + path, encoded=True), headers=sent, allow_redirects=False, ssl=trusted
        ) as reply,
    ):
        return Reply(
            reply.status,
            reply.headers,
            await reply.read(),
            await reply.json(content_type=None)
            if "json" in reply.content_type and method != "HEAD" and "Content-Encoding" not in reply.headers
            else None,
        )
