"""Who is told of the system, and what a process without a group says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from metrics_app.http.access import Access
from metrics_app.http.problems import Health
from metrics_app.settings import Settings
from metrics_app.system.condition import SystemState
from metrics_app.system.meter import Meter
from metrics_app.system.views import PATHS, Here, register
from metrics_app.telemetry import Telemetry
from tests.http.test_access import TokenFile
from tests.query.fakes import ask, web_app


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens", ("app", ["ingest"], []), ("reader", ["query"], []))


@pytest.fixture
async def collector(make_settings: Any, file: TokenFile) -> AsyncIterator[Here]:
    settings: Settings = make_settings(tokens_file=file.path)
    telemetry = Telemetry()
    here = Here(settings, "collector", "1", telemetry, Health(), Meter(telemetry, settings.data_dir), None)
    app = web_app(telemetry, settings.port, gate=Access(settings))
    register(app, here, None)
    async with app.web:
        yield here


@pytest.mark.parametrize("path", PATHS)
async def test_a_stranger_and_one_who_may_only_send_are_told_nothing(collector: Here, file: Any, path: str) -> None:
    url = collector.settings.url
    assert (await ask(url, path)).status == 401
    assert (await ask(url, path, **file.bearer("app"))).status == 403
    assert (await ask(url, path, **file.bearer("reader"))).status == 200


async def test_a_collector_speaks_of_itself_alone(collector: Here, file: Any) -> None:
    collector.health.checks["kafka"] = lambda: "it is away"
    collector.telemetry.rejected.labels("value").inc(3)
    reply = await ask(collector.settings.url, "/system", **file.bearer("reader"))
    system = msgspec.json.decode(reply.body, type=SystemState)
    assert [(each.url, each.role, each.checks) for each in system.workers] == [
        (collector.settings.url, "collector", {"kafka": "it is away"})
    ]
    assert (system.partitions, system.unanswered) == ([], [])
    assert system.by["rejected_values"] == {"value": 3.0}
    assert reply.headers["Cache-Control"] == "no-store"
