"""The life of this process outside the event loop: how it ends, which signals it hears, how many files it may open.

Called by `serving`, which runs an app, and by whatever finds that the process must end now.

`leave` ends the process at once, with one line that says why. That is safe at any point: what is not flushed is
replayed (docs/adr/0002). Whoever supervises the process reads from the exit code what to do next:

    0   stopped as asked, drained: nothing to do
    1   a bug in a command, with a traceback
    2   EXIT_SETTINGS: a setting is unusable: change it; the command line has said which (`cli.main`)
    3   EXIT_UNUSABLE: something around the process must be changed first; a new start alone will not help
    70  EXIT_CRASHED: a new start will do; also after a stop that failed or was not over in time

Any other end (a signal, the kernel) is to be treated as 70.

`listen` hears signals in a thread of its own: the main thread may be blocked, and then Python's handlers do not run.
The kernel's side of a handler writes the number of the signal to a socket (`signal.set_wakeup_fd`); the thread reads it
there.

`raise_limit` asks for as many file descriptors as this process may have; some of them no client gets.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NoReturn

EXIT_SETTINGS = 2  # a setting must be changed first
EXIT_UNUSABLE = 3  # something around the process must be changed first
EXIT_CRASHED = 70  # EX_SOFTWARE: a new start will do

LOG_S = 2.0

logger = logging.getLogger(__name__)


def leave(code: int, why: str) -> NoReturn:
    """Never: the process has ended."""
    guard = threading.Timer(LOG_S, os._exit, (code,))  # a log that nobody reads must not keep us
    guard.daemon = True
    try:
        guard.start()
        logger.log(logging.CRITICAL if code else logging.INFO, "%s", why)
        logging.shutdown()
    finally:
        os._exit(code)


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


MOST = 1 << 20  # where there is no limit
KEPT_SHARE = 0.25  # of all, for files, Kafka and other workers
KEPT_LEAST = 64


def raise_limit() -> None:
    """Raises the soft limit as far as the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < highest:
        with suppress(ValueError, OSError):  # some systems have a lower limit of their own: then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))


def for_clients() -> int:
    """The number from which on descriptors are not for clients: the kernel gives the lowest that is free."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MOST if soft == resource.RLIM_INFINITY else soft
    return limit - min(limit // 2, max(KEPT_LEAST, int(KEPT_SHARE * limit)))


def check(connections: int) -> None:
    """Says so when there is no room for that many connections."""
    if (room := for_clients()) < connections:
        logger.warning(
            "the limit of open files (ulimit -Hn) leaves room for fewer than %s connections, of the %s that "
            "METRICS_MAX_CONNECTIONS allows; those beyond get 503",
            f"{room:,}",
            f"{connections:,}",
        )
