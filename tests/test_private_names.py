"""Private names of libraries are used in one folder, and ADR 1 lists all of them: what an upgrade has to look at.

Tests use no private names of the product, so that its inside may change while its guarantees stay tested.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.private_names import (
    ADR,
    BEGIN,
    END,
    FOLDER,
    PACKAGE,
    Use,
    names_of_bases,
    private_names_of_product,
    table,
    uses_in,
    uses_of,
    uses_of_product_in,
)

ELSEWHERE = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.parent != FOLDER and path.name not in ("__main__.py", "worker.py")
]


TESTS = Path(__file__).parent
# what else may use private names of the product, by path below tests/, and why
MAY_USE_THEM = {
    "sim/test_mutants.py": "a mutant is a change of the inside",
    "faults/mutants.py": "a mutant is a change of the inside",
    "faults/crashing.py": "it ends the process between single steps of the inside",
    "aggregator/test_agent.py": "a bug in the fold, which no record causes, is patched into it",
    "faust_runtime/test_small_requests.py": "two ways of a request are compared by what they leave in the collector",
    "fuzz/targets.py": "each decoder is a target of its own, so that its inputs reach it unchanged",
    "fuzz/test_found.py": "the input that was found goes to the decoder that it broke",
    "limits.py": "it lists every limit, also one that only its module uses",
}
# private names of Faust, aiokafka and asyncio, which the product overrides, imports or has named alike
OF_LIBRARIES = {
    "_Metadata",
    "_create_worker_consumer",
    "_get_copartitioned_groups",
    "_new_consumer_thread",
    "_new_offset",
    "_read_offset",
    "_reader",
    "_seek",
    "_stopped",
    "_when",
}


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


@pytest.mark.parametrize(
    ("source", "uses"),
    [
        ("from metrics_app.serving import _let_go", [Use(1, "_let_go", "imported")]),
        ("def test(it):\n    assert it._made == 1", [Use(2, "_made", "read")]),
        ("def test(patch, it):\n    patch.setattr(it, '_made', 1)", [Use(2, "_made", "by name")]),
        ("def test(patch):\n    patch.setattr('metrics_app.it._made', 1)", [Use(2, "_made", "by name")]),
        ("setattr(it, '_made', 1)", [Use(1, "_made", "by name")]),
        ("class Fake:\n    def f(self):\n        self._made = self._made", []),
        ("def test(it):\n    assert it._of_a_library == 1", []),
    ],
)
def test_a_use_of_the_product_s_inside_is_found(source, uses):
    assert uses_of_product_in(source, {"_made"}) == uses


def test_tests_use_no_private_names_of_the_product():
    of_product, found = private_names_of_product() - OF_LIBRARIES, {}
    for path in sorted(TESTS.rglob("*.py")):
        if uses := uses_of_product_in(path.read_text(), of_product):
            found[str(path.relative_to(TESTS))] = [f"{use.line} {use.name} is {use.how}" for use in uses]
    assert {path: uses for path, uses in found.items() if path not in MAY_USE_THEM} == {}
    assert MAY_USE_THEM.keys() <= found.keys(), "an exception that is not needed any more"
