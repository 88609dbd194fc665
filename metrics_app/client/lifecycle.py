"""Looks after clients when their process forks or ends.

Called by `client`.

Processes that end without the interpreter's exit handlers: those of multiprocessing and Celery end by `os._exit`.

They run finalizers of their own instead. These must be registered in the child, for multiprocessing forgets earlier
ones when it sets up a child. Nothing is imported for it; where neither is in use, there is nothing to do.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from metrics_app.client import signals

logger = logging.getLogger("metrics_app.client")


class Alive(Protocol):
    """A client, as far as its process is concerned."""

    def begin_again(self) -> None:
        """Resets the client in the child of a fork, which has the parent's memory but none of its threads."""

    def stop(self, within_s: float) -> None:
        """Starts to end; returns at once."""

    def join(self, timeout_s: float) -> None:
        """Waits until the client has ended."""

    def hurry(self, within_s: float) -> None:
        """Starts to send all waiting values because the process may end; returns at once."""

    def settle(self, until: float) -> None:
        """Waits until the sending that `hurry` started has ended."""

    @property
    def exit_timeout_s(self) -> float:
        """Longest time, in seconds, that the client delays the end of the process."""

    @property
    def heeds_signals(self) -> bool:
        """Whether the client sends its values when a signal is about to end the process."""


_clients: weakref.WeakSet[Alive] = weakref.WeakSet()
_guarded = False


def register(client: Alive) -> None:
    """Registers a client for forks, signals and the end of the process, for as long as it exists."""
    _clients.add(client)
    watch(_end)
    if client.heeds_signals:
        signals.guard(_last_words)


def look_out() -> None:
    """Guards signals once more after a server has set its own handlers; called when a process records values."""
    global _guarded
    if not _guarded and any(client.heeds_signals for client in _clients):
        _guarded = signals.guard(_last_words)


@atexit.register
def _end() -> None:
    clients = list(_clients)
    until = monotonic()
    for client in clients:
        until = max(until, monotonic() + client.exit_timeout_s)
        client.stop(client.exit_timeout_s)
    for client in clients:
        client.join(until - monotonic())


def _last_words() -> None:
    """Sends all waiting values because a signal is about to end the process; the process may also live on."""
    try:
        clients = [client for client in _clients if client.heeds_signals]
        until = monotonic()
        for client in clients:
            until = max(until, monotonic() + client.exit_timeout_s)
            client.hurry(client.exit_timeout_s)
        for client in clients:
            client.settle(until)
    except Exception:
        logger.exception("a bug in the client; values may be lost")


def _begin_again() -> None:
    global _guarded
    _guarded = False  # a server may set other handlers in its children
    for client in list(_clients):
        client.begin_again()
    watch(_end)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_again)


_LATE = -100  # after the finalizers of others, in which values may be recorded


class _Anchor:
    """What multiprocessing holds on to weakly."""


_anchor = _Anchor()


_watched: set[str] = set()
_finalizer: Any = None


def watch(end: Callable[[], None]) -> None:
    """Calls `end` when this process, or a child that multiprocessing or Celery forks from it, ends as a child.

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
    """Calls `end` after the other threads: multiprocessing joins them only after finalizers, so a new thread waits."""
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
