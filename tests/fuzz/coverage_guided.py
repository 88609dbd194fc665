"""Runs one target under atheris, which looks for inputs that run code no other has run.

Called by `__main__`, as a process: `python -m tests.fuzz.coverage_guided NAME`; further arguments are libFuzzer's.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["metrics_app"], enable_loader_override=False):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
