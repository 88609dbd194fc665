"""Private names of libraries are used in one folder, and ADR 1 lists all of them: what an upgrade has to look at."""

from __future__ import annotations

import threading

import pytest

from tests.private_names import ADR, BEGIN, END, FOLDER, PACKAGE, Use, names_of_bases, table, uses_in, uses_of

ELSEWHERE = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.parent != FOLDER and path.name not in ("__main__.py", "worker.py")
]


class Ours(threading.Thread):
    """A class of ours with a library's base, which has a method `_bootstrap` and gives its objects a `_target`."""


@pytest.mark.parametrize(
    ("source", "uses"),
    [
        ("from library._core import thing", [Use(1, "_core", "imported")]),
        ("from library import _thing", [Use(1, "_thing", "imported")]),
        ("import library._core", [Use(1, "_core", "imported")]),
        ("def f(it):\n    return it._made", [Use(2, "_made", "read")]),
        ("def f(it):\n    it.part._made = 2", [Use(2, "_made", "read")]),
        ("def f(it):\n    return getattr(it, '_made')", [Use(2, "_made", "by name")]),
        ("class Ours(Thread):\n    def _bootstrap(self): ...", [Use(2, "_bootstrap", "overridden")]),
        ("class Ours(Thread):\n    def f(self):\n        return self._target", [Use(3, "_target", "read")]),
        ("class Ours(Thread):\n    def f(self):\n        super()._bootstrap()", [Use(3, "_bootstrap", "read")]),
        ("class Ours(Thread):\n    def f(self):\n        self._own = self._own_too", []),
        ("_ours = 1\ndef f(it):\n    return it._replace(a=1)", []),
        ("import os\nos._exit(1)", []),
    ],
)
def test_a_use_is_found(source, uses):
    assert uses_in(source, [Ours]) == uses


def test_names_that_a_base_gives_its_objects_are_its_own():
    assert {"_bootstrap", "_target"} <= names_of_bases(Ours)


@pytest.mark.parametrize("path", ELSEWHERE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_private_names_of_libraries_are_used_in_one_folder(path):
    found = [f"{path.relative_to(PACKAGE)}:{use.line} {use.name} is {use.how}" for use in uses_of(path)]
    assert not found, "move it to metrics_app/faust_runtime/, behind a public name"


def test_the_decision_lists_all_of_them():
    """After a change: `make docs`."""
    listed = ADR.read_text().partition(BEGIN)[2].partition(END)[0]
    assert listed == table()
