"""Dead letters by HTTP, on a real Kafka: who may see them, that each counts once, and what is too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from metrics_app.aggregator import letter_views
from metrics_app.http.access import Access
from metrics_app.http.problems import problem_middleware
from metrics_app.http.tokens import new_token
from metrics_app.kafka import connections
from metrics_app.kafka.ports import free_port
from metrics_app.settings import Settings
from metrics_app.telemetry import Telemetry
from metrics_app.wire import record
from tests.cli.test_dlq import PARTITION, fill
from tests.conftest import MakeSettings
from tests.ui.test_pages import FakeApp

pytestmark = pytest.mark.kafka

WHO = {"boss": (["admin"], []), "reader": (["query"], []), "part": (["admin"], ["shop/"])}


class LetterServer:
    """A server of both views, and who may ask it."""

    def __init__(self, settings: Settings, tokens: dict[str, str]) -> None:
        self.settings = settings
        self._tokens = tokens
        self._url = f"http://127.0.0.1:{settings.port}"

    async def ask(self, method: str, path: str, who: str | None = "boss") -> tuple[int, Any]:
        headers = {} if who is None else {"Authorization": f"Bearer {self._tokens[who]}"}
        async with ClientSession() as session, session.request(method, self._url + path, headers=headers) as reply:
            return reply.status, await reply.json(content_type=None)


@pytest.fixture
async def server(settings: MakeSettings, tmp_path: Path) -> AsyncIterator[LetterServer]:
    made = {name: new_token(name, scopes, prefixes) for name, (scopes, prefixes) in WHO.items()}
    file = tmp_path / "tokens.json"
    file.touch(0o600)
    file.write_text("\n".join(line for _, line in made.values()))
    here = settings(partitions=2, tokens_file=file, port=free_port())
    await fill(here)
    app = web.Application(middlewares=[problem_middleware(Telemetry(), Access(here))])
    letter_views.register(FakeApp(app), here)  # type: ignore[arg-type]  # as far as it is used
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", here.port).start()
    yield LetterServer(here, {name: token for name, (token, _) in made.items()})
    await runner.cleanup()


@pytest.mark.parametrize(("method", "path"), [("GET", letter_views.PATH), ("POST", letter_views.REPLAY)])
async def test_they_need_the_scope_admin_for_all_keys(server: LetterServer, method: str, path: str) -> None:
    assert [(await server.ask(method, path, who))[0] for who in (None, "reader", "part")] == [401, 403, 403]
    assert await samples(server.settings) == []


async def test_letters_are_told_with_why_and_what_is_in_them(server: LetterServer) -> None:
    status, told = await server.ask("GET", letter_views.PATH)
    assert (status, told["count"], told["no_letters"]) == (200, 2, 1)
    newest, oldest = told["letters"]
    assert (newest["offset"], newest["readable"], "checksum" in newest["reason"]) == (5, False, True)
    assert bytes.fromhex(newest["text"])
    assert (oldest["offset"], oldest["readable"], oldest["text"]) == (3, True, "d: 2, f: 1")


async def test_what_can_be_read_is_replayed_once(server: LetterServer) -> None:
    other = await server.ask("POST", f"{letter_views.REPLAY}?only=none")
    assert other == (200, {"replayed": 0, "unreadable": 0, "other": 2})
    assert await server.ask("POST", letter_views.REPLAY) == (200, {"replayed": 1, "unreadable": 1, "other": 0})
    assert await server.ask("POST", letter_views.REPLAY) == (200, {"replayed": 0, "unreadable": 1, "other": 0})
    assert await samples(server.settings) == [(b"d", 2), (b"f", 1)]
    assert (await server.ask("GET", letter_views.PATH))[1]["count"] == 1


async def test_too_much_is_refused_and_nothing_is_replayed(
    server: LetterServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letter_views, "MOST_BYTES", 50)
    status, told = await server.ask("POST", letter_views.REPLAY)
    assert (status, "more than 50 bytes" in told["detail"]) == (409, True)
    assert await samples(server.settings) == []


async def test_one_is_answered_at_a_time_and_none_without_end(
    server: LetterServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = await asyncio.gather(*(server.ask("GET", letter_views.PATH) for _ in range(4)))
    assert sorted(status for status, _ in several) == [200, 503, 503, 503]
    monkeypatch.setattr(letter_views, "PATIENCE_S", 0.0)
    status, told = await server.ask("GET", letter_views.PATH)
    assert (status, told["title"]) == (503, "Dead letters cannot be read now")


async def samples(here: Settings) -> list[tuple[bytes, int]]:
    sent = await connections.everything(here, here.samples_topic, [PARTITION])
    return [(chunk.key, chunk.count) for message in sent for chunk in record.decode(message.value)]
