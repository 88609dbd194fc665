"""Ends the process at once, with one line that says why.

That is safe at any point: what is not flushed is replayed (docs/adr/0002). Whoever supervises the process starts it again.
"""

from __future__ import annotations

import logging
import os
from typing import NoReturn

EXIT_UNUSABLE = 3  # something around the process must be changed first
EXIT_CRASHED = 70  # EX_SOFTWARE: a new start will do

logger = logging.getLogger(__name__)


def leave(code: int, why: str) -> NoReturn:
    """Never: the process has ended."""
    logger.critical("%s", why)
    logging.shutdown()
    os._exit(code)
