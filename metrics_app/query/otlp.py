"""A histogram as OTLP JSON (opentelemetry-proto 1.x): one metric with one ExponentialHistogramDataPoint.

In the JSON encoding 64-bit integers are strings and enums are numbers. Delta temporality: the window is the interval.
"""

from __future__ import annotations

from typing import Any

from metrics_app.holdings import Found
from metrics_app.query.question import Window
from metrics_app.stats import hour as hours
from metrics_app.stats.scale6 import SCALE, ZERO_MAX
from metrics_app.stats.summary import Buckets

METRIC = "response_time"
DELTA = 1  # AGGREGATION_TEMPORALITY_DELTA


def metrics(key: str, unit: str, window: Window, found: Found, buckets: Buckets) -> dict[str, Any]:
    """A MetricsData message, which is also the body of an export request."""
    histogram = {"aggregationTemporality": DELTA, "dataPoints": [_point(key, window, found, buckets)]}
    metric = {"name": METRIC, "unit": unit, "exponentialHistogram": histogram}
    return {"resourceMetrics": [{"scopeMetrics": [{"scope": {"name": "metrics-app"}, "metrics": [metric]}]}]}


def _point(key: str, window: Window, found: Found, buckets: Buckets) -> dict[str, Any]:
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
