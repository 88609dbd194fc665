"""Exceptions at any step of the fold, of a flush, of a stop and of a take-over: I/O errors, and those of mistakes."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.active import ActivePartition
from metrics_app.aggregator.fencing import Fence, Gap
from metrics_app.aggregator.flusher import Flusher
from metrics_app.aggregator.fold import PartitionFold
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.small_row import SmallRow
from metrics_app.aggregator.store import HourStore

Owner = type | ModuleType

STEPS: list[tuple[Owner, str]] = [
    # of a flush, in their order
    (Flusher, "_take_all"), (ActivePartition, "take"), (Fence, "_next_to_seal"), (HourStore, "overwritten_rows"),
    (PartitionFold, "take"),
    (rows, "encode_row"), (SmallRow, "encode"),
    (rows, "encode_ids"), (Flusher, "_replicate"), (Flusher, "_connected"), (Flusher, "_send"),
    (Flusher, "_batches"), (rows, "encode_checkpoint"), (Flusher, "_settle"), (Flusher, "_count"), (Fence, "reached"),
    (ActivePartition, "settle"), (Fence, "written"), (PartitionFold, "flushed"), (Partitions, "expire"),
    (Flusher, "_read_gaps"), (Gap, "take"), (Fence, "close"), (Flusher, "_give_back"), (ActivePartition, "give_back"),
    (PartitionFold, "failed"), (Flusher, "_drop_producer"),
    # of a take-over
    (HourStore, "merge"), (Partitions, "of"), (Partitions, "_stored"),
    # of a record
    (PartitionFold, "_fold_chunk"),
    # of all
    (HourStore, "read"), (HourStore, "read_all"), (HourStore, "scan"), (HourStore, "write"), (HourStore, "drop_range"),
]  # fmt: skip
NAMES = [name for _, name in STEPS if name != "_fold_chunk"]  # a mistake in it, met twice, puts the record aside

ERRORS: dict[str, Callable[[], Exception]] = {
    "rocksdb": lambda: Exception("IO error: While open a file for random read: 000012.sst: Too many open files"),
    "disk": lambda: OSError(28, "No space left on device"),
    "memory": MemoryError,
    "mistake": lambda: ValueError("a mistake"),
}


class Trouble:
    """What is to be raised next: once, by whichever worker comes to that step.

    Attributes:
        raised: all that was.
    """

    def __init__(self) -> None:
        self._armed: dict[str, tuple[int, str]] = {}
        self.raised: list[BaseException] = []

    def arm(self, step: str, nth: int, error: str) -> None:
        """Has the nth passing from now on raise; each step is passed twice, when it begins and when it has ended."""
        self._armed[step] = nth, error

    def clear(self) -> None:
        """Nothing more goes wrong."""
        self._armed.clear()

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Nothing is raised in here: the simulation itself looks."""
        armed, self._armed = self._armed, {}
        yield
        self._armed = armed

    def passed(self, step: str) -> None:
        """Raises if it is time to."""
        if step not in self._armed:
            return
        nth, error = self._armed.pop(step)
        if nth > 1:
            self._armed[step] = nth - 1, error
            return
        self.raised.append(ERRORS[error]())
        raise self.raised[-1]

    def install(self, patches: ExitStack) -> None:
        """Puts itself into the product until the patches are closed."""
        for owner, name in STEPS:
            patches.enter_context(mock.patch.object(owner, name, self._watched(owner, name)))

    def _watched(self, owner: Owner, name: str) -> Any:
        function: Any = getattr(owner, name)

        @functools.wraps(function)
        def called(*args: Any, **named: Any) -> Any:
            self.passed(name)
            result = function(*args, **named)
            self.passed(name)
            return result

        @functools.wraps(function)
        async def awaited(*args: Any, **named: Any) -> Any:
            self.passed(name)
            result = await function(*args, **named)
            self.passed(name)
            return result

        return awaited if asyncio.iscoroutinefunction(function) else called
