"""What every benchmark is given: how long it may take, where it says how far it is, and a Kafka."""

from __future__ import annotations

import itertools
import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from metrics_app.kafka.embedded import EmbeddedKafka

_numbers = itertools.count(1)


@dataclass
class Bench:
    """One run of one or more benchmarks, on one broker and in one temporary folder.

    Attributes:
        quick: measure for a fraction of the time.
        busy: processes that ran or wanted to when the run began, on average over a minute.
    """

    quick: bool = False
    _stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.busy = os.getloadavg()[0]
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._console = Console(stderr=True)
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("", total=0)

    def __enter__(self) -> Self:
        self._stack.enter_context(self._bar)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @cached_property
    def folder(self) -> Path:
        """A temporary folder, gone with the run."""
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))

    @cached_property
    def kafka(self) -> EmbeddedKafka:
        """The broker of this run, started when first asked for."""
        return self._stack.enter_context(EmbeddedKafka(self.folder / "kafka", port=0))

    @cached_property
    def broker(self) -> psutil.Process:
        """The broker's process."""
        return psutil.Process(self.kafka.pid)

    def name(self, what: str) -> str:
        """A name nobody else has on this broker."""
        return f"{what}-{next(_numbers)}"

    def expect(self, steps: int) -> None:
        """So many calls of `step` are to come."""
        task = self._bar.tasks[0]
        self._bar.update(self._task, total=(task.total or 0) + steps)

    def step(self, text: str) -> None:
        """Say what is done next; one line each where there is no terminal."""
        self._bar.update(self._task, description=text, advance=1)
        if not self._console.is_terminal:
            self._console.print(f"{text} ...", highlight=False)
