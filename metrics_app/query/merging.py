"""Merges the rows of many keys in the partitions held here, and what all workers have merged. Exact: summaries merge.

Called by `merged`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

import msgspec

from metrics_app.errors import FormatError, NotYetError, OwnerUnavailableError
from metrics_app.holdings import ACTIVE, BEST_FIRST, FoundRow, Look, Loss, loss_of
from metrics_app.query.question import Window
from metrics_app.query.ranking import HeldCopies
from metrics_app.query.reading import with_row
from metrics_app.query.walking import by_key
from metrics_app.stats import codec
from metrics_app.turns import Slice
from metrics_app.wire.metric_key import fault_of

LATEST_S = 253_402_300_799  # the last second of the year 9999
ALL_VALUES = 1.0  # the greatest quantile, which every row has


class MergedKeys(NamedTuple):
    """Which keys, and over which hours.

    Attributes:
        copies: partitions of which any copy is wanted; None: of all that are owned here.
    """

    window: Window
    prefix: str
    contains: str
    copies: list[int] | None = None

    @property
    def identity(self) -> str:
        """What tells it from another question, on every worker alike."""
        return repr((self.window.first, self.window.end, self.prefix, self.contains))

    def of_copies(self, copies: list[int]) -> Self:
        """The same of any copies."""
        return self._replace(copies=copies)

    async def here(self, held: HeldCopies) -> MergedHere:
        """See `merged_here`."""
        return await merged_here(self, held)


class MergedPartition(msgspec.Struct):
    """What one copy of a partition holds of these keys.

    Attributes:
        keys: how many have a value.
        summary: encoded, of at most `exact_distinct` distinct values exactly; empty when there is no value.
        as_of: epoch seconds, the earliest of its rows.
        lost: hours, moment and number of records that are gone, as `Loss`; None: none is.
    """

    role: str
    keys: int = 0
    summary: bytes = b""
    exact_distinct: int = 0
    missing: int = 0
    duplicates: int = 0
    late: int = 0
    as_of: float = 0.0
    final_after_s: float = 0.0
    stale: bool = False
    lost: Loss | None = None

    def __post_init__(self) -> None:
        """Looks at what another worker has sent; raises FormatError when it cannot be so."""
        _ = self.row
        if self.role not in BEST_FIRST or not 0 <= self.as_of <= LATEST_S:
            raise FormatError("merged partition", f"role {self.role!r}, as_of {self.as_of!r}")

    @property
    def row(self) -> FoundRow | None:
        """The same as one row; None when there is no value."""
        if not self.summary:
            return None
        summary = codec.decode(self.summary, self.exact_distinct)
        counts = self.missing, self.duplicates, self.late
        return FoundRow(summary, *counts, self.as_of, self.stale, self.role, 0, self.final_after_s, self.lost)


class MergedHere(msgspec.Struct):
    """What one worker says, by partition; `of` is what it was asked, as it understood it."""

    of: str
    partitions: dict[int, MergedPartition]

    @property
    def answered(self) -> list[int]:
        """The partitions whose rows it has merged."""
        return [*self.partitions]


async def merged_here(asked: MergedKeys, copies: HeldCopies) -> MergedHere:
    """The merged rows of the partitions held here; one that went meanwhile is left out."""
    found = {}
    for number, role in copies.roles(asked.copies).items():
        try:
            partition = await _merged(number, role, asked, copies)
        except OwnerUnavailableError:
            continue
        if copies.reader.holds(number) == role:
            found[number] = partition
    return MergedHere(asked.identity, found)


async def _merged(number: int, role: str, asked: MergedKeys, copies: HeldCopies) -> MergedPartition:
    reader, hours = copies.reader, range(asked.window.first, asked.window.end)
    told = MergedPartition(role, stale=role != ACTIVE or reader.behind(number) is not None)
    look = Look(asked.prefix.encode(), asked.contains.encode(), ALL_VALUES)
    a_slice, whole = Slice(), None
    async for glances in by_key(reader, number, [hours], look, a_slice):
        if fault_of(glances[0].key) is None:
            before, rows = whole, copies.rows(number, glances[0].key)
            for glance in glances:
                try:
                    found = rows.hour(glance.hour)
                except NotYetError:
                    found, told.stale = None, True
                whole = with_row(whole, found) if found is not None else whole
            told.keys += whole is not before
        await a_slice.rest()
    told.lost = loss_of(reader.losses(number), hours.start, hours.stop)
    return told if whole is None else _told(told, whole)


def _told(told: MergedPartition, whole: FoundRow) -> MergedPartition:
    told.summary, told.exact_distinct = codec.encode(whole.summary), whole.summary.exact_distinct
    told.missing, told.duplicates, told.late = whole.missing, whole.duplicates, whole.late
    told.as_of, told.final_after_s = whole.as_of, whole.final_after_s
    told.stale = told.stale or whole.stale
    return told


class MergedWhole(NamedTuple):
    """What all workers have.

    Attributes:
        row: None when there is no value.
        unanswered: partitions that nobody answered for; what they hold is not in the row.
    """

    row: FoundRow | None
    keys: int
    unanswered: list[int]
    stale: bool


def whole_of(told: Iterable[MergedHere], partitions: int) -> MergedWhole:
    """The best copy of each partition, taken together."""
    best: dict[int, MergedPartition] = {}
    for number, each in ((number, each) for one in told for number, each in one.partitions.items()):
        if number in range(partitions) and (number not in best or _rank(each) < _rank(best[number])):
            best[number] = each
    row: FoundRow | None = None
    for each in best.values():
        if (found := each.row) is not None:
            row = with_row(row, found)
    lost = loss_of((each.lost for each in best.values() if each.lost is not None), 0, 1 << 62)
    if row is not None:
        row = row._replace(loss=lost, role=max((each.role for each in best.values()), key=BEST_FIRST.index))
    return MergedWhole(
        row,
        sum(each.keys for each in best.values()),
        [number for number in range(partitions) if number not in best],
        any(each.stale for each in best.values()),
    )


def _rank(each: MergedPartition) -> int:
    return BEST_FIRST.index(each.role)
