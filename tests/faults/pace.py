"""How much slower than on a machine of its own this process runs; bounds of time are stretched by that.

A promise in seconds is about a machine that gives its processes a core when they want one. On one that has other work
to do a test would say more of that work than of the product. The kernel tells how long a process has waited for a core
beside how long it had one. On an otherwise idle machine nothing is stretched. It does not tell who had the core
meanwhile: a product that takes all there is would stretch its own bounds, so they are stretched tenfold at most, and by
how much is printed.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

SCHEDSTAT = Path("/proc/self/schedstat")  # nanoseconds with a core, nanoseconds waiting for one, turns
ALONE = 1.5  # (with + waiting) / with, under the load of these tests on two idle cores, and some more
MOST = 10.0


class Spent(NamedTuple):
    """Nanoseconds of the main thread with a core, and waiting for one."""

    running: int = 0
    waiting: int = 0


_began = Spent()


def begin() -> None:
    """What is measured is from now on."""
    global _began
    _began = _spent()


def slowness() -> float:
    """From 1 to MOST; 1 where the kernel does not tell."""
    now = _spent()
    running, waiting = now.running - _began.running, now.waiting - _began.waiting
    return min(MOST, max(1.0, (running + waiting) / running / ALONE)) if running > 0 else 1.0


def stretched(seconds: float) -> float:
    """A bound as it is to be on this machine now."""
    return seconds * slowness()


def _spent() -> Spent:
    try:
        running, waiting, _ = SCHEDSTAT.read_text().split()
    except OSError:
        return Spent()
    return Spent(int(running), int(waiting))
