"""Makes the document of an answer of a question and the rows found for it. Pure: no clock, no I/O.

Called by `compared`, `exported`, `orders`, `statistics` and `views`.

A window is final when the copy that answers has folded everything up to some seconds past its end: as long as what was
accepted in it may need into Kafka. A final answer may still be corrected by late samples; its ETag then changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from metrics_app.holdings import FoundRow
from metrics_app.query import hours
from metrics_app.query.question import Window
from metrics_app.stats import intervals
from metrics_app.stats.enclosed import Answer, between
from metrics_app.stats.statistic import parse_stat
from metrics_app.stats.summary import STATS, HourlySummary, value_of, values_of

SUMMARY = "summary"
UNDER = "under"
COUNT = "count"
COUNT_UNIT = "values"
SHARE_UNIT = "share"

WINDOWS = 1024  # of which what is said of them is remembered

Document = dict[str, Any]


class Measured(NamedTuple):
    """What is said of a summary: the value, or several by name; and how good they are."""

    value: Document
    quality: Document


class Measure(NamedTuple):
    """How a statistic is taken.

    Attributes:
        stat: its name.
        unit: of its value.
        take: from a summary that is not empty.
        about: members that say what was asked, beyond the name.
    """

    stat: str
    unit: str
    take: Callable[[HourlySummary], Measured]
    about: Document


def measure_of(stat: str, unit: str) -> Measure:
    """Finds the measure for a statistic's name; `summary` measures all statistics.

    Raises:
        InvalidQueryError: part "stat".
    """
    if stat == SUMMARY:
        return Measure(stat, unit, lambda summary: several(summary, STATS), {})
    parse_stat(stat)
    return Measure(stat, COUNT_UNIT if stat == COUNT else unit, lambda summary: _one(summary, stat), {})


def share_at_most(summary: HourlySummary, limit: float) -> Answer:
    """The share, 0.0 to 1.0, of values <= limit; exact unless the limit cuts a bucket of a histogram.

    At most, not less than: buckets of OTLP and Prometheus include their upper bound, so the share is exact at each.

    Raises:
        ValueError: there is no value.
    """
    if not summary.count:
        raise ValueError("nothing was added")
    least, most = summary.at_most(limit)
    return between(Fraction(least, summary.count), Fraction(most, summary.count))


def share_under(threshold: float, unit: str) -> Measure:
    """The share of values that are at most a threshold."""

    def take(summary: HourlySummary) -> Measured:
        return _measured(share_at_most(summary, threshold), None)

    return Measure(UNDER, SHARE_UNIT, take, {"threshold": threshold, "threshold_unit": unit})


def document(key: str, measure: Measure, window: Window, found: FoundRow) -> Document:
    """The answer for a window, JSON-serialisable, members in the order a reader wants them."""
    value, quality = measure.take(found.summary)
    return {
        "key": key,
        "stat": measure.stat,
        **measure.about,
        **when(window),
        **value,
        "unit": measure.unit,
        "count": found.summary.count,
        "window": _bounds(window),
        "final": is_final(found, window),
        **quality,
        **counts(found),
        **answering(found),
    }


@lru_cache(WINDOWS)
def _iso(epoch_s: int) -> str:
    return hours.iso(datetime.fromtimestamp(epoch_s, UTC))


@lru_cache(WINDOWS)
def _bounds(window: Window) -> Document:
    return window.bounds


@lru_cache(WINDOWS)
def _end_s(window: Window) -> float:
    return window.end_s


def cell(measure: Measure, hour: int, found: FoundRow | None) -> Document:
    """One hour within a longer answer. Without data its value is null and its count 0."""
    start = {"start": hours.iso(hours.start(hour))}
    if found is None:
        return {**start, "values" if measure.stat == SUMMARY else "value": None, "count": 0}
    value, quality = measure.take(found.summary)
    final = is_final(found, Window(hour, hour + 1, "hour"))
    return {**start, **value, "count": found.summary.count, "final": final, **quality, **counts(found)}


def is_final(found: FoundRow, window: Window) -> bool:
    """Whether the window has ended and everything accepted in it has been folded."""
    return found.as_of >= _end_s(window) + found.final_after_s


def answering(found: FoundRow) -> Document:
    """Members that describe how the answer was made; all other members are equal on every worker."""
    return {"as_of": _iso(int(found.as_of // 1)), "stale": found.stale, "role": found.role}


def counts(found: FoundRow) -> Document:
    """Members that say how complete the rows are."""
    missing, lost = (found.missing, 0) if found.loss is None else (None, found.loss.records or None)
    return {"missing": missing, "lost_records": lost, "duplicates": found.duplicates, "late": found.late}


@lru_cache(WINDOWS)
def when(window: Window) -> Document:
    """Members that name the day, and the hour, as the path did; not to be changed."""
    start = hours.start(window.first)
    date = {"date": start.date().isoformat()}
    whens: dict[str, Document] = {"hour": {**date, "hour": start.hour}, "day": date, "range": {}}
    return whens[window.form]


def _one(summary: HourlySummary, stat: str) -> Measured:
    return _measured(value_of(summary, stat), _ci95(summary, stat))


def _measured(got: Answer, ci95: Document | None) -> Measured:
    quality = {"exact": got.exact, "error_bound": got.error_bound, "lo": got.lo, "hi": got.hi, "ci95": ci95}
    return Measured({"value": got.value}, quality)


def several(summary: HourlySummary, stats: Iterable[str]) -> Measured:
    """Some statistics by name, and the bounds of each."""
    summary = summary.settled()
    got = values_of(summary, stats)
    bounds = {
        stat: {"lo": each.lo, "hi": each.hi, "exact": each.exact, "ci95": _ci95(summary, stat)}
        for stat, each in got.items()
    }
    quality = {
        "exact": all(each.exact for each in got.values()),
        "error_bound": max(each.error_bound for each in got.values()),
        "bounds": bounds,
    }
    return Measured({"values": {stat: each.value for stat, each in got.items()}}, quality)


def _ci95(summary: HourlySummary, stat: str) -> Document | None:
    q = parse_stat(stat).q
    found = None if q is None else intervals.of_quantile(summary, q)
    return None if found is None else found._asdict()
