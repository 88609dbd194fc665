"""What openapi.json describes is what is served: schemathesis asks a running service, sensibly and not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from .asking import dated

pytestmark = pytest.mark.kafka

SEED = 1  # the requests are the same in every run
# Not checked: whether everything the schemas allow is taken. They cannot say that `to` comes after `from`, for one.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
)


LONG = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("phase", ["coverage", pytest.param("fuzzing", marks=LONG)])
def test_service_answers_as_described_whatever_it_is_asked(asked: list[str], tmp_path: Path, phase: str) -> None:
    """No 5xx, no undescribed status, header or member; what the description forbids is refused."""
    said = run(asked[0], description(asked[0]), tmp_path, phases=phase)
    assert f"Tested: {operations(description(asked[0]))}" in said


@pytest.mark.parametrize("seconds", ["20", pytest.param("300", marks=LONG)])
def test_what_was_posted_is_asked_for_in_every_way_there_is(asked: list[str], tmp_path: Path, seconds: str) -> None:
    """The same checks on chains of requests: samples, then questions about their key; a list of keys, then the same."""
    document = description(asked[0])
    # a key can be taken from the object form alone
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Sample"}}}
    document["paths"]["/samples"]["post"]["requestBody"]["content"] = content
    posted, listed = {"key": "$request.body#/key"}, {"key": "$response.body#/keys/0"}
    today = datetime.now(UTC).date()
    times = {"from": f"{today}", "to": f"{today + timedelta(days=1)}", "date": f"{today}", "hour": "0", "ms": "10"}
    for path, method, status, key in (("/samples", "post", "202", posted), ("/keys", "get", "200", listed)):
        document["paths"][path][method]["responses"][status]["links"] = {
            question: {"operationId": question, "parameters": {**key, **given(document, question, times)}}
            for question in questions(document)
        }
    said = run(asked[0], document, tmp_path, **{"phases": "stateful", "max-time": seconds})
    assert "Stateful" in said


def questions(document: Any) -> list[str]:
    """Operations about a key."""
    return [methods["get"]["operationId"] for path, methods in document["paths"].items() if path.startswith("/{key}/")]


def given(document: Any, question: str, times: dict[str, str]) -> dict[str, str]:
    """Of the times, those that a question must have."""
    (operation,) = (
        methods["get"]
        for methods in document["paths"].values()
        if methods.get("get", {}).get("operationId") == question
    )
    shared = document["components"]["parameters"]
    needed = [shared[each["$ref"].rpartition("/")[2]] for each in operation["parameters"]]
    return {each["name"]: times[each["name"]] for each in needed if each["required"] and each["name"] in times}


def description(url: str) -> Any:
    """What the service says of itself, whose examples find what is recorded."""
    with urllib.request.urlopen(f"{url}/openapi.json") as described:
        document = json.loads(dated(described.read().decode()))
    document["paths"]["/samples"] = elsewhere(document["paths"]["/samples"])
    # it cannot make NDJSON; tests/wire/test_bodies.py does
    del document["paths"]["/samples"]["post"]["requestBody"]["content"]["application/x-ndjson"]
    return document


def run(url: str, document: Any, tmp_path: Path, **more: str) -> str:
    """What schemathesis says of a service that is as described; fails where it is not."""
    schema = tmp_path / "openapi.json"
    schema.write_text(json.dumps(document))
    options = {
        "url": url,
        "mode": "all",
        "checks": ",".join(CHECKS),
        "seed": str(SEED),
        "max-examples": "100",
        "max-time": "300",
        "suppress-health-check": "all",
        "generation-database": "none",
        **more,
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", str(schema), *arguments, "--no-color"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    return ran.stdout


def elsewhere(samples: object) -> dict[str, Any]:
    """The operation, whose examples are recorded under another key and now: other tests count what theirs recorded."""
    text, now_s = json.dumps(samples), int(time.time())
    for example, ours in (
        ('"checkout"', '"described"'),
        ("1795464000.5", f"{now_s}.5"),
        ("498740", str(now_s // 3600)),
    ):
        assert example in text
        text = text.replace(example, ours)
    changed: dict[str, Any] = json.loads(text)
    return changed


def operations(document: dict[str, dict[str, dict[str, object]]]) -> int:
    """How many there are."""
    return sum(len(methods) for methods in document["paths"].values())
