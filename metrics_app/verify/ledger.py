"""Notes what was sent and what became of it, and so what a service may answer. Pure: no I/O, no clock.

Called by `audit`, `course`, `probe`, `run`, `sender` and others.

The rule, for each key and hour: ok <= counted <= ok + unknown. Where nothing is unknown, as when every request is sent
again under the same idempotency key until it is acknowledged, that is equality, and so is every statistic.

A multiset of values and its exact statistics. Pure; shares no code with the service that it is there to judge.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-6  # of a rank
CANCELLATION = 1e-7  # of the largest value; what the difference of two sums of squares may leave of a deviation of zero

KeyHour = tuple[str, int]


class Outcome(StrEnum):
    """What is known of a request: kept; surely not kept; or either, as nobody said or the answer was a 5xx."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Block(NamedTuple):
    """Values of one key, in the order they are sent."""

    key: str
    values: Values


@dataclass(frozen=True, eq=False)
class SentBatch:
    """What one request carries, a block a key; the same batch may be sent many times."""

    blocks: tuple[Block, ...]

    @cached_property
    def count(self) -> int:
        """Number of values."""
        return sum(len(block.values) for block in self.blocks)


@dataclass(frozen=True)
class Expected:
    """What a service may say of one key and hour: all of `ok`, and any part of `unknown`."""

    ok: Bag
    unknown: Bag
    both: Bag

    def range_of(self, stat: str) -> tuple[float, float] | None:
        """Least and greatest value that `stat` can have; None when unknown outcomes leave it open.

        Args:
            stat: a name of `QUANTILES`, or sum, min, max, average, stddev.
        """
        if self.ok.count == 0:
            return None
        if self.unknown.count == 0:
            exact = self.ok.statistic(stat)
            room = CANCELLATION * float(self.ok.values[-1]) if stat == "stddev" else 0.0
            return exact - room, exact + room
        match stat:
            case "sum":
                return self.ok.sum, self.both.sum
            case "min":
                return float(self.both.values[0]), float(self.ok.values[0])
            case "max":
                return float(self.ok.values[-1]), float(self.both.values[-1])
            case "average" | "stddev":
                return None
        return self._quantile_range(QUANTILES[stat])

    def _quantile_range(self, q: float) -> tuple[float, float]:
        # Of any set between `ok` and `both`, the value at a rank, counted from either end, is no nearer to the middle
        # than the value at that rank in `both`; and the set has at least as many ranks below its quantile as `ok`.
        below, above = (math.floor(share * (self.ok.count - 1) - ROUNDING) for share in (q, 1 - q))
        return self.both.at(max(0, below)), self.both.at(self.both.count - 1 - max(0, above))


@dataclass
class Ledger:
    """Every request that was made and its outcome. Recording costs the same whatever a batch holds."""

    _times: Counter[tuple[SentBatch, int, Outcome]] = field(default_factory=Counter)

    def record(self, batch: SentBatch, hour: int, outcome: Outcome) -> None:
        """Notes one request, whose values all belong to `hour`."""
        self._times[batch, hour, outcome] += 1

    def count(self, *outcomes: Outcome) -> int:
        """Values sent with one of these outcomes; all of them when none is named."""
        wanted = outcomes or tuple(Outcome)
        return sum(batch.count * times for (batch, _, outcome), times in self._times.items() if outcome in wanted)

    def counts(self, *outcomes: Outcome) -> Counter[KeyHour]:
        """Values sent with one of these outcomes, by key and hour."""
        counts: Counter[KeyHour] = Counter()
        for (batch, hour, outcome), times in self._times.items():
            if outcome in outcomes:
                counts.update({(key, hour): len(values) * times for key, values in batch.blocks})
        return counts

    def expected(self) -> dict[KeyHour, Expected]:
        """The answers that the service may give, for every key and hour that may have reached it."""
        parts: dict[KeyHour, dict[Outcome, list[tuple[Values, int]]]]
        parts = defaultdict(lambda: defaultdict(list))
        for (batch, hour, outcome), times in self._times.items():
            for key, values in batch.blocks:
                parts[key, hour][outcome].append((values, times))
        return {key_hour: _expected(of[Outcome.OK], of[Outcome.UNKNOWN]) for key_hour, of in parts.items()}


def _expected(ok: list[tuple[Values, int]], unknown: list[tuple[Values, int]]) -> Expected:
    return Expected(Bag.of(ok), Bag.of(unknown), Bag.of([*ok, *unknown]))


QUANTILES = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bag:
    """A multiset of values: distinct values ascending, and how often each is in it."""

    values: Values
    times: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Iterable[tuple[Values, int]]) -> Self:
        """The bag of all parts, each repeated by its number."""
        listed = [(np.empty(0), 0), *parts]
        values, where = np.unique(np.concatenate([values for values, _ in listed]), return_inverse=True)
        weights = np.concatenate([np.full(len(values), times) for values, times in listed])
        # bincount adds in float64, which is exact up to 2**53 values
        return cls(values, np.bincount(where, weights, len(values)).astype(np.int64))

    @cached_property
    def count(self) -> int:
        """Number of values."""
        return int(self.times.sum())

    @cached_property
    def _total(self) -> Fraction:
        """Exact sum of the values: over the greatest denominator, a power of two, which all others divide."""
        ratios = [value.as_integer_ratio() for value in self.values.tolist()]
        unit = max((denominator for _, denominator in ratios), default=1)
        pairs = zip(ratios, self.times.tolist(), strict=True)
        return Fraction(
            sum(times * numerator * (unit // denominator) for (numerator, denominator), times in pairs), unit
        )

    @cached_property
    def sum(self) -> float:
        """Sum of the values, correctly rounded."""
        return float(self._total)

    @property
    def average(self) -> float:
        """Mean; the bag must not be empty."""
        return float(self._total / self.count)

    @property
    def stddev(self) -> float:
        """Population standard deviation; the bag must not be empty."""
        return math.sqrt(float(np.average((self.values - self.average) ** 2, weights=self.times)))

    def quantile(self, q: float) -> float:
        """Quantile by linear interpolation between ranks, as numpy's default; the bag must not be empty."""
        position = q * (self.count - 1)
        low, high = self.at(math.floor(position)), self.at(math.ceil(position))
        return low + (high - low) * (position - math.floor(position))

    def at(self, rank: int) -> float:
        """The value at a rank of the sorted bag, counted from 0."""
        return float(self.values[np.searchsorted(self._ends, rank, side="right")])

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.times)

    def statistic(self, stat: str) -> float:
        """The statistic of that name: sum, min, max, average, stddev, or one of `QUANTILES`; not of an empty bag."""
        match stat:
            case "sum":
                return self.sum
            case "min":
                return float(self.values[0])
            case "max":
                return float(self.values[-1])
            case "average":
                return self.average
            case "stddev":
                return self.stddev
        return self.quantile(QUANTILES[stat])
