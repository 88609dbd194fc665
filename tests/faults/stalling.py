"""`python -m tests.faults.stalling <arguments>`: metrics-app whose Faust stops fetching while a file is there.

The file is named by STALL_FILE. Heartbeats, commits and questions about offsets go on, as in the reported stalls. When
the file says "drop", what is fetched next is lost instead, once, and the file deleted.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from metrics_app.cli.main import run

STALL_FILE = "STALL_FILE"
DROP = "drop"
_getmany = AIOKafkaConsumerThread.getmany


def _told() -> str | None:
    file = Path(os.environ[STALL_FILE])
    return file.read_text() if file.exists() else None


async def getmany(thread: Any, *args: Any, **named: Any) -> Any:
    """As Faust's, or never, or in vain."""
    told = _told()
    if told is not None and told != DROP:
        await asyncio.sleep(3600)
    fetched = await _getmany(thread, *args, **named)
    if told is None or not fetched:
        return fetched
    os.unlink(os.environ[STALL_FILE])
    return {}


if __name__ == "__main__":
    setattr(AIOKafkaConsumerThread, "getmany", getmany)  # noqa: B010  # mypy knows it for a method
    run()
