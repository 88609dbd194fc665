"""Ends the process at once, with one line that says why.

That is safe at any point: what is not flushed is replayed (docs/adr/0002). Whoever supervises the process reads from
the exit code what to do next:

0   stopped as asked, drained: nothing to do
1   a bug in a command, with a traceback
2   EXIT_SETTINGS: a setting is unusable: change it; the command line has said which (`cli.main`)
3   EXIT_UNUSABLE: something around the process must be changed first; a new start alone will not help
70  EXIT_CRASHED: a new start will do; also after a stop that failed or was not over in time

Whatever else ends it (a signal, the kernel) is to be treated as 70.
"""

from __future__ import annotations

import logging
import os
import threading
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
