"""File descriptors: as many as this process may have, and some that no client gets.

A process that has none left cannot open a table of RocksDB, connect to Kafka, or accept; the usual soft limit of 1,024
is for programs that use select().
"""

from __future__ import annotations

import logging
import resource
from contextlib import suppress

logger = logging.getLogger(__name__)

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
