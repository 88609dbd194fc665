"""An earlier state of the product, built from the history of this repository and installed as a wheel."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.installed.environment import ROOT, built, environment, run

BEFORE_ANY = "e35fcdb3b0a56314817abc85e6fdb7d543c97947"  # of the same formats as the first release will have
OLDER_ROWS = "bfe7455185b7d593b5d5989b8ce077f9e02775dd"  # the last one that knows rows of version 1 alone


def installed(commit: str, folder: Path) -> tuple[str, ...]:
    """What runs the product as it was at a commit; the test is skipped where there is no such history."""
    folder.mkdir()
    archive = folder / "sources.tar"
    done = subprocess.run(
        ["git", "archive", f"--output={archive}", commit], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"needs the commit {commit} in the history of a clone: {done.stderr.strip()}")
    with tarfile.open(archive) as sources:
        sources.extractall(folder / "sources", filter="data")
    programs = environment(folder / "venv", built(folder / "sources", folder / "dist", "wheel"))
    interpreter = (str(programs / "python"), "-P")  # not from the folder that the tests run in
    found = run(*interpreter, "-c", "import metrics_app; print(metrics_app.__file__)")
    assert found.startswith(str(folder)), found
    return interpreter


def previous_release() -> str:
    """The newest tag `v...` before this commit; before there is one, `BEFORE_ANY`."""
    done = subprocess.run(
        ["git", "describe", "--tags", "--match=v*", "--abbrev=0", "HEAD^"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or BEFORE_ANY
