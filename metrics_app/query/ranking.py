"""Ranks the keys held here, and joins the rankings of all workers; never more than a page of keys is kept of any.

Called by `ranked_keys`.

A worker glances at every row and reads only those that may have a place among the best so far. It ranks the partitions
it owns in one list. Copies are asked for by number, where no owner answers, and ranked each in a list of its own: what
an old copy says must not take the place of what another one knows better.
"""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple, Self

import msgspec

from metrics_app.errors import OwnerUnavailableError
from metrics_app.holdings import ACTIVE, BEST_FIRST, Look, SummaryReader, loss_of, sum_known
from metrics_app.query.orders import UNRANKED, Order
from metrics_app.query.reading import LongQuestions, Rows
from metrics_app.query.walking import by_key
from metrics_app.turns import Slice
from metrics_app.wire.metric_key import fault_of


class Place(NamedTuple):
    """Where a key stands: by its value, the greatest first, then by its bytes."""

    value: float
    key: bytes

    @property
    def nth(self) -> tuple[float, bytes]:
        """What sorts places, the first one first."""
        return -self.value, self.key


class _Entry(NamedTuple):
    """A place in a heap, whose least one is the last place."""

    place: Place
    partition: int

    def __lt__(self, other: Any) -> bool:
        return bool(self.place.nth > other.place.nth)


class Top:
    """The first places, as many as are wanted.

    Args:
        most: so many.
        after: places behind this one only; None: from the first on.
    """

    def __init__(self, most: int, after: Place | None) -> None:
        self._most = most
        self._after = after
        self._entries: list[_Entry] = []

    def could_have(self, best: Place) -> bool:
        """Whether a key may have a place, which is not before this one."""
        if best.value == UNRANKED:
            return False
        return len(self._entries) < self._most or best.nth < self._entries[0].place.nth

    def offer(self, place: Place, partition: int) -> None:
        """Takes a place in, if it is among the first."""
        if place.value == UNRANKED or (self._after is not None and place.nth <= self._after.nth):
            return
        entry = _Entry(place, partition)
        if len(self._entries) < self._most:
            heapq.heappush(self._entries, entry)
        else:
            heapq.heappushpop(self._entries, entry)

    @property
    def entries(self) -> list[_Entry]:
        """The places in their order."""
        return sorted(self._entries, key=lambda entry: entry.place.nth)


class RankedKey(msgspec.Struct):
    """A key, its value, and what is told of it."""

    key: str
    value: float
    answer: dict[str, Any]

    @property
    def nth(self) -> tuple[float, bytes]:
        """What sorts keys."""
        return Place(self.value, self.key.encode()).nth


class RankedHere(msgspec.Struct):
    """What one worker says.

    Attributes:
        of: what it was asked, as it understood it.
        roles: of each partition that it has ranked.
        keys: by partition, up to one more than a page.
        behind: partitions of whose values some may still be on their way into the copy.
        lost: partitions with records that may have held values and are gone: how many; 0 when nobody knows.
    """

    of: str
    roles: dict[int, str]
    keys: dict[int, list[RankedKey]]
    behind: list[int] = []
    lost: dict[int, int] = {}

    @property
    def answered(self) -> dict[int, str]:
        """The partitions that it has ranked."""
        return self.roles


class Sought(NamedTuple):
    """What is ranked.

    Attributes:
        order: by what.
        most: keys, one more than a page.
        after: the last place of the page before.
        copies: partitions of which any copy is wanted; None: of all that are owned here.
    """

    order: Order
    prefix: str
    contains: str
    most: int
    after: Place | None
    copies: list[int] | None = None

    @property
    def identity(self) -> str:
        """What tells it from another question, on every worker alike."""
        places = [(span.start, span.stop) for span in self.order.spans]
        return repr((type(self.order).__name__, getattr(self.order, "stat", ""), places, self.prefix, self.contains))

    def of_copies(self, copies: list[int]) -> Self:
        """The same of any copies."""
        return self._replace(copies=copies)

    async def here(self, held: HeldCopies) -> RankedHere:
        """See `ranked_here`."""
        return await ranked_here(self, held)


class HeldCopies(NamedTuple):
    """What is held here."""

    reader: SummaryReader
    partitions: int
    long_questions: LongQuestions

    def roles(self, copies: list[int] | None) -> dict[int, str]:
        """The partitions that are looked at here, and in which role: these, or all that are owned here."""
        numbers = range(self.partitions) if copies is None else copies
        roles = {number: role for number in numbers if (role := self.reader.holds(number)) is not None}
        return {number: role for number, role in roles.items() if copies is not None or role == ACTIVE}

    def rows(self, partition: int, key: bytes) -> Rows:
        """The rows of a key."""
        return Rows(self.reader, partition, key, self.long_questions)


async def ranked_here(asked: Sought, copies: HeldCopies) -> RankedHere:
    """The ranking of the partitions held here.

    Raises:
        OwnerUnavailableError: a partition that is owned here went, or cannot be read; one list has no gaps. Of copies
            that is not raised: such a one is left out, and so is not answered for.
    """
    if asked.copies is None:
        return await _ranked(asked, copies, copies.roles(asked.copies))
    each = [await _if_held(asked, copies, {number: role}) for number, role in copies.roles(asked.copies).items()]
    told = [one for one in each if one is not None]
    whole = RankedHere(asked.identity, {}, {}, [], {})
    for one in told:
        whole.roles |= one.roles
        whole.keys |= one.keys
        whole.behind += one.behind
        whole.lost |= one.lost
    return whole


async def _if_held(asked: Sought, copies: HeldCopies, roles: dict[int, str]) -> RankedHere | None:
    try:
        return await _ranked(asked, copies, roles)
    except OwnerUnavailableError:
        return None


async def _ranked(asked: Sought, copies: HeldCopies, roles: dict[int, str]) -> RankedHere:
    top, reader = Top(asked.most, asked.after), copies.reader
    for partition in roles:
        await _rank(partition, asked, copies, top)
    keys: dict[int, list[RankedKey]] = {}
    for place, partition in top.entries:
        answer = await asked.order.answer(copies.rows(partition, place.key))
        if answer is not None:
            keys.setdefault(partition, []).append(RankedKey(place.key.decode(), float(answer["value"]), answer))
    if any(reader.holds(partition) != role for partition, role in roles.items()):
        raise OwnerUnavailableError("partitions are being reassigned")
    spans = asked.order.spans
    losses = {number: loss_of(reader.losses(number), spans[0].start, spans[-1].stop) for number in roles}
    return RankedHere(
        asked.identity,
        roles,
        keys,
        [partition for partition in roles if reader.behind(partition)],
        {number: loss.records for number, loss in losses.items() if loss is not None},
    )


async def _rank(partition: int, asked: Sought, copies: HeldCopies, top: Top) -> None:
    order, look = asked.order, Look(asked.prefix.encode(), asked.contains.encode(), asked.order.q)
    a_slice = Slice()
    async for glances in by_key(copies.reader, partition, order.spans, look, a_slice):
        key = glances[0].key
        bound = order.bound(glances)
        if top.could_have(Place(bound, key)) and fault_of(key) is None:
            value = bound if order.is_bound_the_value else await order.value(copies.rows(partition, key), glances)
            top.offer(Place(value, key), partition)
        if a_slice.is_over:
            await a_slice.rest()


class RankedPage(NamedTuple):
    """A page of keys.

    Attributes:
        more: whether there are further ones.
        unanswered: partitions that nobody answered for; their keys are not among these.
        stale: whether a copy answered that may lag behind the owner, or an owner that is behind itself.
        lost: records that may have held further values and are gone; None when nobody knows how many they were.
    """

    keys: list[RankedKey]
    more: bool
    unanswered: list[int]
    stale: bool
    lost: int | None


def joined(told: list[RankedHere], limit: int, partitions: int) -> RankedPage:
    """Joins the rankings of all workers, with the best copy of each partition."""
    best = {
        number: min(holders, key=lambda each: BEST_FIRST.index(each.roles[number]))
        for number in range(partitions)
        if (holders := [each for each in told if each.roles.get(number) in BEST_FIRST])
    }
    return in_rank(
        [
            RankedPage(
                [key for number, each in best.items() for key in each.keys.get(number, [])],
                False,
                [number for number in range(partitions) if number not in best],
                any(each.roles[number] != ACTIVE or number in each.behind for number, each in best.items()),
                sum_known([each.lost[number] for number, each in best.items() if number in each.lost]),
            )
        ],
        limit,
    )


def in_rank(pages: list[RankedPage], limit: int) -> RankedPage:
    """Several pages as one, the first places of all of them."""
    keys = sorted((key for page in pages for key in page.keys), key=lambda key: key.nth)
    return RankedPage(
        keys[:limit],
        len(keys) > limit or any(page.more for page in pages),
        sorted({number for page in pages for number in page.unanswered}),
        any(page.stale for page in pages),
        pages[-1].lost,  # of the hours, whatever the prefix
    )
