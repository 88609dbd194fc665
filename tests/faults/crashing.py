"""`python -m tests.faults.crashing <arguments>`: metrics-app that ends at a named point.

Where to end stands in the file named by CRASH_FILE: a point and the number of its passes from then on. A third word
names an exception that is raised there, once, instead of ending. Without the file it runs as it is. The product knows
nothing of this: its own functions are wrapped here.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from metrics_app.__main__ import run
from metrics_app.aggregator import flusher, partitions, store, table
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.agent import Folding
from metrics_app.collector import producer
from metrics_app.wire import bodies
from tests.faults import points as at

CRASH_FILE = "CRASH_FILE"
CRASHED = 9
RAISED: dict[str, Callable[[], Exception]] = {
    "files": lambda: OSError(errno.EMFILE, "Too many open files"),
    "disk": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "rocksdb": lambda: Exception("IO error: While open a file for random read: 000012.sst: Too many open files"),
    "bug": lambda: ValueError("a bug"),
}

_passes: dict[tuple[str, ...], int] = {}


def passed(point: str) -> None:
    """Notes that a point was passed; does not return when it is the one to end at."""
    file = Path(os.environ[CRASH_FILE])
    if not file.exists():
        return
    wanted = tuple(file.read_text().split())
    if len(wanted) >= 2 and wanted[0] == point:
        _passes[wanted] = _passes.get(wanted, 0) + 1
        if _passes[wanted] >= int(wanted[1]):
            print(f"crash at {point}", file=sys.stderr, flush=True)
            if len(wanted) == 2:
                os._exit(CRASHED)
            file.unlink()
            raise RAISED[wanted[2]]()


def before(owner: Any, name: str, point: str) -> None:
    """Makes a function pass a point when it is called."""
    function = getattr(owner, name)

    def called(*args: Any, **named: Any) -> Any:
        passed(point)
        return function(*args, **named)

    setattr(owner, name, called)


def after(owner: Any, name: str, point: str) -> None:
    """Makes a function pass a point when it has returned."""
    function = getattr(owner, name)

    def called(*args: Any, **named: Any) -> Any:
        result = function(*args, **named)
        passed(point)
        return result

    setattr(owner, name, called)


def after_awaited(owner: Any, name: str, point: str) -> None:
    """Makes a coroutine function pass a point when it has been awaited."""
    function: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def called(*args: Any, **named: Any) -> Any:
        result = await function(*args, **named)
        passed(point)
        return result

    setattr(owner, name, called)


def in_a_flush() -> None:
    """Points between the steps of a flush."""
    send, settle, write = flusher.Flusher._send, flusher.Flusher._settle, store.HourStore.write
    settling: list[bool] = []

    async def sent(self: Any, producer: Any, records: dict[int, Any]) -> Any:
        is_checkpoints = any(key == rows.CHECKPOINT_KEY for those in records.values() for key, _ in those)
        if not is_checkpoints and sum(len(those) for those in records.values()) > 1:
            await send(self, producer, {p: those[: (len(those) + 1) // 2] for p, those in records.items()})
            passed(at.ROWS_SENT)
        offsets = await send(self, producer, records)
        passed(at.CHECKPOINT_SENT if is_checkpoints else at.ALL_ROWS_SENT)
        return offsets

    def settled(self: Any, *args: Any) -> None:
        settling.append(True)
        settle(self, *args)
        settling.pop()
        passed(at.ACKNOWLEDGED)

    def written(self: Any, *args: Any) -> None:
        write(self, *args)
        if settling:
            passed(at.WRITTEN)

    for owner, name, wrapped in (
        (flusher.Flusher, "_send", sent),
        (flusher.Flusher, "_settle", settled),
        (store.HourStore, "write", written),
    ):
        setattr(owner, name, wrapped)


def install() -> None:
    """Puts all points in; an unknown name raises, so that no point can get lost when the product changes."""
    before(bodies, "parse", at.PARSE)
    before(producer.Connection, "send", at.BEFORE_PRODUCE)
    after_awaited(producer.Connection, "send", at.PRODUCED)
    before(Folding, "_apply", at.POLLED)
    after_awaited(Folding, "_apply", at.APPLIED)
    in_a_flush()
    after(store.HourStore, "merge", at.RESTORING)
    before(table.HourlyTable, "expire", at.EXPIRING)
    after(partitions.Partitions, "assign", at.ASSIGNED)


if __name__ == "__main__":
    install()
    run()
