"""The forecast: what breaks first when more is sent, and at how many times of today's rate.

Called by `views` and `cli.capacity`. Pure: it works from what the workers measured of themselves.
"""

from __future__ import annotations

import msgspec

from metrics_app.system.condition import Condition, SystemState

MIN_RATE = 1.0  # values a second of a worker below which nothing is forecast of it
DAY_S = 86_400


class WorkerCapacity(msgspec.Struct):
    """One worker.

    Attributes:
        values_per_s: what it takes now.
        busy: share of one core that its event loop has now.
        us_per_value: what one more value costs it, in microseconds; of these, folding.
        breaks_at_values_per_s: where its event loop needs a whole core, all that a thread can have; None while
            too little comes to tell.
        times: the same as a multiple of now.
        disk_full_in_days: when its disk is full at the rate of the last minutes; None when it does not fill.
    """

    url: str
    role: str
    values_per_s: float
    busy: float
    us_per_value: float
    fold_us_per_value: float
    lag_per_s: float
    breaks_at_values_per_s: float | None
    times: float | None
    disk_full_in_days: float | None


class Capacity(msgspec.Struct):
    """The forecast for the system.

    Attributes:
        forecast: in a sentence.
        first: URL of the worker that breaks first; None while nothing can be told.
        times: of today's rate at which it does.
        hottest: partition with the most values since the workers started; one worker folds all of it. None without any.
        hottest_share: of all values.
        laggiest: partition with the most records that wait; None when none does.
        unanswered: workers of which nothing is known.
    """

    at: str
    forecast: str
    first: str | None
    times: float | None
    hottest: int | None
    hottest_share: float
    laggiest: int | None
    workers: list[WorkerCapacity]
    unanswered: list[str]


def capacity_of(system: SystemState) -> Capacity:
    """The forecast from what all workers say.

    It takes requests for staying as they are: larger batches make a value cheaper, and so the forecast too careful.
    """
    workers = [_of_worker(each) for each in system.workers]
    told = [each for each in workers if each.times is not None]
    first = min(told, key=lambda each: each.times or 0.0, default=None)
    waiting = [each for each in system.partitions if each.lag]
    laggiest = max(waiting, key=lambda each: each.lag or 0, default=None)
    folded = system.by.get("partition_values", {})
    hottest = max(folded, key=lambda each: folded[each], default=None)
    total = sum(folded.values())
    return Capacity(
        system.at,
        _sentence(first, workers),
        first.url if first else None,
        first.times if first else None,
        int(hottest) if hottest is not None and total else None,
        max(folded.values()) / total if total else 0.0,
        laggiest.partition if laggiest else None,
        workers,
        system.unanswered,
    )


def _of_worker(worker: Condition) -> WorkerCapacity:
    load = worker.load
    known = load.busy_per_value > 0.0 and load.values_per_s >= MIN_RATE
    most = (1.0 - load.idle_busy) / load.busy_per_value if known else None
    fills = load.disk_per_s > 0.0
    return WorkerCapacity(
        worker.url,
        worker.role,
        load.values_per_s,
        load.busy,
        1e6 * load.busy_per_value,
        1e6 * load.fold_busy / load.values_per_s if known else 0.0,
        load.lag_per_s,
        most,
        most / load.values_per_s if most is not None else None,
        worker.disk_free_bytes / load.disk_per_s / DAY_S if fills else None,
    )


def _sentence(first: WorkerCapacity | None, workers: list[WorkerCapacity]) -> str:
    if first is None or first.times is None:
        return "too little is sent to tell what breaks first"
    disks = [each for each in workers if each.disk_full_in_days is not None]
    disk = min(disks, key=lambda each: each.disk_full_in_days or 0.0, default=None)
    soon = f"; the disk of {disk.url} is full in {disk.disk_full_in_days:.1f} days" if disk else ""
    return f"first to break: the event loop of {first.role} {first.url}, at {first.times:.1f} times today's rate{soon}"
