"""Bounds how long an aiokafka client waits for a broker that takes connections and says nothing.

Called by `kafka.connections`.

aiokafka connects to one broker at a time, chosen at random, for a whole request timeout each, and what is meant for all
others waits meanwhile. A broker that is frozen, or whose machine has lost its power, so cost seconds again and again.
"""

from __future__ import annotations

import asyncio
from typing import Any

FIRST_S = 0.5
LAST_S = 8.0  # a broker far away, or busy, gets more time at each attempt


def bounded(client: Any) -> None:
    """From now on a connection to a node gets FIRST_S, and twice as long after each failure, up to LAST_S."""
    client._get_conn = _Connecting(client, client._get_conn).get


class _Connecting:
    def __init__(self, client: Any, get: Any) -> None:
        self._client = client
        self._get = get
        self._failures: dict[Any, int] = {}

    async def get(self, node_id: Any, **options: Any) -> Any:
        """The connection to a node; None where there is none, as aiokafka wants it."""
        limit_s = min(LAST_S, FIRST_S * 2 ** self._failures.get(node_id, 0))
        try:
            async with asyncio.timeout(limit_s):
                connection = await self._get(node_id, **options)
        except TimeoutError:
            self._failures[node_id] = self._failures.get(node_id, 0) + 1
            self._client.force_metadata_update()
            return None
        self._failures.pop(node_id, None)
        return connection
