"""A worker without Kafka and without a port: bytes go into a connection of its real HTTP server, and answers come out.

Called by `targets`, for the target `http`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import tempfile
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import faust
from aiohttp import web
from faust.web.drivers.aiohttp import Web

from metrics_app.collector import views
from metrics_app.collector.views import PATH, SampleIntake, add_lane, add_view
from metrics_app.faust_runtime import connection, small_requests, web_server
from metrics_app.faust_runtime.small_requests import AT_ONCE, AtOnce, ShortWays, SmallRoute
from metrics_app.http.access import Access
from metrics_app.http.health import register_health
from metrics_app.http.problems import HANDLER_ARGS, Health, answering, problem_middleware
from metrics_app.query import views as query_views
from metrics_app.query.at_once import AnswersAtOnce
from metrics_app.settings import Settings
from metrics_app.telemetry import Telemetry
from tests.collector.fakes import FakeSink
from tests.fuzz import seeds
from tests.query.fakes import FakeOwners, FakeReader, row

WITHIN_S = 10.0
NOW_S = seeds.HOUR * 3600.0 + 1800
LOOK_S = 0.001  # how often a connection looks whether all is answered, after the end of its input
CHANGED: list[tuple[Any, str, Any]] = [
    (connection, "LOOK_INTERVAL_S", LOOK_S),
    (small_requests, "LOOK_INTERVAL_S", LOOK_S),
    (views, "time", SimpleNamespace(time=lambda: NOW_S)),  # else the replies of two workers differ by a moment
]
STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")


class FuzzedApp(faust.App):
    """A Faust app with the web server of ours."""

    def _new_web(self) -> web_server.BoundedWeb:
        return web_server.BoundedWeb(self, limit=100)


class WatchedReader(FakeReader):
    """Rows; `was_asked` when anybody got so far as to ask for one."""

    was_asked = False

    def holds(self, partition: int) -> str | None:
        self.was_asked = True
        return super().holds(partition)


class InMemoryWorker:
    """One worker with a row of `checkout`; it keeps what is posted, and its loop turns only while it is asked.

    Args:
        guarded: whether it asks for `seeds.TOKEN`, and has a secret that it shares with other workers.
        lane: whether small requests are answered past aiohttp.
    """

    def __init__(self, guarded: bool = False, lane: bool = True) -> None:
        self.sink, self.telemetry = FakeSink(), Telemetry()
        self.reader = WatchedReader({(b"checkout", seeds.HOUR): row(1.0, 2.0, 60.0)})
        self.errors: list[str] = []
        self.answers: AnswersAtOnce | None = None
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: self.errors.append(repr(context)))
        self._turns = connection.RequestTurns(self._loop)
        self._server = self._loop.run_until_complete(
            self._started({**(_guard() if guarded else {}), "small_request_lane": lane})
        )

    async def _started(self, given: dict[str, Any]) -> Any:
        settings = Settings(_env_file=None, port=1, max_body_bytes=1 << 16, body_timeout_s=1.0, **given)  # type: ignore[call-arg]
        telemetry, access = self.telemetry, Access(settings)
        app = FuzzedApp(
            "fuzz",
            broker="kafka://127.0.0.1:1",
            web_tables_enabled=False,
            web_router_enabled=False,
            web_application_options={
                "middlewares": [problem_middleware(telemetry, access)],
                "handler_args": HANDLER_ARGS,
            },
        )
        register_health(app, telemetry, Health())
        intake = SampleIntake(settings, telemetry, self.sink)
        add_view(app, intake)
        web_app = cast(Web, app.web).web_app
        if settings.small_request_lane:
            add_lane(web_app, settings, SmallRoute(answering(telemetry, PATH, intake.take), takes=access.passes))
            self.answers = query_views.at_once(settings, telemetry, self.reader, access)
            web_app[AT_ONCE] = AtOnce(self.answers.answer)
        router = query_views.register(app, settings, telemetry, self.reader, FakeOwners(settings.url))
        self._peers = AsyncExitStack()
        await self._peers.enter_async_context(router.peers)
        app.web.init_server()
        self._ways = ShortWays.of(web_app)
        runner = web.AppRunner(web_app, access_log=None)
        await runner.setup()
        self._runner = runner
        return runner.server

    def answer(self, sent: bytes) -> list[int]:
        """The statuses of all answers to the bytes."""
        return [int(status) for status in STATUS.findall(self.said(sent))]

    def said(self, sent: bytes) -> bytes:
        """All answers to the bytes, after which the client says no more; AssertionError on a bug."""
        with ExitStack() as changed:  # the loop turns here alone, and other tests are not to notice
            for owner, name, value in CHANGED:
                changed.enter_context(patch.object(owner, name, value))
            logging.disable(logging.WARNING)
            changed.callback(logging.disable, logging.NOTSET)
            received = self._loop.run_until_complete(self._exchange(sent))
        assert not self.errors, self.errors
        return received

    def close(self) -> None:
        """Ends it."""
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.run_until_complete(self._peers.aclose())
        self._loop.close()

    async def _exchange(self, sent: bytes) -> bytes:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        handler = small_requests.SmallRequestHandler(
            self._server, loop=self._loop, turns=self._turns, ways=self._ways, **self._server._kwargs
        )
        await self._loop.connect_accepted_socket(lambda: handler, theirs)
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            writer.write(sent)
            writer.write_eof()
            async with asyncio.timeout(WITHIN_S):
                return await reader.read()
        finally:
            writer.transport.abort()


def _guard() -> dict[str, Any]:
    """Settings of a worker that asks for a token."""
    path = Path(tempfile.mkdtemp()) / "tokens"
    path.touch(mode=0o600)
    path.write_bytes(seeds.TOKEN_FILES[0])
    return {"tokens_file": path, "cluster_token": "shared"}
