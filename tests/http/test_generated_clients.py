"""Clients that are generated from /openapi.json send to a running worker and ask it: `make test-generators`."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from metrics_app.wire.bodies import ARROW, LINES, MSGPACK
from tests.faults.installation import Installation

ROOT = Path(__file__).parents[2]
APPS = Path(__file__).parent / "generated"
GENERATORS = ROOT / ".venv-generators"  # made by `make test-generators`
PYTHON = GENERATORS / "bin" / "openapi-python-client"
TYPESCRIPT = GENERATORS / "node_modules" / ".bin"

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Installation(tmp_path_factory.mktemp("generated"), {"a": "all"}) as installation:
        yield installation.workers["a"].url


@pytest.fixture
def described(url: str, tmp_path: Path) -> Path:
    """What the worker says of itself, in a file."""
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=20) as reply:
        document = json.load(reply)
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    return tmp_path / "openapi.json"


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.skipif(not PYTHON.exists(), reason="no openapi-python-client: `make test-generators` installs it")
def test_a_generated_python_client_sends_and_asks(url: str, described: Path, tmp_path: Path) -> None:
    made: list[str | Path] = ["--path", described, "--meta", "none", "--output-path", tmp_path / "metrics_client"]
    said = run(PYTHON, "generate", *made, folder=tmp_path)
    left_out = {line.split()[-1] for line in said.splitlines() if line.startswith("Unsupported content type")}
    assert left_out <= {"text/plain", "application/x-protobuf", LINES, MSGPACK, ARROW}
    assert said.count("WARNING") == said.count("Unsupported content type"), said
    shutil.copy(APPS / "app.py", tmp_path)
    run(PYTHON.with_name("python"), "app.py", url, folder=tmp_path)


@pytest.mark.skipif(
    not TYPESCRIPT.exists(), reason="no openapi-typescript: `make test-generators` installs it with npm"
)
def test_a_generated_typescript_client_sends_and_asks(url: str, described: Path, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(GENERATORS / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(APPS / "app.ts", tmp_path)
    run(TYPESCRIPT / "openapi-typescript", described, "-o", tmp_path / "schema.d.ts", folder=tmp_path)
    strictly = ["--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"]
    run(TYPESCRIPT / "tsc", *strictly, "app.ts", folder=tmp_path)
    node = shutil.which("node")
    assert node is not None
    run(node, "app.js", url, folder=tmp_path)
