"""Signals that end a process: the client sends what it has first, then the signal takes its usual effect.

Called by `engine` and `lifecycle`.

Handlers are Python's, so they run in the main thread between two of its steps, and are set there alone. One that was
set before ours is called after ours. One that is set after ours is its owner's business; where it puts ours back and
raises the signal again, as uvicorn does, ours has its turn then.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from metrics_app.client import asgi

# what ends a process unless it is handled; SIGINT raises KeyboardInterrupt, which runs the exit handlers anyway
_DEADLY = [number for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT") if (number := getattr(signal, name, None))]
# what the handlers of servers are for; those of other signals mean anything
_HANDLED = [signal.SIGTERM]


class _Undisturbed:
    """A part of the main thread's work in which our handlers only note that the signal came; other threads pass."""

    def __init__(self) -> None:
        self.depth = 0
        self.late: list[int] = []

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self.depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            self.depth -= 1
            while self.late and not self.depth:
                signal.raise_signal(self.late.pop(0))


_section = _Undisturbed()


def undisturbed() -> _Undisturbed:
    """A context that delays our signal handlers in the main thread until it is left."""
    return _section


class _Handler:
    """Ours: does its work, then what was there before."""

    def __init__(self, previous: Any, last_words: Callable[[], None]) -> None:
        self.previous = previous
        self.last_words = last_words

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if _section.depth:
            _section.late.append(number)
        elif (gevent := sys.modules.get("gevent")) and gevent.getcurrent() is gevent.get_hub():
            gevent.spawn(self._act, number, frame)  # its hub, in which nothing can be waited for
        else:
            self._act(number, frame)

    def _act(self, number: int, frame: FrameType | None) -> None:
        self.last_words()
        if callable(self.previous):
            self.previous(number, frame)
            return
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        signal.signal(number, self)  # still here: the first process of a container does not end so


def guard(last_words: Callable[[], None]) -> bool:
    """Calls `last_words` when a signal is about to end the process; False in a thread that cannot set handlers.

    Signals that are ignored stay so, and handlers that Python knows nothing of stay as they are.

    Args:
        last_words: must not raise.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    for number in _DEADLY:
        present = signal.getsignal(number)
        is_handled = callable(present) and number in _HANDLED and not isinstance(present, _Handler)
        if present == signal.SIG_DFL or is_handled:
            with contextlib.suppress(ValueError):  # a main thread, but of an interpreter within another
                signal.signal(number, _Handler(present, last_words))
                asgi.follow(present, last_words)
    return True
