"""The histogram itself, so that percentiles can be taken and merged elsewhere: `/<key>/histogram/<date>/<hour>`.

Called by `federated` and `views`.

    json               buckets with their bounds, and how good the answer is
    csv                the same, a line a bucket
    otlp               OTLP JSON of one exponential histogram, as a collector takes it at /v1/metrics
    prometheus         a classic histogram in the text format
    prometheus-native  a native histogram: JSON of client_model's MetricFamily, schema 6

All are of scale 6, whatever the row holds, and lossless to each other; sum, min and max are exact.

A histogram as OTLP JSON (opentelemetry-proto 1.x): one metric with one ExponentialHistogramDataPoint.

In the JSON encoding 64-bit integers are strings and enums are numbers. Delta temporality: the window is the interval.

A histogram as Prometheus knows it: classic, in the text format; and native, as JSON of client_model's messages.

The scale-6 buckets of a summary, in the forms in which other systems take histograms.

OTLP (opentelemetry-proto, ExponentialHistogramDataPoint) numbers a bucket by its lower bound, 2**(i/64) exclusive;
Prometheus (client_model, Histogram) by its upper one, 2**(i/64) inclusive, so the same bucket has a number one higher.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Self

import numpy as np

from metrics_app.holdings import FoundRow
from metrics_app.query import hours
from metrics_app.query.answer import Document, answering, counts, is_final, when
from metrics_app.query.question import Policy, Question, Window
from metrics_app.query.reading import Rows
from metrics_app.query.reply import CSV, JSON, Others, Sheet, Table
from metrics_app.stats.scale6 import ERROR_BOUND, SCALE, ZERO_MAX
from metrics_app.stats.summary import Buckets

HISTOGRAM = "histogram"
OTLP, CLASSIC, NATIVE = "otlp", "prometheus", "prometheus-native"
FORMATS = (JSON, CSV, OTLP, CLASSIC, NATIVE)


class Exported(NamedTuple):
    """What is to be exported."""

    question: Question
    unit: str

    @staticmethod
    def parameters(in_path: bool, policy: Policy) -> tuple[str, ...]:
        """Names of the query parameters that this question allows."""
        return ()

    @classmethod
    def of(cls, question: Question, policy: Policy) -> Self:
        """Makes the question; its parts have been checked before."""
        return cls(question, policy.unit)

    async def answer(self, rows: Rows) -> Sheet:
        """The histogram; NoDataError when nothing was recorded."""
        key, window = self.question.key, self.question.window
        found = (await rows.read(window)).whole
        buckets = found.summary.scale6_buckets()
        final = is_final(found, window)
        as_json = self._document(found)
        whole = (key, self.unit, window, found, buckets)
        others: Others = {
            OTLP: lambda: metrics(*whole),
            NATIVE: lambda: native(*whole),
            CLASSIC: lambda: classic(*whole),
        }
        return Sheet(as_json, lambda: _table(as_json), final and not found.stale, others=others)

    def _document(self, found: FoundRow) -> Document:
        summary, buckets = found.summary, found.summary.scale6_buckets()
        return {
            "key": self.question.key,
            "stat": HISTOGRAM,
            **when(self.question.window),
            "unit": self.unit,
            "count": summary.count,
            "sum": summary.sum,
            "min": summary.min,
            "max": summary.max,
            "scale": SCALE,
            "zero_threshold": ZERO_MAX,
            "zero_count": buckets.zero_count,
            "buckets": [{"gt": gt, "le": le, "count": number} for gt, le, number in buckets.listed],
            "error_bound": ERROR_BOUND,
            "window": self.question.window.bounds,
            "final": is_final(found, self.question.window),
            **counts(found),
            **answering(found),
        }


def _table(answer: Document) -> Table:
    yield ("key", "start", "end", "unit", "gt", "le", "count", "final", "as_of", "stale", "role")
    before = (answer["key"], *answer["window"].values(), answer["unit"])
    after = (answer["final"], answer["as_of"], answer["stale"], answer["role"])
    if answer["zero_count"]:
        yield (*before, None, ZERO_MAX, answer["zero_count"], *after)
    for each in answer["buckets"]:
        yield (*before, *each.values(), *after)


METRIC = "response_time"
DELTA = 1  # AGGREGATION_TEMPORALITY_DELTA


def metrics(key: str, unit: str, window: Window, found: FoundRow, buckets: Buckets) -> dict[str, Any]:
    """A MetricsData message, which is also the body of an export request."""
    histogram = {"aggregationTemporality": DELTA, "dataPoints": [_point(key, window, found, buckets)]}
    metric = {"name": METRIC, "unit": unit, "exponentialHistogram": histogram}
    return {"resourceMetrics": [{"scopeMetrics": [{"scope": {"name": "metrics-app"}, "metrics": [metric]}]}]}


def _point(key: str, window: Window, found: FoundRow, buckets: Buckets) -> dict[str, Any]:
    start_s = hours.start(window.first).timestamp()
    # of a time that is not over, the interval ends where the knowledge does
    end_s = max(start_s, min(window.end_s, found.as_of))
    return {
        "attributes": [{"key": "key", "value": {"stringValue": key}}],
        "startTimeUnixNano": _nanos(start_s),
        "timeUnixNano": _nanos(end_s),
        "count": str(found.summary.count),
        "sum": found.summary.sum,
        "min": found.summary.min,
        "max": found.summary.max,
        "scale": SCALE,
        "zeroThreshold": ZERO_MAX,
        "zeroCount": str(buckets.zero_count),
        "positive": {"offset": buckets.offset, "bucketCounts": [str(each) for each in buckets.counts.tolist()]},
    }


def _nanos(epoch_s: float) -> str:
    return str(int(epoch_s * 1000) * 1_000_000)


HELP = "Response times."


def classic(key: str, unit: str, window: Window, found: FoundRow, buckets: Buckets) -> bytes:
    """The text format, version 0.0.4; a bound at both ends of every bucket in use."""
    name, label = name_of(unit), f'key="{escaped(key)}"'
    lines = [f"# HELP {name} {HELP}", f"# TYPE {name} histogram"]
    lines += [f'{name}_bucket{{{label},le="{le!r}"}} {number}' for le, number in cumulative(buckets)]
    lines += [f'{name}_bucket{{{label},le="+Inf"}} {found.summary.count}']
    lines += [f"{name}_sum{{{label}}} {found.summary.sum!r}", f"{name}_count{{{label}}} {found.summary.count}", ""]
    return "\n".join(lines).encode()


def native(key: str, unit: str, window: Window, found: FoundRow, buckets: Buckets) -> dict[str, Any]:
    """A MetricFamily in protobuf's JSON, where 64-bit integers are strings."""
    runs, deltas = spans(buckets)
    histogram = {
        "sampleCount": str(found.summary.count),
        "sampleSum": found.summary.sum,
        "schema": SCALE,
        "zeroThreshold": ZERO_MAX,
        "zeroCount": str(buckets.zero_count),
        "positiveSpan": [each._asdict() for each in runs],
        "positiveDelta": [str(each) for each in deltas],
    }
    metric = {"label": [{"name": "key", "value": key}], "histogram": histogram}
    return {"name": name_of(unit), "help": HELP, "type": "HISTOGRAM", "metric": [metric]}


def name_of(unit: str) -> str:
    """Name of the metric, with the unit of the values in it where that makes a name."""
    suffix = re.sub("[^a-zA-Z0-9_]+", "_", unit).strip("_")
    return f"response_time_{suffix}" if suffix else "response_time"


def escaped(key: str) -> str:
    """A key as the value of a label."""
    return key.replace("\\", r"\\").replace('"', r"\"")  # a key has no line feed


class BucketSpan(NamedTuple):
    """`length` buckets that follow each other, `offset` after the span before; the first one counts from 0."""

    offset: int
    length: int


def cumulative(buckets: Buckets) -> list[tuple[float, int]]:
    """Bounds at both ends of every bucket in use, ascending, each with the number of values at most equal to it."""
    found = [(ZERO_MAX, buckets.zero_count)]
    for gt, le, number in buckets.listed:
        total = found[-1][1]
        if found[-1][0] < gt:
            found.append((gt, total))
        found.append((le, total + number))
    return found


def spans(buckets: Buckets) -> tuple[list[BucketSpan], list[int]]:
    """Spans of buckets in use, numbered as Prometheus does, and the counts, each as the change from the one before."""
    used = np.flatnonzero(buckets.counts)
    starts = [0, *(np.flatnonzero(np.diff(used) > 1) + 1).tolist()] if len(used) else []
    found, end = [], 0
    for nth, first in enumerate(starts):
        length = (starts[nth + 1] if nth + 1 < len(starts) else len(used)) - first
        number = buckets.offset + int(used[first]) + 1
        found.append(BucketSpan(number - end, length))
        end = number + length
    return found, np.diff(buckets.counts[used], prepend=0).tolist()
