"""The client and the commands show a token; a real collector, behind real access rules, asks for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner, Result

from metrics_app import MetricsClient, Options
from metrics_app.cli.main import app
from metrics_app.credentials import Credentials
from metrics_app.http.tokens import new_token
from tests.collector.fakes import Collector, FakeSink, collector
from tests.conftest import MakeSettings
from tests.query.fakes import row, worker

QUICK = Options(interval_s=0.1, backoff_first_s=0.02, backoff_max_s=0.2)


@pytest.fixture
def token() -> str:
    return new_token("app", ["ingest", "query"], [])[0]


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.touch(mode=0o600)
    return path


@pytest.fixture
def secret(tokens: Path) -> str:
    """A token that is in the file."""
    secret, line = new_token("app", ["ingest", "query"], [])
    tokens.write_text(line)
    return secret


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
async def guarded(make_settings: MakeSettings, secret: str, tokens: Path, sink: FakeSink) -> AsyncIterator[Collector]:
    async with collector(make_settings(tokens_file=tokens), sink) as running:
        yield running


def url_of(running: Collector) -> str:
    return f"http://127.0.0.1:{running.settings.port}"


def record(client: MetricsClient, within_s: float = 10.0) -> bool:
    client.record("checkout", 12.5)
    return client.flush(within_s)


@pytest.mark.parametrize("how", ["argument", "variable", "file"])
async def test_the_client_shows_its_token(guarded, secret, sink, how, monkeypatch, tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{secret}\n")
    if how != "argument":
        name, value = ("METRICS_TOKEN", secret) if how == "variable" else ("METRICS_TOKEN_FILE", str(file))
        monkeypatch.setenv(name, value)
    client = MetricsClient(url_of(guarded), QUICK, token=secret if how == "argument" else None)
    assert await asyncio.to_thread(record, client)
    client.close()
    assert [chunk.key for chunk in sink.chunks] == [b"checkout"]
    assert secret not in repr(client.stats()) + repr(vars(client))


async def test_values_wait_for_a_token_that_comes_later(guarded, secret, sink, monkeypatch, tmp_path):
    file = tmp_path / "token"
    monkeypatch.setenv("METRICS_TOKEN_FILE", str(file))
    client = MetricsClient(url_of(guarded), QUICK)
    assert not await asyncio.to_thread(record, client, 1.0)
    assert (client.stats().waiting, client.stats().dropped) == (1, {})
    assert "Bearer <token>" in client.stats().addresses[0].problem
    file.write_text(secret)
    assert await asyncio.to_thread(client.flush, 10.0)
    client.close()
    assert sum(chunk.count for chunk in sink.chunks) == 1


def test_a_token_that_could_be_no_header_is_refused_and_not_repeated(monkeypatch):
    for token in ("a b", "a\nb", "é"):
        with pytest.raises(ValueError, match="token: expected letters") as caught:
            MetricsClient("http://127.0.0.1:1", token=token)
        assert token not in str(caught.value)


def test_a_file_that_cannot_be_read_any_more_leaves_the_last_token(tmp_path, token):
    file = tmp_path / "token"
    credentials = Credentials("", file)
    assert credentials.headers() == {}
    file.write_text(token)
    assert credentials.headers() == {"Authorization": f"Bearer {token}"}
    for broken in (b"", b"\xff", b"a b"):
        file.write_bytes(broken)
        assert credentials.headers() == {"Authorization": f"Bearer {token}"}


# commands


async def command(*words: str, **environment: str) -> Result:
    return await asyncio.to_thread(CliRunner(env=environment).invoke, app, [*words])


async def test_send_shows_the_token_of_a_file_or_of_the_environment(guarded, secret, sink, tmp_path):
    file = tmp_path / "token"
    file.write_text(secret)
    send = ["send", "checkout", "12.5", "--url", url_of(guarded)]
    assert "Bearer <token>" in (await command(*send)).stderr
    for words, environment in (
        (["--token-file", str(file)], {}),
        ([], {"METRICS_TOKEN": secret}),
        ([], {"METRICS_TOKEN_FILE": str(file)}),
    ):
        result = await command(*send, *words, **environment)
        assert (result.exit_code, result.stdout) == (0, "accepted 1\n"), result.stderr
        assert secret not in result.stdout + result.stderr
    missing = await command(*send, "--token-file", "nowhere")
    assert (missing.exit_code, "nowhere: cannot be read" in missing.stderr) == (1, True)


async def test_query_and_keys_show_the_token(secret, tokens):
    async with worker(found=row(4.0), tokens_file=tokens, cluster_token="c") as running:
        for words in (["query", "checkout", "average", "2025-11-23", "22"], ["keys", "--date", "2025-11-23"]):
            asked = [*words, "--json", "--url", running.url]
            assert "Bearer <token>" in (await command(*asked)).stderr
            result = await command(*asked, METRICS_TOKEN=secret)
            assert (result.exit_code, "checkout" in json.dumps(json.loads(result.stdout))) == (0, True), result.stderr


async def test_load_shows_the_token_with_every_request(token):
    shown: list[str | None] = []

    async def note(request: web.Request) -> web.Response:
        shown.append(request.headers.get("Authorization"))
        return web.json_response({"accepted": 1}, status=202 if request.method == "POST" else 200)

    service = web.Application()
    service.router.add_route("*", "/{tail:.*}", note)
    async with TestServer(service) as running:
        load = ["load", "--rate", "100", "--batch", "1", "--keys", "1", "--duration", "0.1", "--drain", "0"]
        await command(*load, "--url", str(running.make_url("")), METRICS_TOKEN=token)
    assert len(shown) > 10
    assert set(shown) == {f"Bearer {token}"}
