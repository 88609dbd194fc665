"""How often each distinct value occurred, in sorted arrays: 16 bytes a distinct value.

Called by `summary`.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np

from metrics_app.stats.histogram import Counts, Values


@dataclass(slots=True, eq=False)
class Distinct:
    """How often each value occurred.

    Attributes:
        values: ascending, no two equal.
        times: as long, each at least 1.
    """

    values: Values = field(default_factory=lambda: np.zeros(0))
    times: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    _ends: Counts | None = None  # running totals of times, until these change

    def add_counts(self, values: Values, times: Counts) -> None:
        """Counts more of some values, ascending and no two equal; the arrays are not kept."""
        self._ends = None
        at = np.searchsorted(self.values, values)
        known = np.zeros(len(values), bool)
        inside = at < len(self.values)
        known[inside] = self.values[at[inside]] == values[inside]
        self.times[at[known]] += times[known]
        if not known.all():
            new = ~known
            self.values = np.insert(self.values, at[new], values[new])
            self.times = np.insert(self.times, at[new], times[new])

    def at(self, rank: int) -> float:
        """The value at a rank, from 0, of all values counted."""
        if self._ends is None:
            self._ends = self.times.cumsum()
        return float(self.values[self._ends.searchsorted(rank, side="right")])


def sorted_counts(recent: array[float]) -> tuple[list[float], list[int]]:
    """The distinct values, ascending, and how often each occurs; faster than numpy while they are few."""
    if len(recent) == 1:
        return [recent[0] + 0.0], [1]  # + 0.0 makes -0.0 a plain zero
    counts: dict[float, int] = {}
    for value in sorted(recent):
        counts[value + 0.0] = counts.get(value, 0) + 1
    return list(counts), list(counts.values())
