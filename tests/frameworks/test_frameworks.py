"""The short form of `make test-frameworks`: the frameworks that are installed here, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.frameworks.matrix import MATRIX, REPOSITORY

APPS = sorted(path.stem for path in (Path(__file__).parent / "apps").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", APPS)
def test_requests_are_recorded_under_their_route(name: str) -> None:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed here; `make test-frameworks` installs it")
    done = subprocess.run(
        [sys.executable, "-m", "tests.frameworks.check", name],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr


def test_the_matrix_has_each_app() -> None:
    assert sorted(MATRIX) == APPS
