"""`python -m tests.faults.stalling <arguments>`: metrics-app whose Faust stops fetching while a file is there.

The file is named by STALL_FILE. Heartbeats, commits and questions about offsets go on, as in the reported stalls.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from metrics_app.cli.main import run

STALL_FILE = "STALL_FILE"
_getmany = AIOKafkaConsumerThread.getmany


async def getmany(thread: Any, *args: Any, **named: Any) -> Any:
    """As Faust's, or never."""
    if os.access(os.environ[STALL_FILE], os.F_OK):
        await asyncio.sleep(3600)
    return await _getmany(thread, *args, **named)


if __name__ == "__main__":
    setattr(AIOKafkaConsumerThread, "getmany", getmany)  # noqa: B010  # mypy knows it for a method
    run()
