"""`pip install "metrics-app[server]"` and `metrics-app up`, in a folder that is no checkout."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
import time
import tomllib
import zipfile
from http import HTTPStatus
from pathlib import Path

import pytest
import urllib3

from metrics_app.kafka.ports import free_port
from tests.faults.pace import stretched
from tests.installed.environment import ENVIRONMENT, ROOT, built, environment, run

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
TESTED = ("3.11", "3.12", "3.13")
PYENV = Path.home() / ".pyenv" / "versions"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT, tmp_path_factory.mktemp("built") / "dist", "wheel")


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("stranger") / "venv", wheel)


def test_the_import_warns_of_nothing_and_says_the_one_version(programs: Path, tmp_path: Path) -> None:
    script = "import metrics_app as m; print(m.__version__, *(getattr(m, name).__name__ for name in m.__all__[:-1]))"
    said = run(programs / "python", "-W", "error", "-c", script, cwd=tmp_path).split()
    assert said == [VERSION, "AsyncMetricsClient", "MetricsClient", "Options", "Stats"]
    assert run(programs / "metrics-app", "--version", cwd=tmp_path) == f"metrics-app {VERSION}\n"


def test_the_wheel_may_be_uploaded_and_says_where_it_runs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"metrics_app-{VERSION}.dist-info/METADATA").decode()
    assert "Private ::" not in metadata
    for python in TESTED:
        assert f"Programming Language :: Python :: {python}" in metadata


def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = built(ROOT, tmp_path / "dist", "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    again = built(tmp_path / f"metrics_app-{VERSION}", tmp_path / "again", "wheel")
    assert contents(again) == contents(wheel)


def contents(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist() if "__pycache__" not in info.filename}


@pytest.mark.kafka
def test_up_works_outside_a_checkout(programs: Path, tmp_path: Path) -> None:
    comes_up(programs, tmp_path)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", [*TESTED, "3.14"])
def test_a_real_installation_comes_up(version: str, wheel: Path, tmp_path: Path) -> None:
    """By pip, from wherever this machine's pip installs from, with the newest dependencies that fit."""
    python = python_of(version)
    if python is None:
        pytest.skip(f"Python {version} is not on this machine")
    run(python, "-m", "venv", tmp_path / "venv")
    programs = tmp_path / "venv" / "bin"
    run(programs / "pip", "install", "-q", f"metrics-app[server] @ {wheel.as_uri()}", within_s=600)
    run(programs / "python", "-W", "error", "-c", "import metrics_app; metrics_app.MetricsClient", cwd=tmp_path)
    comes_up(programs, tmp_path)


def python_of(version: str) -> str | None:
    candidates = [shutil.which(f"python{version}"), *map(str, PYENV.glob(f"{version}.*/bin/python"))]
    script = f"import sys; sys.exit('%d.%d' % sys.version_info[:2] != '{version}')"
    for candidate in filter(None, candidates):
        if subprocess.run([candidate, "-c", script], check=False, capture_output=True).returncode == 0:
            return candidate
    return None


def comes_up(programs: Path, folder: Path) -> None:
    """`metrics-app up` in an empty folder takes a value, answers it, and stops."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    home = {name: os.environ[name] for name in ("HOME", "XDG_CACHE_HOME") if name in os.environ}
    empty, err = folder / "empty", folder / "err"
    empty.mkdir()
    with err.open("wb") as said:
        command = [str(programs / "metrics-app"), "up", "--port", str(port)]
        up = subprocess.Popen(command, cwd=empty, env=ENVIRONMENT | home, stdout=subprocess.PIPE, stderr=said)
    try:
        assert up.stdout is not None
        assert up.stdout.readline().startswith(b"ready in"), err.read_text()
        assert urllib3.request("POST", f"{url}/samples", json=["checkout", 12.5]).json()["accepted"] == 1
        assert answer(f"{url}/checkout/median/{time.strftime('%Y-%m-%d/%H', time.gmtime())}")["count"] == 1
        assert sorted(path.name for path in empty.iterdir()) == ["data"]
    finally:
        up.send_signal(signal.SIGTERM)
        with up:
            code = up.wait(stretched(60))
    assert code == 0, err.read_text()


def answer(url: str, within_s: float = 20.0) -> dict[str, object]:
    """The answer to a question once there is one: a value may be queried a moment after it was accepted."""
    deadline = time.monotonic() + stretched(within_s)
    while (reply := urllib3.request("GET", url)).status != HTTPStatus.OK:
        assert time.monotonic() < deadline, reply.data
        time.sleep(0.1)
    return dict(reply.json())
