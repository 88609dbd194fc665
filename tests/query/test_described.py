"""What openapi.json describes is what is served: schemathesis asks a running service, sensibly and not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
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


@pytest.mark.parametrize(
    "phase", ["coverage", pytest.param("fuzzing", marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_service_answers_as_described_whatever_it_is_asked(asked: list[str], tmp_path: Path, phase: str) -> None:
    """No 5xx, no undescribed status, header or member; what the description forbids is refused."""
    with urllib.request.urlopen(f"{asked[0]}/openapi.json") as described:
        document = json.loads(dated(described.read().decode()))  # the examples find what is recorded
    document["paths"]["/samples"] = elsewhere(document["paths"]["/samples"])
    # it cannot make NDJSON; tests/wire/test_bodies.py does
    del document["paths"]["/samples"]["post"]["requestBody"]["content"]["application/x-ndjson"]
    schema = tmp_path / "openapi.json"
    schema.write_text(json.dumps(document))
    options = {
        "url": asked[0],
        "phases": phase,
        "mode": "all",
        "checks": ",".join(CHECKS),
        "seed": str(SEED),
        "max-examples": "100",
        "max-time": "300",
        "suppress-health-check": "all",
        "generation-database": "none",
    }
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", str(schema), *given, "--no-color"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    assert f"Tested: {operations(document)}" in ran.stdout


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
