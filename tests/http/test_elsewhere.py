"""Who asks a process of the wrong role is told which role answers, and where."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Literal

import pytest

from metrics_app.app import create_app
from metrics_app.http.problems import PROBLEM
from tests.conftest import MakeSettings
from tests.query.fakes import ask

Start = Callable[..., Awaitable[str]]


@pytest.fixture
async def start(make_settings: MakeSettings) -> AsyncIterator[Start]:
    """Starts the HTTP server of a role."""
    async with AsyncExitStack() as stack:

        async def run(role: Literal["collector", "aggregator"], **settings: Any) -> str:
            effective = make_settings(**settings)
            await stack.enter_async_context(create_app(effective, role).web)
            return effective.url

        yield run


@pytest.mark.parametrize(
    "path",
    ["/a/p99", "/a/p99/2026-11-23", "/a/p99/2026-11-23/22?unit=ms", "/keys?prefix=a", "/federate", "/merge"],
)
async def test_a_collector_says_where_questions_go(start: Start, path: str) -> None:
    reply = await ask(await start("collector", aggregator_url="http://there:8081/"), path)
    assert (reply.status, reply.headers["Content-Type"]) == (421, PROBLEM)
    assert (reply.json["role"], reply.json["url"]) == ("aggregator", f"http://there:8081{path}")
    assert f"by a process of the role aggregator: http://there:8081{path}" in reply.json["detail"]


async def test_an_aggregator_says_where_samples_go_before_it_asks_for_them(start: Start) -> None:
    url = await start("aggregator", collector_url="http://there:8080")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(b"POST /samples HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 421 ")
    assert b'"role":"collector","url":"http://there:8080/samples"' in await asyncio.wait_for(reader.read(), 10)
    writer.close()


async def test_without_the_setting_the_setting_is_named(start: Start) -> None:
    reply = await ask(await start("collector"), "/a/p99")
    assert "METRICS_AGGREGATOR_URL" in reply.json["detail"]
    assert "url" not in reply.json
