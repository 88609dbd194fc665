"""What keys can be ranked by: a statistic, the greatest first, or how much they have surely changed.

Called by `ranking` and `ranked_keys`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import NamedTuple, Protocol

from metrics_app.errors import InvalidQueryError, NoDataError
from metrics_app.holdings import Glance
from metrics_app.query import compared, statistics
from metrics_app.query.answer import COUNT, Document, document, measure_of, several
from metrics_app.query.compared import Sides, comparison, judged_of
from metrics_app.query.question import SHOWN, Window
from metrics_app.query.reading import Rows
from metrics_app.query.reply import Table
from metrics_app.stats.comparison import LEAST_COUNT, compare, shifts_of, sure_factor
from metrics_app.stats.scale6 import ERROR_BOUND
from metrics_app.stats.statistic import parse_stat
from metrics_app.stats.summary import value_of

CHANGE = "change"
FACTOR_UNIT = "factor"
# a quantile of several exact rows may be an estimate, which lies in the same bucket, perhaps above the true one
SLACK = 1.0 + 2.0 * ERROR_BOUND
UNRANKED = -math.inf


class Order(Protocol):
    """How keys are ranked."""

    @property
    def q(self) -> float:
        """The quantile that rows are glanced at for."""

    @property
    def spans(self) -> list[range]:
        """Hours whose rows take part."""

    def bound(self, glances: list[Glance]) -> float:
        """What the value of a key is surely not above; UNRANKED when it has none."""

    @property
    def is_bound_the_value(self) -> bool:
        """Whether the bound of a key is its value."""

    async def value(self, rows: Rows, glances: list[Glance]) -> float:
        """The value of a key that has rows in the hours of these glances alone; UNRANKED when it has none."""

    async def answer(self, rows: Rows) -> Document | None:
        """What is told of a key, with its `value`; None when it has none (any more)."""

    def table(self, answers: Iterable[Document]) -> Table:
        """The lines of a CSV."""


class ByStatistic(NamedTuple):
    """The greatest first.

    Attributes:
        stat: whose value they are ranked by.
        also: statistics that are told beside it.
    """

    stat: str
    also: tuple[str, ...]
    window: Window
    unit: str

    @property
    def q(self) -> float:
        """The quantile itself; the others are not above the greatest value."""
        q = parse_stat(self.stat).q
        return 1.0 if q is None else float(q)

    @property
    def spans(self) -> list[range]:
        """Hours whose rows take part."""
        return [range(self.window.first, self.window.end)]

    def bound(self, glances: list[Glance]) -> float:
        """What the value of a key is surely not above; of a count, the value."""
        if self.stat == COUNT:
            return float(sum(each.number for each in glances))
        most = max(each.most for each in glances) * (SLACK if len(glances) > 1 else 1.0)
        return most * sum(each.number for each in glances) if self.stat == "sum" else most

    @property
    def is_bound_the_value(self) -> bool:
        """Whether nothing need be read for the value."""
        return self.stat == COUNT

    async def value(self, rows: Rows, glances: list[Glance]) -> float:
        """The value of the statistic."""
        try:
            found = (await rows.read_admitted(self.window, having=_hours(glances))).whole
        except NoDataError:
            return UNRANKED
        return float(value_of(found.summary, self.stat).value)

    async def answer(self, rows: Rows) -> Document | None:
        """The answer that a question about the key gets, and the statistics beside it."""
        try:
            found = (await rows.read_admitted(self.window)).whole
        except NoDataError:
            return None
        answer = document(rows.key.decode(), measure_of(self.stat, self.unit), self.window, found)
        if self.also:
            beside = several(found.summary, self.also)
            answer |= {**beside.value, "bounds": beside.quality["bounds"]}
        return answer

    def table(self, answers: Iterable[Document]) -> Table:
        """A line a key and statistic."""
        return statistics.table(answers)


class ByChange(NamedTuple):
    """The factor by which a quantile has surely changed since the time before, up or down; only keys that have."""

    window: Window
    baseline: Window
    unit: str
    q: float = 1.0
    is_bound_the_value: bool = False

    @property
    def spans(self) -> list[range]:
        """Hours whose rows take part."""
        return [range(each.first, each.end) for each in (self.baseline, self.window)]

    def bound(self, glances: list[Glance]) -> float:
        """UNRANKED with too few values at one of the times, which say of no change that it is sure."""
        here = sum(each.number for each in glances if each.hour >= self.window.first)
        base = sum(each.number for each in glances) - here
        return math.inf if min(here, base) >= LEAST_COUNT else UNRANKED

    async def value(self, rows: Rows, glances: list[Glance]) -> float:
        """The factor."""
        try:
            sides = await self._sides(rows, _hours(glances))
        except NoDataError:
            return UNRANKED
        factor = sure_factor(shifts_of(sides.found.summary, sides.base.summary))
        return factor if factor > 1.0 else UNRANKED

    async def answer(self, rows: Rows) -> Document | None:
        """The comparison of both times."""
        try:
            sides = await self._sides(rows)
        except NoDataError:
            return None
        judged = compare(sides.found.summary, sides.base.summary)
        if (factor := sure_factor(judged.shifts)) <= 1.0:
            return None
        told = {"value": factor, "value_unit": FACTOR_UNIT, **judged_of(judged)}
        return comparison(rows.key.decode(), CHANGE, self.unit, sides, told)

    def table(self, answers: Iterable[Document]) -> Table:
        """A line a key and quantile."""
        return compared.table(answers)

    async def _sides(self, rows: Rows, having: Collection[int] | None = None) -> Sides:
        base = (await rows.read_admitted(self.baseline, having=having)).whole
        found = (await rows.read_admitted(self.window, having=having)).whole
        return Sides(self.window, found, self.baseline, base)


def _hours(glances: list[Glance]) -> set[int]:
    return {each.hour for each in glances}


MOST_BESIDE = 16


def order_of(given: dict[str, str], window: Window, unit: str) -> Order:
    """The order that parameters ask for.

    Raises:
        InvalidQueryError: part "sort" or "stats".
    """
    also = _beside(given.get("stats", ""))
    if given["sort"] != CHANGE:
        _checked("sort", given["sort"])
        return ByStatistic(given["sort"], also, window, unit)
    if also:
        raise InvalidQueryError("stats", given["stats"][:SHOWN], f"nothing with sort={CHANGE}, which has its own")
    length = window.end - window.first
    if window.first < length:
        raise InvalidQueryError("sort", CHANGE, "a time with as many hours before it, since 1970")
    return ByChange(window, Window(window.first - length, window.first, window.form), unit)


def _beside(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(filter(None, text.split(","))))
    if len(names) > MOST_BESIDE:
        raise InvalidQueryError("stats", text[:SHOWN], f"at most {MOST_BESIDE} statistics")
    for name in names:
        _checked("stats", name)
    return names


def _checked(part: str, stat: str) -> None:
    try:
        parse_stat(stat)
    except InvalidQueryError as error:
        expected = error.expected.replace("summary or ", f"or, to sort by, {CHANGE}, ", 1)
        raise InvalidQueryError(part, stat[:SHOWN], expected) from None
