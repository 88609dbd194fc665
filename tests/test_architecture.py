"""The direction of imports is the architecture: what may know of what."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "metrics_app"

VOCABULARY = {"accepted", "clocks", "errors", "holdings", "process", "settings", "telemetry", "turns"}
# room -> what of ours it may import; a room always may import itself
ALLOWED = {
    "accepted": set(),
    "credentials": set(),
    "errors": set(),
    "process": set(),
    "settings": {"accepted"},
    "configuration": {"errors", "settings"},
    "telemetry": set(),
    "turns": set(),
    "clocks": {"telemetry"},
    "holdings": {"errors", "stats"},
    "logs": {"settings"},
    "stats": {"errors"},
    "wire": {"errors", "stats"},
    "http": {"accepted", "errors", "settings", "telemetry"},
    "kafka": {"errors", "faust_runtime", "settings"},
    "faust_runtime": {"http", "process", "turns"},
    "sources": {"errors", "wire"},
    "client": {"credentials", "errors", "stats", "wire"},
    "collector": VOCABULARY - {"holdings"} | {"faust_runtime", "http", "kafka", "sources", "wire"},
    "aggregator": VOCABULARY | {"faust_runtime", "http", "kafka", "stats", "wire"},
    "query": VOCABULARY | {"http", "stats", "wire"},
    "archive": {"aggregator", "errors", "holdings", "kafka", "settings", "stats", "wire"},
    "ui": {"errors", "http"},
    "verify": {"cli", "credentials", "errors", "kafka", "settings"},
    "system": {"errors", "holdings", "http", "settings", "telemetry"},
    "app": VOCABULARY | {"aggregator", "collector", "faust_runtime", "http", "kafka", "query", "system", "ui"},
    "serving": {"app", "errors", "kafka", "logs", "process", "settings"},
    "worker": {"app", "configuration", "kafka"},
}


def parts_imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("metrics_app.")}


def files_of(part: str) -> list[Path]:
    folder = PACKAGE / part
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_what_it_may(part):
    for path in files_of(part):
        surplus = parts_imported(path) - ALLOWED[part] - {part}
        assert not surplus, f"{path.relative_to(PACKAGE)} imports {sorted(surplus)}"


def test_every_part_of_the_package_has_its_rule():
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {"__init__", "__main__", "cli"} == set(ALLOWED)


@pytest.mark.parametrize("part", ["stats", "wire"])
def test_the_pure_parts_read_no_clock_and_touch_nothing_outside(part):
    forbidden = {"asyncio", "time", "os", "socket", "pathlib", "random", "faust", "aiohttp", "logging", "subprocess"}
    for path in files_of(part):
        tree = ast.parse(path.read_text())
        found = {
            alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
        found |= {
            node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
        }
        assert not found & forbidden, f"{path.relative_to(PACKAGE)} imports {sorted(found & forbidden)}"


MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name not in ("__init__.py", "__main__.py")]
# what an app imports: `from metrics_app.client.asgi import TimingMiddleware`, and from `wsgi` the same
NAMED_ALIKE = {"TimingMiddleware"}


def test_each_class_has_a_name_of_its_own():
    found = Counter(
        node.name
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert {name for name, count in found.items() if count > 1} == NAMED_ALIKE


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_says_what_it_is_for_and_who_calls_it_and_fits_on_a_few_screens(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    purpose, _, rest = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")
    callers = re.match(r"Called by (.+?)(?:\.(?=\s|$)|;)", rest, re.DOTALL)
    assert purpose.endswith(".")
    assert callers, "the second paragraph begins with `Called by`"
    named = re.findall(r"`([\w.]+)`", callers[1])
    missing = [name for name in named if not _is_module(name, path)]
    assert not missing


def _is_module(name: str, path: Path) -> bool:
    """Whether it is one of the same room, of another one with its name before, or a room."""
    places = (path.parent, PACKAGE)
    parts = Path(*name.split("."))
    return any((place / parts).with_suffix(".py").exists() or (place / parts).is_dir() for place in places)
