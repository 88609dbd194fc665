"""The samples that benchmarks share: heavy-tailed response times of so many keys, the same in every run.

They come in blocks, each a function of the seed, the number of keys and its own number, so a shorter run takes a
prefix of what a longer one takes. Values are in ms: log-normal, half of them below 20 ms, one in a thousand above 800
ms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SEED = 20261124
BLOCK = 10_000
MEDIAN_MS, SIGMA = 20.0, 1.2
DECIMALS = 3  # a response time to the microsecond

Values = NDArray[np.float64]
Indexes = NDArray[np.int64]


class Block(NamedTuple):
    """Samples in the order they are sent: the index of each one's key, and its value in ms."""

    keys: Indexes
    values: Values

    def by_key(self) -> Iterator[tuple[int, Values]]:
        """The values of each key that occurs, in the order they were sent."""
        order = np.argsort(self.keys, kind="stable")
        keys, values = self.keys[order], self.values[order]
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        return zip(keys[starts].tolist(), np.split(values, starts[1:]), strict=True)


class Total(NamedTuple):
    """What a system must have counted of one key."""

    count: int  # type: ignore[assignment]  # nobody counts the fields of a total
    sum: float
    min: float
    max: float


@dataclass(frozen=True)
class Samples:
    """`count` samples of `keys` keys: drawn at random, each as likely as any other, or in turn, once in a round."""

    keys: int
    count: int
    in_turn: bool = False

    def name(self, index: int) -> str:
        """The key of that index."""
        return f"key-{index:07d}"

    def blocks(self) -> Iterator[Block]:
        """All samples, `BLOCK` at a time; the last block may be shorter."""
        for number, at in enumerate(range(0, self.count, BLOCK)):
            source = np.random.default_rng((SEED, self.keys, number))
            drawn = source.integers(self.keys, size=BLOCK)
            keys = np.arange(at, at + BLOCK) % self.keys if self.in_turn else drawn
            values = np.round(source.lognormal(np.log(MEDIAN_MS), SIGMA, BLOCK), DECIMALS)
            size = min(BLOCK, self.count - at)
            yield Block(keys[:size], values[:size])

    def totals(self) -> dict[str, Total]:
        """What must have been counted of each key that occurs; sums in float64, added block by block."""
        counts, sums = np.zeros(self.keys, np.int64), np.zeros(self.keys)
        least, most = np.full(self.keys, np.inf), np.zeros(self.keys)
        for keys, values in self.blocks():
            counts += np.bincount(keys, minlength=self.keys)
            sums += np.bincount(keys, values, self.keys)
            np.minimum.at(least, keys, values)
            np.maximum.at(most, keys, values)
        rows = zip(counts.tolist(), sums.tolist(), least.tolist(), most.tolist(), strict=True)
        return {self.name(index): Total(*row) for index, row in enumerate(rows) if row[0]}
