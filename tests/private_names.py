"""Finds the private names of libraries that the product uses; `make docs` writes those of one folder into ADR 1.

A name is private when it begins with one underscore. Those of the product that a test uses are found as well: a test
that needs them is one of the code as it is written, and not of what it promises.

Called by `tests/test_private_names.py`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parent.parent / "metrics_app"
FOLDER = PACKAGE / "faust_runtime"
ADR = PACKAGE.parent / "docs" / "adr" / "0001-faust-as-plumbing.md"
BEGIN, END = "<!-- private names: begin -->\n", "<!-- private names: end -->\n"

# documented functions and members in spite of their underscore
PUBLIC = {"_exit", "_current_frames", "_replace", "_asdict", "_fields", "_make"}
BY_NAME = {"getattr", "setattr", "hasattr", "delattr"}


class Use(NamedTuple):
    """One place where a private name of a library is used. `how`: imported, overridden, read or by name."""

    line: int
    name: str
    how: str


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC and name != "_"


def uses_in(source: str, classes: Iterable[type] = ()) -> list[Use]:
    """The uses in a module's source; `classes`: those that it defines, whose bases tell what is a library's."""
    tree = ast.parse(source)
    of_bases = {kind.__name__: names_of_bases(kind) for kind in classes}
    found = {*_imported(tree), *_of_others(tree), *_by_name(tree)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= set(_inherited(node, of_bases.get(node.name, set())))
    return sorted(found)


def names_of_bases(kind: type) -> set[str]:
    """Private names that the bases of a class have which are not ours."""
    names: set[str] = set()
    for base in kind.__mro__[1:]:
        if not base.__module__.startswith(("metrics_app", "tests", "builtins")):
            names |= {name for name in vars(base) if is_private(name)}
            names |= set(re.findall(r"\bself\.(_[a-zA-Z]\w*)", _source_of(base)))
    return names


def _source_of(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # compiled
        return ""


def _imported(tree: ast.Module) -> Iterator[Use]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("metrics_app"):
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (Use(node.lineno, part, "imported") for part in parts if is_private(part))
        elif isinstance(node, ast.Import):
            parts = [part for alias in node.names for part in alias.name.split(".")]
            yield from (Use(node.lineno, part, "imported") for part in parts if is_private(part))


def _of_others(tree: ast.Module) -> Iterator[Use]:
    """Private attributes of something that is neither `self` nor made in this module."""
    ours = _defined(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or _is_self(node.value):
            continue
        if is_private(node.attr) and node.attr not in ours:
            yield Use(node.lineno, node.attr, "read")


def _inherited(kind: ast.ClassDef, of_bases: set[str]) -> Iterator[Use]:
    for node in ast.walk(kind):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in of_bases:
            yield Use(node.lineno, node.name, "overridden")
        elif isinstance(node, ast.Attribute) and node.attr in of_bases and _is_self(node.value):
            yield Use(node.lineno, node.attr, "read")


def _by_name(tree: ast.Module) -> Iterator[Use]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BY_NAME:
            name = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else None
            if isinstance(name, str) and is_private(name):
                yield Use(node.lineno, name, "by name")


def _is_self(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):  # super() and cast(Any, self)
        return isinstance(value.func, ast.Name) and (
            value.func.id == "super" or (value.func.id == "cast" and _is_self(value.args[1]))
        )
    return isinstance(value, ast.Name) and value.id in {"self", "cls"}


def _defined(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            names.add(node.attr)
    return names


def uses_of(path: Path) -> list[Use]:
    """The uses in a module of the product."""
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    classes = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == name]
    return uses_in(path.read_text(), classes)


def private_names_of_product() -> set[str]:
    """All that are defined anywhere in the package."""
    trees = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]
    return {name for tree in trees for name in _defined(tree) if is_private(name)}


def uses_of_product_in(source: str, of_product: set[str]) -> list[Use]:
    """Uses of these private names in a test that does not define them itself: imported, read, or patched by name."""
    tree = ast.parse(source)
    found = {use for use in (*_of_others(tree), *_patched(tree)) if use.name in of_product}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("metrics_app"):
            found |= {Use(node.lineno, each.name, "imported") for each in node.names if is_private(each.name)}
    return sorted(found)


def _patched(tree: ast.Module) -> Iterator[Use]:
    """Names that `setattr` and its like get: the function, that of a MonkeyPatch, and `mock.patch.object`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and re.search(r"(attr|patch|patch\.object)$", ast.unparse(node.func)):
            texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            yield from (Use(node.lineno, text.rpartition(".")[2], "by name") for text in texts)


def table() -> str:
    """The names used in the one folder where they may be, in Markdown: name, how, file."""
    rows: dict[tuple[str, str], set[str]] = {}
    for path in sorted(FOLDER.glob("*.py")):
        for use in uses_of(path):
            rows.setdefault((path.name, use.name), set()).add(use.how)
    lines = [f"| `{file}` | `{name}` | {', '.join(sorted(how))} |\n" for (file, name), how in sorted(rows.items())]
    return "".join(["| file | name | how |\n", "| --- | --- | --- |\n", *lines])


def write() -> None:
    """Writes the table into the ADR."""
    text = ADR.read_text()
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    ADR.write_text(before + BEGIN + table() + END + after)


if __name__ == "__main__":
    write()
