"""Every query of the dashboards is run: by a real Prometheus that scrapes two real workers, and by a worker itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from metrics_app.kafka.ports import free_port
from metrics_app.telemetry import Telemetry
from tests.deploy.manifests import DOCKER, documents

from .asking import dated

GRAFANA = DOCKER / "grafana"
BOARDS = {
    path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "provisioning" / "dashboards").glob("*.json"))
}
WITHIN_S = 60.0


def targets(board: str) -> list[tuple[str, dict[str, Any]]]:
    return [(panel["title"], target) for panel in BOARDS[board]["panels"] for target in panel["targets"]]


EXPRESSIONS = [(title, target["expr"]) for title, target in targets("health")]


def test_panels_have_numbers_and_places_of_their_own_and_data_sources_that_are_provisioned() -> None:
    (provisioned,) = documents(GRAFANA / "provisioning" / "datasources" / "metrics-app.yaml")
    known = {(each["type"], each["uid"]) for each in provisioned["datasources"]}
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS) == 2
    for board in BOARDS.values():
        panels = board["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
        used = [each["datasource"] for panel in panels for each in (panel, *panel["targets"])]
        assert {(each["type"], each["uid"]) for each in used} <= known


def test_the_dashboards_lie_where_grafana_is_told_to_look() -> None:
    (compose,) = documents(DOCKER / "compose.yaml")
    (provider,) = documents(GRAFANA / "provisioning" / "dashboards" / "metrics-app.yaml")
    mounted = [volume.split(":") for volume in compose["services"]["grafana"]["volumes"]]
    folders = {inside: DOCKER / outside for outside, inside, *_ in mounted if outside.startswith(".")}
    path = Path(provider["providers"][0]["options"]["path"])
    (here,) = (folder / path.relative_to(inside) for inside, folder in folders.items() if path.is_relative_to(inside))
    assert {file.stem for file in here.glob("*.json")} == set(BOARDS)


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_an_expression_is_promql_and_names_metrics_that_there_are(title: str, expression: str) -> None:
    promql_parser.parse(expression.replace("$__rate_interval", "1m"))
    listed = {one.name for metrics in Telemetry().lists.values() for one in metrics.listed}
    named = set(re.findall(r"metrics_app_\w+", expression))
    assert {name.removesuffix("_bucket") for name in named} <= listed, title


@pytest.fixture(scope="module")
def prometheus(asked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real one that scrapes both workers each second."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus, of Debian, is absent")
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    hosts = [url.removeprefix("http://") for url in asked]
    scraped = {"job_name": "metrics-app", "scrape_interval": "1s", "static_configs": [{"targets": hosts}]}
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scraped]}))
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.mark.kafka
def test_every_expression_of_the_health_dashboard_has_an_answer(prometheus: str, asked: list[str]) -> None:
    """Of each that names no counter by a label, a series: those with one begin with what they first count."""
    may_be_empty = re.compile(r"refused|rejected|client_dropped|forwards|dead_lettered|query_seconds|lag_records")
    for url in asked:
        fetched(f"{url}/checkout/p99/{datetime.now(UTC):%Y-%m-%d}")
    end = time.monotonic() + WITHIN_S
    left = [expression for _, expression in EXPRESSIONS]
    while left:
        left = [each for each in left if not series(prometheus, each) and not may_be_empty.search(each)]
        assert not left or time.monotonic() < end, left
        time.sleep(0.5)


def series(prometheus: str, expression: str) -> list[Any]:
    """What Prometheus answers; a query that it does not understand is an error."""
    query = urllib.parse.urlencode({"query": expression.replace("$__rate_interval", "10s")})
    try:
        answer = fetched(f"{prometheus}/api/v1/query?{query}")
    except urllib.error.HTTPError as error:
        if error.code == 503:
            return []
        raise AssertionError(error.read().decode()) from error
    except urllib.error.URLError:  # it is only starting
        return []
    found: list[Any] = answer["data"]["result"]
    return found


@pytest.mark.kafka
@pytest.mark.parametrize(("title", "target"), targets("answers"), ids=[title for title, _ in targets("answers")])
def test_every_question_of_the_answers_dashboard_is_answered(asked: list[str], title: str, target: Any) -> None:
    """And has the columns that the panel shows."""
    path = target["url"].replace("${date}", dated("2026-11-23")).replace("${key}", "checkout")
    rows = fetched(asked[0] + path)[target["root_selector"]]
    for column in (each["selector"].split(".") for each in target["columns"]):
        row = next((each for each in rows if each.get("count", 1)), rows[0])
        for part in column:
            row = row[part]


def fetched(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=20) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        if error.code == 404 and "/checkout/" in url:
            return None
        raise
