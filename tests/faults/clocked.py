"""`python -m tests.faults.clocked <arguments>`: metrics-app whose own clock is wrong by the seconds that a file says.

The file is named by CLOCK_FILE and read at each look at the clock, so that a test can step the clock of a process that
runs. Without the file the clock is right. The monotonic clock always is, as that of the kernel when a clock is stepped.
"""

from __future__ import annotations

import os
import runpy
import time
from collections.abc import Callable
from pathlib import Path

CLOCK_FILE = "CLOCK_FILE"


def set_clock(file: Path, off_s: float) -> None:
    """Steps the clock of the process that reads this file."""
    new = file.with_suffix(".new")
    new.write_text(str(off_s))
    new.replace(file)


def shifted(clock: Callable[[], float], file: Path) -> Callable[[], float]:
    """A clock in seconds that is wrong by what the file says."""

    def wrong() -> float:
        try:
            return clock() + float(file.read_text())
        except FileNotFoundError:
            return clock()

    return wrong


if __name__ == "__main__":
    time.time = shifted(time.time, Path(os.environ[CLOCK_FILE]))
    time.time_ns = lambda: int(time.time() * 1e9)
    runpy.run_module("metrics_app", run_name="__main__")
