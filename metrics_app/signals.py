"""Signals, heard by a thread of its own: the main thread may be blocked, and then Python's own handlers do not run.

The kernel's side of a handler writes the number of the signal to a socket, whatever any thread of ours is doing
(`signal.set_wakeup_fd`); the thread reads it there.
"""

from __future__ import annotations

import faulthandler
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU, signal.SIGPWR)
SHOWS = (signal.SIGUSR1, signal.SIGUSR2)

_ends: list[socket.socket] = []  # kept open as long as the process lives


def listen(on_stop: Callable[[str], None], on_hangup: Callable[[], None] | None) -> None:
    """Calls these in a thread of its own, from now on; to be called in the main thread.

    No signal that has a default ends the process without a word: SIGUSR1 and SIGUSR2 print where every thread is.

    Args:
        on_stop: told the name of each signal that asks the process to stop.
        on_hangup: what SIGHUP is for; None: it asks to stop as well, but where it is ignored (nohup).
    """
    receiving, sending = socket.socketpair()
    sending.setblocking(False)
    _ends[:] = receiving, sending
    acts: dict[int, Callable[[], None]] = {number: partial(on_stop, number.name) for number in STOPS}
    if on_hangup is not None:
        acts[signal.SIGHUP] = on_hangup
    elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        acts[signal.SIGHUP] = partial(on_stop, signal.SIGHUP.name)
    signal.set_wakeup_fd(sending.fileno(), warn_on_full_buffer=False)
    for number in acts:
        signal.signal(number, lambda *_: None)
    for number in SHOWS:
        faulthandler.register(number, all_threads=True)
    threading.Thread(target=_hear, args=(receiving, acts), name="signals", daemon=True).start()


def _hear(receiving: socket.socket, acts: dict[int, Callable[[], None]]) -> None:
    while numbers := receiving.recv(64):
        for number in numbers:
            if number in acts:
                acts[number]()
