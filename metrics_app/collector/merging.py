"""Makes one chunk of several where that changes no count: what a chunk costs to fold hardly depends on its length."""

from __future__ import annotations

from collections.abc import Iterable

from metrics_app.wire.chunk import Chunk


def merged(chunks: Iterable[Chunk]) -> list[Chunk]:
    """The chunks, those of a key and hour made one that nothing identifies, or whose numbers follow each other.

    A merged chunk stands where its first part stood. What has ids is known by them as it is, a histogram cannot be
    joined to anything, and values stay on their side of a histogram of the same sender, as the fences are to see them.
    """
    runs: list[list[Chunk]] = []
    latest: dict[tuple[bytes, int, bytes], list[Chunk]] = {}
    for chunk in chunks:
        if chunk.ids:
            runs.append([chunk])
            continue
        whose = chunk.key, chunk.hour, chunk.sender
        run = latest.get(whose)
        if run is None or not _follows(run[-1], chunk):
            run = latest[whose] = []
            runs.append(run)
        run.append(chunk)
    return [_joined(run) for run in runs]


def _follows(before: Chunk, chunk: Chunk) -> bool:
    if before.histogram or chunk.histogram:
        return False
    return not chunk.sender or chunk.first == before.first + before.count


def _joined(run: list[Chunk]) -> Chunk:
    return run[0] if len(run) == 1 else run[0]._replace(values=b"".join([chunk.values for chunk in run]))
