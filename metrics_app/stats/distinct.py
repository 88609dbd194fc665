"""Counts of distinct values in sorted arrays: 16 bytes a distinct value."""

from __future__ import annotations

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

    def add_counts(self, values: Values, times: Counts) -> None:
        """Counts more of some values, ascending and no two equal; the arrays are not kept."""
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
        return float(self.values[np.searchsorted(np.cumsum(self.times), rank, side="right")])
