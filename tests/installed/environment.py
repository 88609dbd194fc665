"""An environment that has the built wheel and exactly the distributions that the wheel says it needs."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.faults.pace import stretched

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}  # nothing of a developer's


def run(*command: str | Path, cwd: Path | None = None, within_s: float = 120.0) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=stretched(within_s),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(source: Path, out: Path, kind: str) -> Path:
    """The `wheel` or `sdist` of a source folder, built by the back end that pyproject.toml names, without a network."""
    out.mkdir(parents=True)
    build = f"import sys; from flit_core import buildapi; print(buildapi.build_{kind}(sys.argv[1]))"
    return out / run(sys.executable, "-c", build, out, cwd=source).strip()


def environment(folder: Path, wheel: Path) -> Path:
    """The folder of programs of a new environment with the wheel and, linked from ours, what its `server` extra needs.

    A library that the wheel does not declare is not there, though we have it.
    """
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    for needed in closure(declared(wheel, "server")).values():
        link(needed, packages)
    run(
        sys.executable,
        "-m",
        "pip",
        f"--python={folder / 'bin/python'}",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        wheel,
    )
    return folder / "bin"


def declared(wheel: Path, extra: str) -> list[str]:
    """What a wheel requires, with one of its extras: read in the wheel, whatever is installed here."""
    (folder,) = (one for one in zipfile.Path(wheel).iterdir() if one.name.endswith(".dist-info"))
    requires = PathDistribution(folder).requires
    return [need for need in requires or () if _applies(Requirement(need), {extra})]


def link(needed: Distribution, packages: Path) -> None:
    """Makes the packages and modules of one distribution importable from a folder."""
    tops = {file.parts[0] for file in needed.files or () if file.parts[0] not in ("..", "__pycache__")}
    for top in tops:
        if not (packages / top).exists():
            (packages / top).symlink_to(str(needed.locate_file(top)))


def closure(wanted: list[str]) -> dict[str, Distribution]:
    """The distributions that requirements stand for, with all that these need, as installed here."""
    found: dict[str, Distribution] = {}
    seen: set[str] = set()
    while wanted:
        requirement = Requirement(wanted.pop())
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        one = distribution(requirement.name)
        found[re.sub(r"[-_.]+", "-", requirement.name.lower())] = one
        wanted += [need for need in one.requires or () if _applies(Requirement(need), requirement.extras)]
    return found


def _applies(need: Requirement, extras: set[str]) -> bool:
    return need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in {"", *extras})
