"""`python -m tests.faults.mutants <arguments>`: metrics-app broken on purpose, in the way FAULTS_MUTANT names.

A suite that stays green on one of these proves nothing; `make mutants` runs it on all of them (docs/guarantees.md).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from metrics_app.__main__ import run
from metrics_app.aggregator import deduplication, fold
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fencing import Acknowledged, Records
from metrics_app.aggregator.flusher import Flusher
from metrics_app.collector.publisher import Publisher
from tests.faults import crashing
from tests.faults.installation import MUTANT

_kept: set[asyncio.Task[None]] = set()


def reply_before_ack() -> None:
    """A collector says 202 before Kafka has acknowledged."""
    publish = Publisher.publish

    async def at_once(self: Publisher, chunks: Any) -> None:
        task = asyncio.create_task(publish(self, chunks))
        _kept.add(task)
        task.add_done_callback(_kept.discard)

    setattr(Publisher, "publish", at_once)  # noqa: B010  # mypy lets no method be assigned


def no_dedupe() -> None:
    """What arrives twice counts twice: neither ids nor numbers are looked at."""
    assert hasattr(deduplication.RecordClaims, "claim")
    assert hasattr(fold.PartitionFold, "_unclaimed")
    setattr(deduplication.RecordClaims, "claim", lambda self, chunk: None)  # noqa: B010
    setattr(fold.PartitionFold, "_unclaimed", lambda self, chunk, row, values, tally: values)  # noqa: B010


def checkpoint_before_rows() -> None:
    """The place of a flush goes out first, apart from the rows it speaks of."""
    send = Flusher._send
    waiting: list[tuple[dict[int, Records], dict[int, list[Acknowledged]]]] = []

    async def swapped(self: Flusher, producer: Any, records: dict[int, Records]) -> dict[int, list[Acknowledged]]:
        if waiting and any(key == rows.CHECKPOINT_KEY for those in records.values() for key, _ in those):
            checkpoints = await send(self, producer, records)
            delayed, spans = waiting.pop()
            for partition, sent in (await send(self, producer, delayed)).items():
                spans[partition] += sent
            return checkpoints
        spans = {partition: [] for partition in records}  # filled in when they are sent
        waiting[:] = [(records, spans)]
        return spans

    setattr(Flusher, "_send", swapped)  # noqa: B010


def stamp_apart() -> None:
    """Rows are written without the stamp that says which records they hold."""
    encode = rows.encode_row

    def unstamped(row: rows.Row) -> bytes:
        stamp, row.stamp = row.stamp, rows.NO_STAMP
        encoded = encode(row)
        row.stamp = stamp
        return encoded

    rows.encode_row = unstamped


MUTANTS: dict[str, Callable[[], None]] = {
    "reply-before-ack": reply_before_ack,
    "no-dedupe": no_dedupe,
    "place-before-rows": checkpoint_before_rows,
    "stamp-apart": stamp_apart,
}

if __name__ == "__main__":
    if crashing.CRASH_FILE in os.environ:
        crashing.install()  # first: it is the mutant's own steps that a crash may come between
    MUTANTS[os.environ[MUTANT]]()
    run()
