"""Reads the rows of a key over a window, hour by hour, and joins them.

Called by `compared`, `exported`, `statistics` and `views`.

All hours of a key are in one partition, so one worker has them all. Many hours are read in steps, between which other
requests are served; a row is used up before the next step, for the fold may change it then.

Long questions wait for each other: a month of hours is read for half a second, and thirty such at once would all be
late.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from metrics_app.errors import BusyError, MetricsError, NoDataError, NotYetError, OwnerUnavailableError
from metrics_app.holdings import ACTIVE, BEST_FIRST, RECOVERING, FoundRow, SummaryReader, loss_of
from metrics_app.query.question import Window
from metrics_app.stats.summary import HourlySummary
from metrics_app.turns import Slice, turn

Cell = Callable[[int, FoundRow | None], Any]


class WindowReading(NamedTuple):
    """What is known of a window.

    Attributes:
        whole: its hours taken together: summaries merged, counts added, the earliest as_of, stale if one of them is.
        cells: what was made of each hour that was asked for one by one.
    """

    whole: FoundRow
    cells: list[Any]


@dataclass(frozen=True)
class Rows:
    """The rows of one key, as the copy of its partition held here has them.

    Attributes:
        roles: in which they have been read. A long reading may see its partition move away.
    """

    reader: SummaryReader
    partition: int
    key: bytes
    long_questions: LongQuestions
    roles: set[str] = field(default_factory=set)

    @property
    def role(self) -> str:
        """The worst role among the copies that were read; call it after at least one read."""
        return max(self.roles, key=BEST_FIRST.index)

    async def read(
        self, window: Window, each: range = range(0), cell: Cell = lambda hour, found: None
    ) -> WindowReading:
        """What is known of a window.

        Args:
            each: hours that `cell` is to make something of.

        Raises:
            NoDataError: nothing was recorded in it.
            OwnerUnavailableError: the partition is not held here (any more), the copy here has none of the rows and may
                get them yet, or other long questions were before this one for too long.
        """
        async with self.long_questions.admitted(window.end - window.first):
            return await self.read_admitted(window, each, cell)

    async def read_admitted(
        self,
        window: Window,
        each: range = range(0),
        cell: Cell = lambda hour, found: None,
        having: Collection[int] | None = None,
    ) -> WindowReading:
        """The same, for whoever has been admitted with all that he is going to read.

        Args:
            having: the only hours that have rows, where that is known.
        """
        whole: FoundRow | None = None
        unsure: NotYetError | None = None
        cells = []
        a_slice = Slice()
        for hour in range(window.first, window.end):
            if having is not None and hour not in having:
                continue
            await a_slice.rest()
            try:
                found = self._row(hour)
            except NotYetError as error:
                found, unsure = None, error  # the rows that are there say that they may be stale
            if hour in each:
                cells.append(cell(hour, found and self._told(found, hour, hour + 1)))
            if found is not None:
                # a single row is taken as it is, for nothing runs between this and its use
                whole = found if window.end - window.first == 1 and not each else with_row(whole, found)
        if whole is None:
            raise unsure or self._nothing(window)
        return WindowReading(self._told(whole, window.first, window.end)._replace(role=self.role), cells)

    def hour(self, hour: int) -> FoundRow | None:
        """What is known of one hour, None for nothing, without waiting.

        Raises:
            NotYetError, OwnerUnavailableError: as `SummaryReader.read`.
        """
        found = self._row(hour)
        return found and self._told(found, hour, hour + 1)

    def _nothing(self, window: Window) -> MetricsError:
        if self.role != ACTIVE or self.reader.holds(self.partition) != ACTIVE:
            return OwnerUnavailableError("the owner cannot be asked, and the copy here does not have it yet")
        detail = f"nothing was recorded for key {self.key.decode()!r} in {window}"
        if loss_of(self.reader.losses(self.partition), window.first, window.end) is not None:
            detail += "; but records that may have held values of it were deleted by Kafka before they were counted"
        return NoDataError(detail)

    def _row(self, hour: int) -> FoundRow | None:
        self.roles.add(self.reader.holds(self.partition) or RECOVERING)
        found = self.reader.read(self.partition, self.key, hour)
        return found if found is not None and found.summary.count else None

    def _told(self, found: FoundRow, first: int, end: int) -> FoundRow:
        """The row found for these hours, with the loss that may have taken values out of it."""
        loss = loss_of(self.reader.losses(self.partition), first, end)
        return found if loss is None else found._replace(loss=loss, as_of=min(found.as_of, loss.since))


def with_row(whole: FoundRow | None, found: FoundRow) -> FoundRow:
    """The row with one more; the first one begins a new summary, so that no row that is held changes."""
    if whole is None:
        whole = found._replace(summary=HourlySummary(found.summary.exact_distinct), missing=0, duplicates=0, late=0)
    whole.summary.merge(found.summary)
    return whole._replace(
        missing=whole.missing + found.missing,
        duplicates=whole.duplicates + found.duplicates,
        late=whole.late + found.late,
        as_of=min(whole.as_of, found.as_of),
        stale=whole.stale or found.stale,
        role=found.role,
        offset=max(whole.offset, found.offset),
    )


LONG_HOURS = 2  # a question for more is a long one
AT_ONCE = 2
RANKINGS_AT_ONCE = 1  # one of a million keys takes seconds; the other questions have places of their own
MOST_WAITING = 16  # a day takes about 25 ms, a month half a second; who would wait longer is told at once


class LongQuestions:
    """Admits the long questions of a worker, a few at a time.

    Attributes:
        patience_s: longest wait of one.
        free: places that nobody has.
        waiting: how many wait for one.
        otherwise: what is raised after a wait in vain: where another worker has the same rows, it may be asked.
    """

    def __init__(
        self,
        patience_s: float,
        at_once: int = AT_ONCE,
        otherwise: type[OwnerUnavailableError | BusyError] = OwnerUnavailableError,
    ) -> None:
        self.patience_s = patience_s
        self.otherwise = otherwise
        self.free = asyncio.Semaphore(at_once)
        self.waiting = 0

    @asynccontextmanager
    async def admitted(self, hours: int) -> AsyncIterator[None]:
        """A context in which so many hours may be read.

        Raises:
            BusyError: they are many, and too many others are before them.
            OwnerUnavailableError, or `otherwise`: the same, after a wait.
        """
        if hours <= LONG_HOURS:
            yield
            return
        if self.waiting >= MOST_WAITING:
            raise BusyError(f"{self.waiting} long questions are waiting here already")
        await self._wait()
        try:
            await turn()  # most are short all the same: a day of which few hours have a row
            yield
        finally:
            self.free.release()

    async def _wait(self) -> None:
        self.waiting += 1
        try:
            async with asyncio.timeout(self.patience_s):
                await self.free.acquire()
        except TimeoutError:
            raise self.otherwise("other long questions are being answered here; try again") from None
        finally:
            self.waiting -= 1
