"""Makes one chunk of several where nothing is lost by it: what a chunk costs to fold hardly depends on its length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter

from metrics_app.wire.chunk import Chunk


def merged(chunks: Iterable[Chunk]) -> list[Chunk]:
    """The chunks, those of a key and hour made one that nothing identifies, or whose numbers follow each other.

    What has ids is known by them as it is, and a histogram cannot be joined to another one.
    """
    kept: list[Chunk] = []
    alike: dict[tuple[bytes, int, bytes], list[Chunk]] = {}
    for chunk in chunks:
        if chunk.ids or chunk.histogram:
            kept.append(chunk)
        else:
            alike.setdefault((chunk.key, chunk.hour, chunk.sender), []).append(chunk)
    for same in alike.values():
        kept += map(_joined, _runs(same)) if len(same) > 1 else same
    return kept


def _runs(same: list[Chunk]) -> Iterator[list[Chunk]]:
    """Chunks of one key, hour and sender in the order of their numbers, cut where one does not follow."""
    same.sort(key=attrgetter("first"))
    start, following = 0, same[0].first
    for at, chunk in enumerate(same):
        if chunk.sender and chunk.first != following:
            yield same[start:at]
            start = at
        following = chunk.first + chunk.count
    yield same[start:]


def _joined(run: list[Chunk]) -> Chunk:
    return run[0] if len(run) == 1 else run[0]._replace(values=b"".join([chunk.values for chunk in run]))
