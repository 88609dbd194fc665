"""What a process used, and what a drained backlog says of the one that drained it. The arithmetic is pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import psutil

WARM_UP = 1 / 3  # the clock starts when this share of the samples is in: classes are loaded, hot code is compiled


class Point(NamedTuple):
    """The state of a drain: seconds of a monotonic clock, samples done, CPU seconds of its process and of Kafka."""

    at_s: float
    done: int
    cpu_s: float
    broker_cpu_s: float


@dataclass(frozen=True)
class Drain:
    """How fast a backlog was drained once warm, and what a sample of it cost.

    Attributes:
        samples: all samples of the backlog.
        seconds: time between the end of the warm-up and the last sample.
        per_s: samples a second in that time.
        cpu_ns: CPU nanoseconds a sample of the draining process, all its threads, in that time.
        broker_cpu_ns: the same of Kafka.
        rss_mb: resident memory at the end, in MiB.
    """

    samples: int
    seconds: float
    per_s: int
    cpu_ns: int
    broker_cpu_ns: int
    rss_mb: int

    def to_json(self) -> dict[str, Any]:
        """The same for the results document."""
        return asdict(self) | {"seconds": round(self.seconds, 2)}


def drain(points: Sequence[Point], rss_mb: int) -> Drain:
    """The figures of a drain from its states, of which the last one has every sample done.

    The clock runs from the first state past the warm-up to the first one with everything done.
    """
    total = points[-1].done
    first = next(point for point in points if point.done >= WARM_UP * total)
    last = next(point for point in points if point.done == total)
    samples, seconds = last.done - first.done, last.at_s - first.at_s
    if not samples:
        raise ValueError("the backlog was drained between two looks at it: it is too small to time")
    return Drain(
        total,
        seconds,
        round(samples / seconds),
        round(1e9 * (last.cpu_s - first.cpu_s) / samples),
        round(1e9 * (last.broker_cpu_s - first.broker_cpu_s) / samples),
        rss_mb,
    )


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds a process has used, children apart."""
    times = process.cpu_times()
    return float(times.user + times.system)


def rss_mb(process: psutil.Process) -> int:
    """Resident memory of a process in MiB."""
    return round(process.memory_info().rss / 2**20)
