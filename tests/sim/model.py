"""What each key and hour must come to: the samples log read once from its beginning, with dicts, lists and sets."""

from __future__ import annotations

import struct
from collections import defaultdict
from dataclasses import dataclass, field
from math import fsum

from metrics_app.aggregator.fold import HOUR_MS, FoldLimits
from metrics_app.aggregator.row import Row
from metrics_app.wire.chunk import ID_BYTES, Chunk

Numbers = tuple[int, float, float, float, int, int, int, int]


@dataclass
class Expected:
    """What was counted of one key in one hour."""

    values: list[float] = field(default_factory=list)
    senders: dict[bytes, set[int]] = field(default_factory=dict)
    duplicates: int = 0
    late: int = 0
    unfenced: int = 0

    def numbers(self) -> Numbers:
        """Count, sum, min, max, missing, duplicates, late, unfenced."""
        missing = sum(max(seen) + 1 - len(seen) for seen in self.senders.values())
        low, high = min(self.values), max(self.values)
        fences = missing, self.duplicates, self.late, self.unfenced
        return len(self.values), fsum(self.values), low, high, *fences


def numbers_of(row: Row | None) -> Numbers | None:
    """The same of a row of the product."""
    if row is None or not row.summary.count:
        return None
    summary, fences = row.summary, (row.missing, row.duplicates, row.late, row.unfenced)
    return summary.count, summary.sum, summary.min, summary.max, *fences


class Model:
    """One partition."""

    def __init__(self, limits: FoldLimits) -> None:
        self.limits = limits
        self.hour = 0
        self.rows: dict[tuple[bytes, int], Expected] = defaultdict(Expected)
        self.claims: list[tuple[int, bytes, set[int]]] = []  # arrival hour, id, places; the place of a whole is 0

    def add(self, timestamp_ms: int, chunks: list[Chunk]) -> None:
        """Counts one record."""
        self.hour = max(self.hour, timestamp_ms // HOUR_MS)
        self.claims = [claim for claim in self.claims if claim[0] >= self.hour - self.limits.id_horizon_hours]
        for chunk in chunks:
            if chunk.hour >= self.hour - self.limits.retention_hours:
                self._count(chunk, self.rows[chunk.key, chunk.hour])

    def _count(self, chunk: Chunk, row: Expected) -> None:
        values = list(struct.unpack(f"<{chunk.count}d", chunk.values))
        is_fresh = (
            self._by_id(chunk) if chunk.ids else [self._is_fresh(chunk, number, row) for number in range(chunk.count)]
        )
        fresh = [value for value, is_new in zip(values, is_fresh, strict=True) if is_new]
        row.values += fresh
        row.duplicates += len(values) - len(fresh)
        row.late += len(fresh) if chunk.hour < self.hour else 0

    def known(self, id_: bytes) -> set[int]:
        """Places that were claimed of an id; 0 when all were."""
        return {checkpoint for _, other, checkpoints in self.claims if other == id_ for checkpoint in checkpoints}

    def _by_id(self, chunk: Chunk) -> list[bool]:
        ids = _ids(chunk)
        if len(ids) > 1:
            return [self._claim(id_, {0}) for id_ in ids]
        if not chunk.first:
            return [self._claim(ids[0], {0})] * chunk.count
        known, checkpoints = self.known(ids[0]), range(chunk.first, chunk.first + chunk.count)
        fresh = [0 not in known and checkpoint not in known for checkpoint in checkpoints]
        if any(fresh):
            self.claims.append((self.hour, ids[0], set(checkpoints)))
        return fresh

    def _claim(self, id_: bytes, checkpoints: set[int]) -> bool:
        is_new = not self.known(id_)
        if is_new:
            self.claims.append((self.hour, id_, checkpoints))
        return is_new

    def _is_fresh(self, chunk: Chunk, number: int, row: Expected) -> bool:
        if not chunk.sender:
            return True
        if chunk.sender not in row.senders and len(row.senders) >= self.limits.max_senders:
            row.unfenced += 1
            return True
        seen = row.senders.setdefault(chunk.sender, set())
        is_new = chunk.first + number not in seen
        seen.add(chunk.first + number)
        return is_new

    def visible(self) -> dict[tuple[bytes, int], Numbers]:
        """What may be asked for: hours within retention that hold a value."""
        oldest = self.hour - self.limits.retention_hours
        return {at: row.numbers() for at, row in self.rows.items() if at[1] >= oldest and row.values}


def _ids(chunk: Chunk) -> list[bytes]:
    return [bytes(chunk.ids[at : at + ID_BYTES]) for at in range(0, len(chunk.ids), ID_BYTES)]
