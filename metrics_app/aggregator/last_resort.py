"""Ends the process at once, with one line that says why.

That is safe at any point: what is not flushed is replayed (docs/adr/0002). Whoever supervises the process starts it
again.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import NoReturn

EXIT_UNUSABLE = 3  # something around the process must be changed first
EXIT_CRASHED = 70  # EX_SOFTWARE: a new start will do

LOG_S = 5.0

logger = logging.getLogger(__name__)


def leave(code: int, why: str) -> NoReturn:
    """Never: the process has ended."""
    guard = threading.Timer(LOG_S, os._exit, (code,))  # a log that nobody reads must not keep us
    guard.daemon = True
    guard.start()
    logger.critical("%s", why)
    logging.shutdown()
    os._exit(code)
