"""`python -m tests.faults.failing <arguments>`: metrics-app in which a step raises, once, when a file names it.

The file is named by FAIL_FILE; it holds a step and which of its next calls is to raise. Then the file is deleted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metrics_app.__main__ import run
from metrics_app.aggregator import fencing, row
from metrics_app.aggregator.store import HourStore

FAIL_FILE = "FAIL_FILE"
ENCODE, READ, WRITE, SEAL = "encode", "read", "write", "seal"
STEPS = {
    ENCODE: (row, "encode_row"),
    READ: (HourStore, "read_all"),
    WRITE: (HourStore, "write"),
    SEAL: (fencing, "closed_before"),
}


_calls: Counter[str] = Counter()


def fail(step: str) -> None:
    """Raises if the file says so."""
    file = Path(os.environ[FAIL_FILE])
    if not file.exists():
        return
    wanted, nth = file.read_text().split()
    _calls[step] += 1
    if step != wanted or _calls[step] < int(nth):
        return
    file.unlink()
    # RocksDB's errors are plain exceptions
    raise Exception("IO error: While open a file for random read: 000012.sst: Too many open files")


def install(owner: Any, name: str, step: str) -> None:
    """Makes a function fail when the file says so."""
    function: Callable[..., Any] = getattr(owner, name)

    def called(*args: Any, **named: Any) -> Any:
        fail(step)
        return function(*args, **named)

    setattr(owner, name, called)


if __name__ == "__main__":
    for step, (owner, name) in STEPS.items():
        install(owner, name, step)
    run()
