"""What is installed is what is used, and a wheel holds the sources of now."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Set
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
UNIMPORTED = {
    "cramjam",  # aiokafka's lz4
    "flit-core",  # builds the editable install
    "promql-parser",  # the Prometheus query API's
}
# of apps that the client times: loaded only when an app asks for that, as tests/client/test_imports.py shows
FRAMEWORKS = {"aiohttp", "celery", "grpc", "quart"}
# extra -> the module that must not be loaded before it is used
OPTIONAL = {"otlp": "opentelemetry", "arrow": "pyarrow"}


def declared(requirements: Iterable[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


def imported(folder: Path, apart: Set[str] = frozenset()) -> set[str]:
    """Distributions that the modules of a folder import, also within functions."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(str(node.module).split(".")[0])
    known = packages_distributions()
    strangers = names - sys.stdlib_module_names - {"metrics_app"}
    return {_provider(known[name]) for name in strangers - apart}


def _provider(distributions: list[str]) -> str:
    """The one of a namespace's distributions that is declared, if one is."""
    named = [name.lower().replace("_", "-") for name in distributions]
    extras = declared(name for extra in PROJECT["optional-dependencies"].values() for name in extra)
    return next((name for name in named if name in extras), named[0])


def test_every_library_that_is_imported_is_declared_and_the_other_way_round() -> None:
    extras = PROJECT["optional-dependencies"]
    server = declared(extras["server"]) | declared(PROJECT["dependencies"])
    found = imported(ROOT / "metrics_app", apart=FRAMEWORKS - {"aiohttp"})
    assert found - server - declared(name for extra in OPTIONAL for name in extras[extra]) == set()
    assert server - found - UNIMPORTED == set()


def test_a_worker_that_does_not_use_an_optional_library_does_not_load_it() -> None:
    script = f"import sys, metrics_app.app, metrics_app.cli.main; print(*({set(OPTIONAL.values())} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_the_client_imports_what_the_core_declares_and_nothing_more() -> None:
    assert imported(ROOT / "metrics_app" / "client", apart=FRAMEWORKS) <= declared(PROJECT["dependencies"])


def wheel_of(source: Path, out: Path) -> set[str]:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(out), str(source)], check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_a_deleted_module_is_in_no_later_wheel_and_building_leaves_nothing_behind(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "metrics_app", source / "metrics_app", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    before = sorted(path.name for path in source.iterdir())
    (source / "metrics_app" / "gone.py").write_text('"""Deleted soon."""\n')
    first = wheel_of(source, tmp_path / "first")
    (source / "metrics_app" / "gone.py").unlink()
    second = wheel_of(source, tmp_path / "second")
    assert first - second == {"metrics_app/gone.py"}
    assert {"metrics_app/py.typed", "metrics_app/kafka/kafka.lock"} <= second
    assert sorted(path.name for path in source.iterdir()) == before
