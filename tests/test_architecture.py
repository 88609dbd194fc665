"""The direction of imports is the architecture: what may know of what."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "metrics_app"

VOCABULARY = {"clocks", "errors", "holdings", "process", "settings", "telemetry"}
# room -> what of ours it may import; a room always may import itself
ALLOWED = {
    "errors": set(),
    "process": set(),
    "settings": {"errors"},
    "telemetry": set(),
    "clocks": {"telemetry"},
    "holdings": {"errors", "stats"},
    "logs": {"settings"},
    "stats": {"errors"},
    "wire": {"errors", "stats"},
    "http": {"errors", "settings", "telemetry"},
    "kafka": {"errors", "faust_runtime", "settings"},
    "faust_runtime": {"process"},
    "client": {"errors", "stats", "wire"},
    "collector": VOCABULARY - {"holdings"} | {"faust_runtime", "http", "kafka", "wire"},
    "aggregator": VOCABULARY | {"faust_runtime", "http", "kafka", "stats", "wire"},
    "query": VOCABULARY | {"http", "stats", "wire"},
    "verify": {"cli", "errors", "kafka", "settings"},
    "app": VOCABULARY | {"aggregator", "collector", "faust_runtime", "http", "kafka", "query"},
    "serving": {"app", "errors", "kafka", "logs", "process", "settings"},
    "worker": {"app", "kafka", "settings"},
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
