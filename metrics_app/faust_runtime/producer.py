"""Ends an aiokafka producer whose broker does not answer.

Called by whoever gives a producer up: the collector's connection and the flusher.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError


async def abandon(producer: AIOKafkaProducer) -> None:
    """Ends a producer at once; what it has not delivered fails with KafkaConnectionError, and is never delivered later.

    Its own `stop()` waits until all is delivered, so as long as an outage lasts.
    """
    sender = producer._sender
    producer._message_accumulator.fail_all(KafkaConnectionError("given up"))
    tasks = [task for task in asyncio.all_tasks() if _sends_for(sender, task)]
    if sender.sender_task is not None:
        tasks.append(sender.sender_task)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    await producer.stop()


def _sends_for(sender: Any, task: asyncio.Task[Any]) -> bool:
    frame = getattr(task.get_coro(), "cr_frame", None)
    return frame is not None and frame.f_locals.get("self") is sender
