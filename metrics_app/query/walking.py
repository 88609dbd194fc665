"""Walks over all keys of a partition that have rows in some hours, in their order, without reading the rows.

Called by `ranking`.

Each hour is a list of keys of its own, in memory and in the store. The one that is furthest behind goes on, stretch by
stretch, so that what is held is a stretch of each, however many keys there are.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import groupby
from operator import itemgetter

from metrics_app.holdings import Glance, Glances, Look, SummaryReader
from metrics_app.turns import Slice

STRETCH = 400  # glances at rows in memory that are taken in one go

_Source = Callable[[bytes], Glances]


async def by_key(
    reader: SummaryReader, partition: int, spans: list[range], look: Look, a_slice: Slice
) -> AsyncIterator[list[Glance]]:
    """The glances at each key's rows in the hours of the spans, ascending by key.

    Raises:
        OwnerUnavailableError: the partition is not held here any more.
    """
    recent = sorted({each for span in spans for each in reader.recent_glances(partition, span, look)})
    newer = {each[:2] for each in recent}
    hours = sorted({hour for span in spans for hour in span})
    sources = [_in_memory(recent), *(_in_store(reader, partition, hour, look, newer) for hour in hours)]
    async for some in _in_order(sources, a_slice):
        for _, glances in groupby(some, itemgetter(0)):
            yield [*glances]


async def _in_order(sources: list[_Source], a_slice: Slice) -> AsyncIterator[Iterable[Glance]]:
    """What the sources have, taken together, in order; all of a key at once."""
    at = [(b"", which) for which in range(len(sources))]
    waiting: list[Glance] = []
    while at:
        behind, which = at[0]
        found, end = sources[which](behind)
        if end is None:
            heapq.heappop(at)
        else:
            heapq.heapreplace(at, (end, which))
        waiting = sorted([*waiting, *found]) if waiting and found else waiting or found
        upto = bisect_right(waiting, at[0][0], key=itemgetter(0)) if at else len(waiting)
        yield waiting[:upto]
        waiting = waiting[upto:]
        await a_slice.rest()


def _in_memory(recent: list[Glance]) -> _Source:
    def after(key: bytes) -> Glances:
        start = bisect_right(recent, key, key=itemgetter(0))
        stop = start + STRETCH
        while start < stop < len(recent) and recent[stop][0] == recent[stop - 1][0]:
            stop += 1  # all hours of a key
        return Glances(recent[start:stop], recent[stop - 1].key if stop < len(recent) else None)

    return after


def _in_store(reader: SummaryReader, partition: int, hour: int, look: Look, newer: set[tuple[bytes, int]]) -> _Source:
    def after(key: bytes) -> Glances:
        found, end = reader.stored_glances(partition, hour, look, key)
        return Glances([each for each in found if each[:2] not in newer] if newer else found, end)

    return after
