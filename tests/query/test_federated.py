"""What Prometheus is given to scrape: read by its own tools."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import textwrap
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import pytest
from prometheus_client.parser import text_string_to_metric_families

from metrics_app.holdings import ACTIVE, Loss
from metrics_app.http.tokens import new_token
from metrics_app.kafka.ports import free_port
from metrics_app.query import hours

from .fakes import HOUR, Worker, ask, row, worker

AT_S = hours.start(HOUR + 1).timestamp() + 1234
HOSTILE = 'a"b\\{x="1"}'


def recorded(one: Worker) -> None:
    one.reader.rows = {(b"checkout", HOUR): row(*map(float, range(1, 101)), missing=3), (b"old", HOUR - 1): row()}
    one.reader.rows |= {(HOSTILE.encode(), HOUR): row(1000.0), (b"now", HOUR + 1): row()}


async def scraped(one: Worker, query: str = "", **headers: Any) -> dict[str, float]:
    with patch.object(time, "time", return_value=AT_S):
        reply = await ask(one.url, f"/federate{query}", **headers)
    assert (reply.status, reply.headers["Content-Type"][:24]) == (200, "text/plain; version=0.0.")
    return {
        f"{each.name}{sorted(each.labels.items())}": each.value
        for family in text_string_to_metric_families(reply.body.decode())
        for each in family.samples
    }


async def test_the_last_hour_that_is_over_is_told_in_seconds() -> None:
    async with worker() as one:
        recorded(one)
        found = await scraped(one)

    key = ("key", "checkout")
    assert found[f"response_time_seconds_count{[key]}"] == 100
    assert found[f"response_time_seconds_sum{[key]}"] == 5.05
    assert found[f"response_time_seconds{[key, ('quantile', '0.5')]}"] == 0.0505
    assert found[f"response_time_missing_values{[key]}"] == 3
    assert found[f"response_time_final{[key]}"] == found[f"response_time_exact_quantiles{[key]}"] == 1
    assert found[f"response_time_seconds_sum{[('key', HOSTILE)]}"] == 1.0
    assert found["response_time_hour_start_timestamp_seconds[]"] == hours.start(HOUR).timestamp()
    assert not [name for name in found if "old" in name or "now" in name]


async def test_what_is_left_out_is_told() -> None:
    async with worker() as one:
        recorded(one)
        one.reader.lost = [Loss(HOUR, HOUR + 1, 0.0, 2)]
        one.reader.roles = {number: ACTIVE for number in range(8) if number != 3}
        found = await scraped(one, "?limit=1")

    assert (found["response_time_keys_truncated[]"], found["response_time_unanswered_partitions[]"]) == (1, 1)
    missing = [value for name, value in found.items() if name.startswith("response_time_missing")]
    assert [value != value for value in missing] == [True]


async def test_a_token_sees_the_keys_of_its_prefixes(tmp_path: Path) -> None:
    token, line = new_token("some", ["query"], ["check"])
    path = tmp_path / "tokens"
    path.write_text(line + "\n")
    path.chmod(0o600)
    async with worker(tokens_file=path, cluster_token="a secret of the cluster") as one:
        recorded(one)
        found = await scraped(one, Authorization=f"Bearer {token}")
        refused = await ask(one.url, "/federate?prefix=a", Authorization=f"Bearer {token}")
        stranger = await ask(one.url, "/federate")

    assert {name.partition("'key', '")[2].partition("'")[0] for name in found if "key'" in name} == {"checkout"}
    assert (refused.status, stranger.status) == (403, 401)


@pytest.mark.parametrize("query", ["limit=0", "prefix=%ff", "sort=p99", "date=2025-11-23"])
async def test_malformed_part_is_named(query: str) -> None:
    async with worker() as one:
        assert (await ask(one.url, f"/federate?{query}")).json["part"] == query.partition("=")[0]


async def test_nobody_who_knows_is_503() -> None:
    async with worker(role=None) as one:
        assert (await ask(one.url, "/federate")).status == 503


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian's prometheus) is not installed")
@pytest.mark.parametrize("unit", ["ms", "s", "bytes", ""])
async def test_promtool_finds_nothing_wrong(unit: str) -> None:
    async with worker(unit=unit) as one:
        recorded(one)
        with patch.object(time, "time", return_value=AT_S):
            text = (await ask(one.url, "/federate")).body
    checked = await asyncio.to_thread(
        subprocess.run, ["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60, check=False
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus (Debian's) is not installed")
async def test_a_real_prometheus_scrapes_it_as_the_page_says(tmp_path: Path) -> None:
    async with worker() as one:
        last = hours.of(time.time()) - 1
        for hour in (last, last + 1):  # the hour may end meanwhile
            one.reader.rows[b"checkout", hour] = row(*map(float, range(1, 101)))
        page = (Path(__file__).parents[2] / "docs" / "queries.md").read_text()
        config = textwrap.dedent(page[page.index("    scrape_configs:") : page.index("## CSV")])
        config = config.replace("127.0.0.1:8080", one.url.removeprefix("http://")).replace("1m", "1s")
        (tmp_path / "prometheus.yml").write_text(config)
        port = free_port()
        options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
        prometheus = await asyncio.create_subprocess_exec(
            "prometheus", *options, f"--web.listen-address=127.0.0.1:{port}", stderr=asyncio.subprocess.DEVNULL
        )
        try:
            query = quote('response_time_seconds{key="checkout",quantile="0.5"}')
            url = f"http://127.0.0.1:{port}/api/v1/query?query={query}"
            found = await asyncio.to_thread(scraped_by, url, time.monotonic() + 120)
        finally:
            prometheus.terminate()
            await prometheus.wait()

    assert [float(each["value"][1]) for each in found] == [0.0505]


def scraped_by(url: str, deadline: float) -> list[dict[str, Any]]:
    """What Prometheus answers as soon as it has scraped; nothing when it has not until then."""
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as reply:
            if found := json.load(reply)["data"]["result"]:
                return [*found]
        time.sleep(0.2)
    return []
