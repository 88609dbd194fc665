"""The scale-6 buckets of a summary, in the forms in which other systems take histograms.

OTLP (opentelemetry-proto, ExponentialHistogramDataPoint) numbers a bucket by its lower bound, 2**(i/64) exclusive;
Prometheus (client_model, Histogram) by its upper one, 2**(i/64) inclusive, so the same bucket has a number one higher.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metrics_app.stats.scale6 import ZERO_MAX, bound
from metrics_app.stats.summary import Buckets


class Bucket(NamedTuple):
    """`number` values above `gt`, up to and including `le`."""

    gt: float
    le: float
    number: int


class Span(NamedTuple):
    """`length` buckets that follow each other, `offset` after the span before; the first one counts from 0."""

    offset: int
    length: int


def listed(buckets: Buckets) -> list[Bucket]:
    """The buckets that hold anything, ascending, without the zero bucket."""
    return [
        Bucket(bound(buckets.offset + at), bound(buckets.offset + at + 1), int(buckets.counts[at]))
        for at in np.flatnonzero(buckets.counts).tolist()
    ]


def cumulative(buckets: Buckets) -> list[tuple[float, int]]:
    """Bounds, ascending, and how many values are up to and including each; at both ends of every bucket in use."""
    found = [(ZERO_MAX, buckets.zero_count)]
    for gt, le, number in listed(buckets):
        total = found[-1][1]
        if found[-1][0] < gt:
            found.append((gt, total))
        found.append((le, total + number))
    return found


def spans(buckets: Buckets) -> tuple[list[Span], list[int]]:
    """Spans of buckets in use, numbered as Prometheus does, and the counts, each as the change from the one before."""
    used = np.flatnonzero(buckets.counts)
    starts = [0, *(np.flatnonzero(np.diff(used) > 1) + 1).tolist()] if len(used) else []
    found, end = [], 0
    for nth, first in enumerate(starts):
        length = (starts[nth + 1] if nth + 1 < len(starts) else len(used)) - first
        number = buckets.offset + int(used[first]) + 1
        found.append(Span(number - end, length))
        end = number + length
    return found, np.diff(buckets.counts[used], prepend=0).tolist()
