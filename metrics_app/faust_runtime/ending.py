"""Ends consumers of Kafka for certain: aiokafka's can lose the only sign that they are to end.

Called by `kafka.connections`.

When the assignment of a consumer changes, its fetching task cancels the fetches under way and waits for each, and takes
a cancellation of its own in that moment for the end of a fetch. Whoever stops the consumer just then waits for ever:
for a task that goes on fetching, as it has been cancelled once and is not again. So it is cancelled until it ends.
"""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 0.2  # an end takes milliseconds


def certain(consumer: Any) -> Any:
    """The aiokafka consumer, whose `stop` returns; to be called before it is started."""
    stop = consumer.stop

    async def stop_for_certain() -> None:
        stopping = asyncio.ensure_future(stop())
        try:
            while not (await asyncio.wait({stopping}, timeout=AGAIN_S))[0]:
                if consumer._fetcher is not None:
                    consumer._fetcher._fetch_task.cancel()
        finally:
            stopping.cancel()  # of who waits no longer
        await stopping

    consumer.stop = stop_for_certain
    return consumer
