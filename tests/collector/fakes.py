"""A collector that listens on loopback, real but for what its samples go into."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import faust
import msgspec
from aiohttp import ClientSession

from metrics_app.collector import otlp
from metrics_app.collector.views import SampleIntake, Sink, add_view
from metrics_app.http.access import Access
from metrics_app.http.problems import HANDLER_ARGS, problem_middleware
from metrics_app.settings import Settings
from metrics_app.telemetry import Telemetry
from metrics_app.wire.chunk import Chunk


@dataclass
class FakeSink:
    """Keeps what it is given, or fails as told, or never returns."""

    chunks: list[Chunk] = field(default_factory=list)
    failure: Exception | None = None
    hangs: bool = False
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish(self, chunks: Sequence[Chunk]) -> None:
        self.entered.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        self.chunks.extend(chunks)


@dataclass
class Reply:
    """Status, headers and the decoded document."""

    status: int
    headers: Any
    json: Any


@dataclass
class Collector:
    """A collector that listens."""

    settings: Settings
    telemetry: Telemetry
    session: ClientSession

    async def post(self, body: Any, headers: dict[str, str] | None = None) -> Reply:
        url = f"http://127.0.0.1:{self.settings.port}/samples"
        skipped = ["Content-Type"] if "Content-Type" not in (headers or {}) else []
        async with self.session.post(url, data=body, headers=headers, skip_auto_headers=skipped) as reply:
            return Reply(reply.status, reply.headers, msgspec.json.decode(await reply.read()))

    def counts(self) -> dict[str, float]:
        """Values by counter; those with a reason added up."""
        return {name: total(getattr(self.telemetry, name)) for name in ("received", "accepted", "rejected", "refused")}

    def counters_close(self) -> bool:
        """Whether every value received is accounted for."""
        counts = self.counts()
        return counts["received"] == counts["accepted"] + counts["rejected"] + counts["refused"]


async def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    """Returns once the condition holds; TimeoutError when it does not in time."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.005)


def total(counter: Any) -> float:
    (family,) = counter.collect()
    return float(sum(sample.value for sample in family.samples if sample.name.endswith("_total")))


@asynccontextmanager
async def collector(settings: Settings, sink: Sink, telemetry: Telemetry | None = None) -> AsyncIterator[Collector]:
    """A collector whose samples go into the sink."""
    telemetry = telemetry or Telemetry()
    app = faust.App(
        settings.name,
        broker="kafka://127.0.0.1:1",
        web_bind="127.0.0.1",
        web_host="127.0.0.1",
        web_port=settings.port,
        web_tables_enabled=False,
        web_router_enabled=False,
        web_application_options={
            "middlewares": [problem_middleware(telemetry, Access(settings))],
            "handler_args": HANDLER_ARGS,
        },
    )
    intake = SampleIntake(settings, telemetry, sink)
    add_view(app, intake)
    otlp.register(app, settings, intake)
    async with app.web, ClientSession() as session:
        yield Collector(settings, telemetry, session)
