"""A histogram as Prometheus knows it: classic, in the text format; and native, as JSON of client_model's messages."""

from __future__ import annotations

import re
from typing import Any

from metrics_app.holdings import Found
from metrics_app.query.question import Window
from metrics_app.stats import forms
from metrics_app.stats.scale6 import SCALE, ZERO_MAX
from metrics_app.stats.summary import Buckets

HELP = "Response times."


def classic(key: str, unit: str, window: Window, found: Found, buckets: Buckets) -> bytes:
    """The text format, version 0.0.4; a bound at both ends of every bucket in use."""
    name, label = name_of(unit), f'key="{_escaped(key)}"'
    lines = [f"# HELP {name} {HELP}", f"# TYPE {name} histogram"]
    lines += [f'{name}_bucket{{{label},le="{le!r}"}} {number}' for le, number in forms.cumulative(buckets)]
    lines += [f'{name}_bucket{{{label},le="+Inf"}} {found.summary.count}']
    lines += [f"{name}_sum{{{label}}} {found.summary.sum!r}", f"{name}_count{{{label}}} {found.summary.count}", ""]
    return "\n".join(lines).encode()


def native(key: str, unit: str, window: Window, found: Found, buckets: Buckets) -> dict[str, Any]:
    """A MetricFamily in protobuf's JSON, where 64-bit integers are strings."""
    spans, deltas = forms.spans(buckets)
    histogram = {
        "sampleCount": str(found.summary.count),
        "sampleSum": found.summary.sum,
        "schema": SCALE,
        "zeroThreshold": ZERO_MAX,
        "zeroCount": str(buckets.zero_count),
        "positiveSpan": [each._asdict() for each in spans],
        "positiveDelta": [str(each) for each in deltas],
    }
    metric = {"label": [{"name": "key", "value": key}], "histogram": histogram}
    return {"name": name_of(unit), "help": HELP, "type": "HISTOGRAM", "metric": [metric]}


def name_of(unit: str) -> str:
    """Name of the metric, with the unit of the values in it where that makes a name."""
    suffix = re.sub("[^a-zA-Z0-9_]+", "_", unit).strip("_")
    return f"response_time_{suffix}" if suffix else "response_time"


def _escaped(key: str) -> str:
    return key.replace("\\", r"\\").replace('"', r"\"")  # a key has no line feed
