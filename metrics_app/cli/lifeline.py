"""Child processes that do not outlive us, not even when we are killed with SIGKILL.

Linux only (`PR_SET_PDEATHSIG`); elsewhere a killed parent leaves its children behind, and the next start says so.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def dies_with_parent() -> Callable[[], None] | None:
    """A `preexec_fn` that makes the kernel kill the child as soon as the thread that started it has ended.

    Start such children from the main thread: the kernel watches the thread that forked. None where there is no prctl.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(
        None, use_errno=True
    ).prctl  # looked up before the fork: the child must not take the import lock
    parent = os.getpid()

    def watch_parent() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return watch_parent
