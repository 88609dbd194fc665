"""What happens to clients when their process forks or ends."""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from time import monotonic
from typing import Protocol

from metrics_app.client import children, signals

logger = logging.getLogger("metrics_app.client")


class Alive(Protocol):
    """A client, as far as its process is concerned."""

    def begin_again(self) -> None:
        """A fork's child: it has the parent's memory, but none of its threads."""

    def stop(self, within_s: float) -> None:
        """Begins to end; returns at once."""

    def join(self, timeout_s: float) -> None:
        """Waits for the end."""

    def hurry(self, within_s: float) -> None:
        """Begins to send all there is, because the process may end; returns at once."""

    def settle(self, until: float) -> None:
        """Waits for what `hurry` began."""

    @property
    def exit_timeout_s(self) -> float:
        """How long it may hold up the end of the process."""

    @property
    def heeds_signals(self) -> bool:
        """Whether it wants to be told of signals that end the process."""


_clients: weakref.WeakSet[Alive] = weakref.WeakSet()
_guarded = False


def register(client: Alive) -> None:
    """Has a client looked after for as long as it exists."""
    _clients.add(client)
    children.watch(_end)
    if client.heeds_signals:
        signals.guard(_last_words)


def look_out() -> None:
    """Heeds signals whatever handlers were set since a client was made, once; to be called with a process's values."""
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
    """A signal is about to end the process, or to have somebody else end it: it may also live on."""
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
    children.watch(_end)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_again)
