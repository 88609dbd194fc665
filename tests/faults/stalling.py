"""`python -m tests.faults.stalling <arguments>`: metrics-app whose consumers stop fetching while a file is there.

The file is named by STALL_FILE. Heartbeats, commits and questions about offsets go on, as in the reported stalls. When
the file says "drop", what is fetched next is lost instead, once, and the file deleted.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from metrics_app.__main__ import run

STALL_FILE = "STALL_FILE"
DROP = "drop"


def _told() -> str | None:
    file = Path(os.environ[STALL_FILE])
    return file.read_text() if file.exists() else None


def stall(owner: Any) -> None:
    """Makes `getmany` do as it does, or never end, or, of samples, in vain."""
    getmany = owner.getmany

    async def stalled(*args: Any, **named: Any) -> Any:
        told = _told()
        if told is not None and told != DROP:
            await asyncio.sleep(3600)
        fetched = await getmany(*args, **named)
        if told is None or not fetched or owner is not AIOKafkaConsumerThread:
            return fetched
        os.unlink(os.environ[STALL_FILE])
        return {}

    owner.getmany = stalled


if __name__ == "__main__":
    stall(AIOKafkaConsumerThread)  # of the samples
    stall(AIOKafkaConsumer)  # of the changelog
    run()
