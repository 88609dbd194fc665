"""Writes a whole local copy to the changelog, when that was deleted and made anew: the copy is what is left of it.

The place comes last, as its key is the greatest: who reads a changelog half written folds the samples topic once more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aiokafka import AIOKafkaProducer
from faust.types import TP

from metrics_app.aggregator.row import PLACE_KEY
from metrics_app.aggregator.store import HourStore

logger = logging.getLogger(__name__)

MOST_ROWS = 1000  # at a time
MOST_BYTES = 1 << 20


async def rewrite(
    store: HourStore, tp: TP, producer: AIOKafkaProducer, goes_on: Callable[[], bool], note: Callable[[TP, int], None]
) -> None:
    """Returns when the changelog has acknowledged every row, or the partition is not ours any more.

    Args:
        goes_on: whether it still is.
        note: told how many rows have been written so far.
    """
    start, written = b"", 0
    while goes_on():
        found = store.scan(tp.partition, start, PLACE_KEY + b"\0", MOST_ROWS, MOST_BYTES)
        if not found:
            logger.warning("%s: wrote %s rows of the local copy", tp, written)
            store.attached(tp.partition)
            return
        acks = [await producer.send(tp.topic, value, row_key, tp.partition) for row_key, value in found]
        await asyncio.gather(*acks)
        start, written = found[-1][0] + b"\0", written + len(found)
        note(tp, written)
