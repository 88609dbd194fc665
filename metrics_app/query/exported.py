"""The histogram itself, so that percentiles can be taken and merged elsewhere: `/<key>/histogram/<date>/<hour>`.

    json               buckets with their bounds, and how good the answer is
    csv                the same, a line a bucket
    otlp               OTLP JSON of one exponential histogram, as a collector takes it at /v1/metrics
    prometheus         a classic histogram in the text format
    prometheus-native  a native histogram: JSON of client_model's MetricFamily, schema 6

All are of scale 6, whatever the row holds, and lossless to each other; sum, min and max are exact.
"""

from __future__ import annotations

from typing import NamedTuple, Self

from metrics_app.holdings import Found
from metrics_app.query import otlp, prometheus
from metrics_app.query.answer import Document, answering, counts, is_final, when
from metrics_app.query.question import Policy, Question
from metrics_app.query.reading import Rows
from metrics_app.query.reply import CSV, JSON, Others, Sheet, Table
from metrics_app.stats import forms
from metrics_app.stats.scale6 import ERROR_BOUND, SCALE, ZERO_MAX

HISTOGRAM = "histogram"
OTLP, CLASSIC, NATIVE = "otlp", "prometheus", "prometheus-native"
FORMATS = (JSON, CSV, OTLP, CLASSIC, NATIVE)


class Exported(NamedTuple):
    """What is to be exported."""

    question: Question
    unit: str

    @staticmethod
    def parameters(in_path: bool, policy: Policy) -> tuple[str, ...]:
        """Names of the parameters it takes."""
        return ()

    @classmethod
    def of(cls, question: Question, policy: Policy) -> Self:
        """The question understood; nothing in it can be wrong any more."""
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
            OTLP: lambda: otlp.metrics(*whole),
            NATIVE: lambda: prometheus.native(*whole),
            CLASSIC: lambda: prometheus.classic(*whole),
        }
        return Sheet(as_json, lambda: _table(as_json), final and not found.stale, others=others)

    def _document(self, found: Found) -> Document:
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
            "buckets": [{"gt": gt, "le": le, "count": number} for gt, le, number in forms.listed(buckets)],
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
