"""Judges whether the answers of a service agree with a ledger: lost, double, or a statistic that is off. Pure.

Called by `audit` and `run`.

Count, sum, min and max must be equal; quantiles within the error bound that the answer itself states.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from metrics_app.verify.ledger import QUANTILES, Expected, KeyHour, Ledger, Outcome

ROUNDING = 1e-12  # relative; room for the last bits of a double, far below any error bound
EXACT_STATS = {"sum": 0.0, "min": 0.0, "max": 0.0, "average": ROUNDING, "stddev": ROUNDING}  # with relative tolerance


class ServiceAnswer(NamedTuple):
    """What the service says of one key and hour: number of values, statistics by name, relative bound of quantiles."""

    counted: int
    values: Mapping[str, float]
    error_bound: float


class Finding(NamedTuple):
    """The judgement of one key and hour.

    Attributes:
        lost: accepted values that were not counted.
        double: counted values beyond all that were sent and not surely refused.
        errors: relative error by quantile; 0 inside the possible range. Empty when values are lost or double.
        error_bound: largest error that the answer allows itself.
        wrong: a sentence for every statistic outside its possible range or bound.
    """

    key: str
    hour: int
    counted: int
    lost: int
    double: int
    errors: Mapping[str, float]
    error_bound: float
    wrong: tuple[str, ...]


def judge(key: str, hour: int, expected: Expected, answer: ServiceAnswer | None) -> Finding:
    """The finding for one key and hour; `answer` is None where the service has no data."""
    counted = answer.counted if answer else 0
    lost = max(0, expected.ok.count - counted)
    double = max(0, counted - expected.both.count)
    if lost or double or answer is None:
        return Finding(key, hour, counted, lost, double, {}, 0.0, ())
    errors = {stat: _error(expected.range_of(stat), answer.values[stat]) for stat in QUANTILES}
    wrong = [
        f"{stat} {answer.values[stat]!r}: off by {error:.3%}, beyond the stated {answer.error_bound:.3%}"
        for stat, error in errors.items()
        if error > answer.error_bound + ROUNDING
    ]
    for stat, tolerance in EXACT_STATS.items():
        possible = expected.range_of(stat)
        if _error(possible, answer.values[stat]) > tolerance:
            wrong.append(f"{stat} {answer.values[stat]!r}: expected {_spoken(possible)}")
    return Finding(key, hour, counted, 0, 0, errors, answer.error_bound, tuple(wrong))


def _error(possible: tuple[float, float] | None, value: float) -> float:
    """Relative distance of a value from a range; infinite where it cannot be relative; 0 where nothing is known."""
    if possible is None or possible[0] <= value <= possible[1]:
        return 0.0
    nearest = possible[0] if value < possible[0] else possible[1]
    return abs(value - nearest) / nearest if nearest > 0 else math.inf


def _spoken(possible: tuple[float, float] | None) -> str:
    low, high = possible or (math.nan, math.nan)
    return repr(low) if low == high else f"from {low!r} to {high!r}"


@dataclass(frozen=True)
class Verdict:
    """All findings together, counted in values."""

    sent: int
    accepted: int
    refused: int
    unknown: int
    findings: tuple[Finding, ...]

    @property
    def counted(self) -> int:
        """Values that the service has counted."""
        return sum(finding.counted for finding in self.findings)

    @property
    def lost(self) -> int:
        """Accepted values that it has not counted."""
        return sum(finding.lost for finding in self.findings)

    @property
    def double(self) -> int:
        """Values counted beyond what was sent."""
        return sum(finding.double for finding in self.findings)

    @property
    def wrong(self) -> list[str]:
        """All statistics that differ from the expected values."""
        return [f"{of.key} in hour {of.hour}: {sentence}" for of in self.findings for sentence in of.wrong]

    @property
    def error_bound(self) -> float:
        """Largest relative error that an answer allows its quantiles."""
        return max((finding.error_bound for finding in self.findings), default=0.0)

    def worst_error(self, stat: str) -> float:
        """Largest relative error of a quantile over all keys and hours."""
        return max((finding.errors.get(stat, 0.0) for finding in self.findings), default=0.0)

    @property
    def is_right(self) -> bool:
        """Nothing lost, nothing double, every statistic as it must be."""
        return not (self.lost or self.double or self.wrong)


def verdict_of(ledger: Ledger, answers: Mapping[KeyHour, ServiceAnswer | None]) -> Verdict:
    """The judgement of a whole run; `answers` has every key and hour of `ledger.expected()`."""
    findings = tuple(judge(key, hour, of, answers[key, hour]) for (key, hour), of in ledger.expected().items())
    return Verdict(
        sent=ledger.count(),
        accepted=ledger.count(Outcome.OK),
        refused=ledger.count(Outcome.FAIL),
        unknown=ledger.count(Outcome.UNKNOWN),
        findings=findings,
    )
