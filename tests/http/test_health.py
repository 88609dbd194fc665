from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from metrics_app.collector.otlp import PATHS as OTLP_PATHS
from metrics_app.errors import InvalidQueryError
from metrics_app.http.health import OPENAPI, PATHS, register_health
from metrics_app.http.problems import HEADERS, PROBLEM, Health, finished
from metrics_app.kafka.ports import free_port
from metrics_app.query import views as query
from metrics_app.query.federated import PATH as FEDERATE_PATH
from metrics_app.query.keys import PATH as KEYS_PATH
from metrics_app.query.merged import PATH as MERGE_PATH
from metrics_app.stats.summary import parse_stat
from metrics_app.system.views import PATHS as SYSTEM_PATHS
from metrics_app.telemetry import Telemetry
from metrics_app.wire.bodies import ARROW, MSGPACK, BodyLimits, parse
from metrics_app.wire.chunk import VALUE_MAX
from metrics_app.wire.gathering import LISTED
from metrics_app.wire.metric_key import MAX_KEY_BYTES
from tests.query.fakes import HOUR, ask, row, web_app, worker


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
async def url(health: Health, telemetry: Telemetry) -> AsyncIterator[str]:
    port = free_port()
    app = web_app(telemetry, port)
    register_health(app, telemetry, health)
    async with app.web:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def description() -> Any:
    return json.loads(OPENAPI.read_text())


async def test_process_is_alive_even_when_not_ready(url: str, health: Health) -> None:
    health.checks["kafka"] = lambda: "not reachable"
    health.stopping = True

    assert (await ask(url, "/livez")).status == 200


async def test_process_that_only_a_restart_helps_is_not_alive_and_says_why(url: str, health: Health) -> None:
    health.vital["watchdog"] = lambda: "nothing is folded"
    reply = await ask(url, "/livez")
    assert (reply.status, reply.json["detail"]) == (503, "watchdog: nothing is folded")
    health.ending = "the flusher died"
    assert (await ask(url, "/livez")).json["detail"] == "ending: the flusher died"
    assert (await ask(url, "/readyz")).status == 503


async def test_a_check_that_fails_itself_is_a_reason_not_to_be_ready(url: str, health: Health) -> None:
    health.checks["table"] = lambda: str(1 / 0)
    reply = await ask(url, "/readyz")
    assert reply.status == 503
    assert reply.json["checks"]["table"].startswith("cannot be told: ZeroDivisionError")


async def test_process_without_a_failing_check_is_ready(url: str, health: Health) -> None:
    health.checks["kafka"] = lambda: None
    reply = await ask(url, "/readyz")

    assert (reply.status, reply.json) == (200, {"status": "ready", "pid": os.getpid()})
    assert reply.headers["Cache-Control"] == "no-store"


async def test_failing_check_is_503_with_its_reason(url: str, health: Health) -> None:
    health.checks |= {"kafka": lambda: "not reachable", "tables": lambda: None}
    reply = await ask(url, "/readyz")

    assert (reply.status, reply.headers["Content-Type"], reply.headers["Retry-After"]) == (503, PROBLEM, "1")
    assert reply.json["checks"] == {"kafka": "not reachable"}
    assert reply.json["detail"] == "kafka: not reachable"


@pytest.mark.parametrize("reason", [None, "not reachable", ""])
async def test_verbose_lists_every_check(url: str, health: Health, reason: str | None) -> None:
    health.checks |= {"kafka": lambda: reason, "tables": lambda: None}
    reply = await ask(url, "/readyz?verbose")

    assert (200 if reason is None else 503) == reply.status
    assert {"kafka": "ok" if reason is None else reason, "tables": "ok"} == reply.json["checks"]


async def test_stopping_process_is_not_ready(url: str, health: Health) -> None:
    health.stopping = True
    reply = await ask(url, "/readyz?verbose")

    assert (reply.status, reply.json["checks"]) == (503, {"process": "stopping"})


async def test_metrics_are_prometheus_text(url: str, telemetry: Telemetry) -> None:
    telemetry.accepted.inc(7)
    reply = await ask(url, "/metrics")

    assert reply.headers["Content-Type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(reply.body.decode())}
    assert families["metrics_app_accepted_values"].samples[0].value == 7


@pytest.mark.parametrize("path", list(PATHS))
async def test_health_paths_take_get_and_head_only(url: str, path: str) -> None:
    assert ((head := await ask(url, path, method="HEAD")).status, head.body) == (200, b"")
    refused = await ask(url, path, method="POST")

    assert (refused.status, refused.headers["Content-Type"]) == (405, PROBLEM)
    assert {"GET", "HEAD"} == set(refused.headers["Allow"].split(","))


async def test_description_is_served(url: str, description: Any) -> None:
    reply = await ask(url, "/openapi.json")

    assert ("application/json", description) == (reply.headers["Content-Type"], reply.json)


def test_description_has_every_public_path(description: Any) -> None:
    assert set(description["paths"]) == {
        "/samples",
        *OTLP_PATHS,
        KEYS_PATH,
        FEDERATE_PATH,
        MERGE_PATH,
        *query_paths(),
        *PATHS,
        *SYSTEM_PATHS,
    }


def query_paths() -> set[str]:
    """Those of the statistics, and the same with each word that asks something else."""
    general = [path.replace(":[^/]+", "") for path in query.PATHS]
    return {*general, *(path.replace("{stat}", word) for path in general for word in query.WORDS)}


def parameters(description: Any, operation: Any) -> list[Any]:
    """Of an operation, those that several share looked up."""
    shared = description["components"]["parameters"]
    return [
        shared[each["$ref"].rpartition("/")[2]] if "$ref" in each else each for each in operation.get("parameters", ())
    ]


def test_description_refers_to_nothing_that_is_missing(description: Any) -> None:
    for reference in set(re.findall(r'"#/([^"]+)"', json.dumps(description))):
        part = description
        for name in reference.split("/"):
            part = part[name]


def test_description_declares_every_path_parameter(description: Any) -> None:
    for path, methods in description["paths"].items():
        for operation in methods.values():
            declared = [each["name"] for each in parameters(description, operation) if each["in"] == "path"]
            assert re.findall(r"\{(\w+)\}", path) == declared


def test_described_bodies_are_taken(description: Any) -> None:
    limits = BodyLimits(max_items=10, max_ahead_s=300, retention_s=86400 * 31, chunk_values=1000)
    content = description["paths"]["/samples"]["post"]["requestBody"]["content"]
    examples = [json.dumps(each["value"]) for each in content["application/json"]["examples"].values()]
    bodies = [("application/json", text) for text in examples]
    bodies += [("application/x-ndjson", content["application/x-ndjson"]["example"])]
    bodies += [("text/plain", examples[0])]

    for content_type, text in bodies:
        parsed = parse(text.encode(), content_type, 1795464060.0, limits)
        assert (parsed.accepted > 0, parsed.rejected) == (True, [])
    assert set(content) == {name for name, _ in bodies} | {MSGPACK, ARROW}


def test_described_limits_are_the_ones_kept(description: Any) -> None:
    schemas = description["components"]["schemas"]

    assert schemas["Value"]["maximum"] == VALUE_MAX
    assert schemas["Key"]["maxLength"] == MAX_KEY_BYTES
    assert schemas["Receipt"]["properties"]["rejected"]["maxItems"] == LISTED


@pytest.mark.parametrize("window", ["", "Day", "Range"])
@pytest.mark.parametrize(
    ("stat", "parameter", "schema"),
    [
        ("median", "", "Answer"),
        ("count", "", "Answer"),
        ("summary", "", "Summary"),
        ("under", "ms=20", "Share"),
        ("compare", "with=2025-11-23/22", "Comparison"),
        ("histogram", "", "HistogramAnswer"),
    ],
)
async def test_answers_are_as_described(description: Any, stat: str, parameter: str, schema: str, window: str) -> None:
    path = {
        "": f"{stat}/2025-11-23/22?",
        "Day": f"{stat}/2025-11-23?",
        "Range": f"{stat}?from=2025-11-23/20&to=2025-11-24&",
    }[window]
    if window == "Day":
        parameter = parameter.removesuffix("/22")
    async with worker(found=row()) as running:
        answer = (await ask(running.url, f"/checkout/{path}{parameter}")).json

    described = description["components"]["schemas"]
    assert list(answer) == list(described[window + schema]["properties"]) == described[window + schema]["required"]
    cell = described["SummaryCell" if stat == "summary" else "HourCell"]
    for each in answer.get("hours", ()):
        assert list(each) == (list(cell["properties"]) if each["count"] else cell["required"])
    assert sum(each["count"] for each in answer.get("hours", ())) == (3 if "hours" in answer else 0)
    for name, schema in (("shifts", "Shift"), ("baseline", "Baseline")):
        if name in answer:
            part = answer[name] if isinstance(answer[name], dict) else answer[name][0]
            assert list(part) == described[schema]["required"]


async def test_list_of_keys_is_as_described(description: Any) -> None:
    async with worker(found=row()) as running:
        answer = (await ask(running.url, "/keys?date=2025-11-23")).json

    assert list(answer) == description["components"]["schemas"]["Keys"]["required"]


async def test_path_of_one_segment_is_of_the_service_and_longer_ones_are_of_keys(description: Any) -> None:
    """So no key hides a page of the service, nor is hidden by one."""
    paths = [path for path in description["paths"] if path not in OTLP_PATHS]  # these name no statistic
    for path in paths:
        assert (len(path.split("/")) == 2) is ("{key}" not in path)
    async with worker() as running:
        for key in (
            *(path[1:] for path in paths if "{key}" not in path),
            "under",
            "compare",
            "histogram",
        ):
            running.reader.rows[key.encode(), HOUR] = row()
            for path in (
                "max/2025-11-23/22",
                "max/2025-11-23",
                "max?from=2025-11-23&to=2025-11-24",
                "histogram/2025-11-23",
            ):
                reply = await ask(running.url, f"/{key}/{path}")
                assert (reply.status, reply.json["key"], reply.json["count"]) == (200, key, 3)


@pytest.mark.parametrize("stat", ["average", "min", "max", "median", "count", "sum", "stddev", "p5", "p99.9", "p100"])
def test_described_statistics_are_the_ones_taken(description: Any, stat: str) -> None:
    named, quantile = description["components"]["schemas"]["Stat"]["anyOf"]

    assert stat in named["enum"] or re.search(quantile["pattern"], stat)
    parse_stat(stat)
    for wrong in (f"x{stat}", "p", "p1000", "p50.", "p101"):
        assert wrong not in named["enum"]
        assert not re.search(quantile["pattern"], wrong)
        with pytest.raises(InvalidQueryError):
            parse_stat(wrong)


def test_what_a_reply_says_itself_of_content_and_caching_stays() -> None:
    own = {"Content-Security-Policy": "default-src 'self'", "Cache-Control": "max-age=1"}
    reply = finished(finished(web.Response(headers=own)))
    assert dict(reply.headers) == {**HEADERS, **own}
    plain = finished(finished(web.Response()))
    assert plain.headers.getall("Server") == ["metrics-app"]
    assert plain.headers["Cache-Control"] == "no-store"
