"""A row and a question become the JSON document of an answer. Pure: no clock, no I/O.

An hour is final when the copy that answers has folded everything up to FINAL_AFTER_S past its end. A final answer may
still be corrected by late samples; its ETag then changes. `as_of`, `stale` and `role` describe the answering, not the
row, and are left out of the tag, so that every worker gives the same tag for the same row.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from metrics_app.holdings import Found
from metrics_app.stats import hour as hours
from metrics_app.stats.summary import STATS, value_of

SUMMARY = "summary"
COUNT = "count"
COUNT_UNIT = "values"

# what a sample may need from a collector into Kafka (linger, the broker's ack), with room for clocks that differ
FINAL_AFTER_S = 5.0

_OF_THE_ANSWERING = ("as_of", "stale", "role")


class Question(NamedTuple):
    """A statistic of one key in one hour.

    Attributes:
        key: 1-256 bytes of UTF-8.
        stat: a name that `parse_stat` takes.
        hour: hours since 1970-01-01T00Z.
    """

    key: str
    stat: str
    hour: int


def document(question: Question, found: Found, unit: str) -> dict[str, Any]:
    """The answer, JSON-serialisable, members in the order a reader wants them.

    Args:
        unit: unit of the values; counts say so themselves.
    """
    start, end = hours.start(question.hour), hours.end(question.hour)
    result = _all(found) if question.stat == SUMMARY else _one(found, question.stat)
    value, quality = result
    return {
        "key": question.key,
        "stat": question.stat,
        "date": start.date().isoformat(),
        "hour": start.hour,
        **value,
        "unit": COUNT_UNIT if question.stat == COUNT else unit,
        "count": found.summary.count,
        "window": {"start": hours.iso(start), "end": hours.iso(end)},
        "final": found.as_of >= end.timestamp() + FINAL_AFTER_S,
        **quality,
        "missing": found.missing,
        "duplicates": found.duplicates,
        "late": found.late,
        "as_of": hours.iso(datetime.fromtimestamp(found.as_of, UTC)),
        "stale": found.stale,
        "role": found.role,
    }


def caching(answer: dict[str, Any]) -> dict[str, str]:
    """Response headers ETag and Cache-Control of a document.

    A minute, not for ever: a late correction must be seen. What is open or stale is out of date at once.
    """
    if not answer["final"] or answer["stale"]:
        return {"Cache-Control": "no-store"}
    return {"ETag": f'"{_tag(answer)}"', "Cache-Control": "public, max-age=60"}


def _one(found: Found, stat: str) -> tuple[dict[str, Any], dict[str, Any]]:
    got = value_of(found.summary, stat)
    quality = {"exact": got.exact, "error_bound": got.error_bound, "lo": got.lo, "hi": got.hi}
    return {"value": got.value}, quality


def _all(found: Found) -> tuple[dict[str, Any], dict[str, Any]]:
    got = {stat: value_of(found.summary, stat) for stat in STATS}
    bounds = {stat: {"lo": each.lo, "hi": each.hi, "exact": each.exact} for stat, each in got.items()}
    quality = {
        "exact": all(each.exact for each in got.values()),
        "error_bound": max(each.error_bound for each in got.values()),
        "bounds": bounds,
    }
    return {"values": {stat: each.value for stat, each in got.items()}}, quality


def _tag(answer: dict[str, Any]) -> str:
    of_the_row = {name: member for name, member in answer.items() if name not in _OF_THE_ANSWERING}
    return blake2b(msgspec.json.encode(of_the_row), digest_size=16).hexdigest()
