"""What happens to clients when their process forks or ends."""

from __future__ import annotations

import atexit
import os
import weakref
from time import monotonic
from typing import Protocol


class Alive(Protocol):
    """A client, as far as its process is concerned."""

    def begin_again(self) -> None:
        """A fork's child: it has the parent's memory, but none of its threads."""

    def stop(self, within_s: float) -> None:
        """Begins to end; returns at once."""

    def join(self, timeout_s: float) -> None:
        """Waits for the end."""

    @property
    def exit_timeout_s(self) -> float:
        """How long it may hold up the end of the process."""


_clients: weakref.WeakSet[Alive] = weakref.WeakSet()


def register(client: Alive) -> None:
    """Has a client looked after for as long as it exists."""
    _clients.add(client)


@atexit.register
def _end() -> None:
    clients = list(_clients)
    until = monotonic()
    for client in clients:
        until = max(until, monotonic() + client.exit_timeout_s)
        client.stop(client.exit_timeout_s)
    for client in clients:
        client.join(until - monotonic())


def _begin_again() -> None:
    for client in list(_clients):
        client.begin_again()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_again)
