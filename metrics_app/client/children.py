"""Processes that end without the interpreter's exit handlers: those of multiprocessing and Celery end by `os._exit`.

They run finalizers of their own instead. These must be registered in the child, for multiprocessing forgets earlier
ones when it sets up a child. Nothing is imported for it; where neither is in use, there is nothing to do.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

_LATE = -100  # after the finalizers of others, in which values may be recorded


class _Anchor:
    """What multiprocessing holds on to weakly."""


_anchor = _Anchor()


_watched: set[str] = set()
_finalizer: Any = None


def watch(end: Callable[[], None]) -> None:
    """Has `end` called when this process, or one that multiprocessing is just making of it, ends as a child.

    It is to be called when a client is made, and first thing in a fork's child. It does nothing twice.
    """
    util: Any = sys.modules.get("multiprocessing.util")
    process: Any = sys.modules.get("multiprocessing.process")
    if util is not None and "multiprocessing" not in _watched:
        _watched.add("multiprocessing")
        util.register_after_fork(_anchor, lambda anchor: _finalize(util, end))
    if util is not None and process is not None and process.parent_process() is not None:  # set up already
        _finalize(util, end)
    celery: Any = sys.modules.get("celery.signals")
    if celery is not None and "celery" not in _watched:
        _watched.add("celery")
        celery.worker_process_shutdown.connect(_Receiver(end), weak=False)


def _finalize(util: Any, end: Callable[[], None]) -> None:
    global _finalizer
    if _finalizer is None or not _finalizer.still_active():  # multiprocessing has forgotten that of the parent
        _finalizer = util.Finalize(None, _end_after_threads, args=(end,), exitpriority=_LATE)


class _Receiver:
    """What Celery calls, with arguments of which none matters."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end

    def __call__(self, **facts: Any) -> None:
        self._end()


def _end_after_threads(end: Callable[[], None]) -> None:
    """Multiprocessing waits for the threads of a child only after its finalizers, so one more of them has to wait."""
    here = (threading.main_thread(), threading.current_thread())
    others = [thread for thread in threading.enumerate() if not thread.daemon and thread not in here]
    if not others:
        end()
        return

    def wait() -> None:
        for thread in others:
            thread.join()
        end()

    try:
        threading.Thread(target=wait, name="metrics-end", daemon=False).start()
    except RuntimeError:
        end()
