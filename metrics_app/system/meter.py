"""Measures how much a worker does and what a value costs it, from its own counters and clocks, all the time.

Called by `views`, which starts it.

The event loop is what ends first: one thread does nearly all. How busy it is, is the share of a core that it had.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import mode
from prometheus_client.metrics import MetricWrapperBase

from metrics_app.system.condition import Load
from metrics_app.telemetry import Telemetry

INTERVAL_S = 2.0
KEPT = 150  # five minutes
SPREAD = 0.3  # rates must differ by this share of the greatest before a line through them says something
QUANTILE = 0.99

Buckets = tuple[tuple[float, float], ...]


class Measurement(NamedTuple):
    """Counters and clocks at one moment; all but `lag` and `disk_free` only grow.

    Attributes:
        at: monotonic seconds.
        busy_s: seconds that the thread of the event loop had a core.
    """

    at: float
    busy_s: float
    received: float
    folded: float
    fold_s: float
    lag: float
    disk_free: float
    freshness: Buckets = ()
    query: Buckets = ()
    loop_delay: Buckets = ()


class Meter(mode.Service):
    """Notes a `Measurement` every two seconds, in the thread of the event loop."""

    def __init__(self, telemetry: Telemetry, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._telemetry = telemetry
        self._folder = folder
        self._clock = clock
        self._noted: deque[Measurement] = deque(maxlen=KEPT)

    def load(self) -> Load:
        """What was measured so far."""
        return load_of([*self._noted])

    @mode.Service.task
    async def _measure(self) -> None:
        while not self.should_stop:
            self._noted.append(self._now())
            await self.sleep(INTERVAL_S)

    def _now(self) -> Measurement:
        told = self._telemetry
        return Measurement(
            self._clock(),
            time.thread_time(),
            _sum(told.received),
            _sum(told.folded),
            _sum(told.fold_time),
            _sum(told.lag),
            disk(self._folder).free,
            _buckets(told.freshness),
            _buckets(told.query_latency),
            _buckets(told.loop_delay),
        )


class Disk(NamedTuple):
    """Of the disk of a folder, in bytes."""

    total: int
    free: int


def disk(folder: Path) -> Disk:
    """The disk of a folder, or of the next one above it that exists."""
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path("/"))
    usage = shutil.disk_usage(there)
    return Disk(usage.total, usage.free)


def load_of(noted: list[Measurement]) -> Load:
    """What is to be said of measurements that follow each other."""
    if len(noted) < 2 or noted[-1].at <= noted[0].at:
        return Load()
    first, last = noted[0], noted[-1]
    took_s = last.at - first.at
    points = [_point(one, next_) for one, next_ in pairwise(noted) if next_.at > one.at]
    idle, per_value = line(points)
    recent, since = points[-RECENT:], noted[-RECENT - 1 :][0]
    return Load(
        window_s=took_s,
        values_per_s=sum(rate for rate, _ in recent) / len(recent),
        busy=sum(busy for _, busy in recent) / len(recent),
        fold_busy=(last.fold_s - since.fold_s) / (last.at - since.at),
        idle_busy=idle,
        busy_per_value=per_value,
        lag_per_s=(last.lag - first.lag) / took_s,
        disk_per_s=(first.disk_free - last.disk_free) / took_s,
        freshness_p99_s=quantile(first.freshness, last.freshness),
        query_p99_s=quantile(first.query, last.query),
        loop_delay_p99_s=quantile(first.loop_delay, last.loop_delay),
    )


RECENT = 10  # measurements that are "now"


def _point(one: Measurement, after: Measurement) -> tuple[float, float]:
    """Values a second, and how busy the loop was with them."""
    took_s = after.at - one.at
    values = max(after.received - one.received, after.folded - one.folded)
    return values / took_s, min(1.0, max(0.0, (after.busy_s - one.busy_s) / took_s))


def line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """How busy the loop is without values, and what a value adds, in seconds of it: least squares.

    While the rate hardly changes nobody knows what is there without values: then all is the values', and what is
    forecast is too little rather than too much.
    """
    mean_rate = sum(rate for rate, _ in points) / len(points)
    mean_busy = sum(busy for _, busy in points) / len(points)
    rates = [rate for rate, _ in points]
    squares = sum((rate - mean_rate) ** 2 for rate in rates)  # 0 also where rates are too small to be squared
    if max(rates) - min(rates) > SPREAD * max(rates) and squares > 0.0:
        slope = sum((rate - mean_rate) * (busy - mean_busy) for rate, busy in points) / squares
        if slope > 0.0 and (idle := mean_busy - slope * mean_rate) >= 0.0:
            return idle, slope
    return 0.0, mean_busy / mean_rate if mean_rate else 0.0


def quantile(before: Buckets, after: Buckets) -> float | None:
    """Upper edge of the bucket that the 99th percentile of what was counted in between is in; None without any."""
    earlier = dict(before)
    grown = [(edge, count - earlier.get(edge, 0.0)) for edge, count in after]
    if not grown or grown[-1][1] <= 0.0:
        return None
    finite = [edge for edge, count in grown if count >= QUANTILE * grown[-1][1] and edge != float("inf")]
    return finite[0] if finite else grown[-2][0]


def _sum(metric: MetricWrapperBase) -> float:
    return sum(each.value for found in metric.collect() for each in found.samples if not each.name.endswith("_created"))


def _buckets(metric: MetricWrapperBase) -> Buckets:
    """Edges and how many were at most so much, over all labels."""
    found: dict[float, float] = {}
    for sample in [each for family in metric.collect() for each in family.samples if each.name.endswith("_bucket")]:
        edge = float(sample.labels["le"])
        found[edge] = found.get(edge, 0.0) + sample.value
    return tuple(sorted(found.items()))
