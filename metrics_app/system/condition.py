"""What one worker says of itself, and what all of them together say of the system: plain data, for people and pages.

Called by `views`, `meter`, `capacity` and `cli.status`.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from metrics_app.errors import Progress
from metrics_app.holdings import ACTIVE


class Load(msgspec.Struct):
    """How much a worker does, over the last minutes.

    Attributes:
        window_s: seconds it was measured over; 0 before there is anything to say.
        values_per_s: values read from bodies or folded, whichever were more.
        busy: share of one core, 0 to 1, that its event loop had.
        fold_busy: the part of it that was spent folding.
        idle_busy, busy_per_value: the line through what was measured: busy = idle_busy + busy_per_value * values_per_s.
        lag_per_s: by how many records a second its lag grew.
        disk_per_s: by how many bytes a second the space left on its disk shrank.
        freshness_p99_s, query_p99_s, loop_delay_p99_s: 99th percentiles, upper edges of buckets; None without any.
    """

    window_s: float = 0.0
    values_per_s: float = 0.0
    busy: float = 0.0
    fold_busy: float = 0.0
    idle_busy: float = 0.0
    busy_per_value: float = 0.0
    lag_per_s: float = 0.0
    disk_per_s: float = 0.0
    freshness_p99_s: float | None = None
    query_p99_s: float | None = None
    loop_delay_p99_s: float | None = None


class Condition(msgspec.Struct):
    """One worker.

    Attributes:
        role: collector, aggregator or all.
        started, told: epoch seconds by its clock: of its start, and of these words.
        checks: readiness checks that fail, with the reason; empty when it is ready.
        roles: of each partition it holds a copy of: active, standby or recovering.
        lags: records not folded yet of each partition that it owns.
        totals: counters without labels since its start, named as in docs/metrics.md without prefix and `_total`.
        by: counters with one label, by its value.
        disk_free_bytes: on the disk of its data folder.
        rows: hourly rows that it has in memory.
    """

    url: str
    role: str
    version: str
    pid: int
    started: float
    told: float
    checks: dict[str, str]
    warnings: dict[str, str]
    roles: dict[int, str]
    lags: dict[int, int]
    recovering: list[Progress]
    totals: dict[str, float]
    by: dict[str, dict[str, float]]
    load: Load
    memory_bytes: int
    descriptors: int
    descriptors_max: int
    disk_free_bytes: int
    disk_bytes: int
    rows: int = 0


class PartitionState(msgspec.Struct):
    """Who has one partition.

    Attributes:
        owner: URL of the worker that folds it; None when nobody does.
        copies: URLs of those that have a copy beside.
        lag: records not folded yet; None when nobody knows.
    """

    partition: int
    owner: str | None
    copies: list[str]
    lag: int | None
    recovering: Progress | None


class SystemState(msgspec.Struct):
    """All workers that answered.

    Attributes:
        at: when, RFC 3339.
        unanswered: URLs of workers of the group that did not answer in time.
        totals, by: as of `Condition`, summed.
        wrong: what somebody should look at, a sentence each; empty when all is well.
    """

    at: str
    workers: list[Condition]
    unanswered: list[str]
    partitions: list[PartitionState]
    totals: dict[str, float]
    by: dict[str, dict[str, float]]
    wrong: list[str] = []


def joined(workers: list[Condition], unanswered: list[str], partitions: int, now_s: float) -> SystemState:
    """The system of these workers."""
    at = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    by: dict[str, dict[str, float]] = {}
    for worker in workers:
        for name, counted in worker.by.items():
            by[name] = summed([by.get(name, {}), counted])
    states = [_state(number, workers) for number in range(partitions)]
    ordered = sorted(workers, key=lambda worker: worker.url)
    system = SystemState(at, ordered, sorted(unanswered), states, summed([each.totals for each in workers]), by)
    system.wrong = _wrong(system)
    return system


def together(systems: list[SystemState], now_s: float) -> SystemState:
    """What several workers say of the system, as one; who is named twice counts once."""
    workers = {worker.url: worker for system in systems for worker in system.workers}
    unanswered = {url for system in systems for url in system.unanswered} - workers.keys()
    partitions = max((len(system.partitions) for system in systems), default=0)
    return joined([*workers.values()], [*unanswered], partitions, now_s)


def summed(counted: list[dict[str, float]]) -> dict[str, float]:
    """The sum of what is counted under each name."""
    return {name: sum(each.get(name, 0.0) for each in counted) for name in {n: None for each in counted for n in each}}


def _state(number: int, workers: list[Condition]) -> PartitionState:
    owners = [worker for worker in workers if worker.roles.get(number) == ACTIVE]
    copies = [worker.url for worker in workers if number in worker.roles and worker.roles[number] != ACTIVE]
    lag = owners[0].lags.get(number) if owners else None
    progress = [each for worker in workers for each in worker.recovering if each.partition == number]
    return PartitionState(number, owners[0].url if owners else None, copies, lag, progress[0] if progress else None)


def _wrong(system: SystemState) -> list[str]:
    found = [f"{url} does not answer" for url in system.unanswered]
    for worker in system.workers:
        found += [f"{worker.url} is not ready: {name}: {why}" for name, why in worker.checks.items()]
        found += [f"{worker.url} warns: {name}: {why}" for name, why in worker.warnings.items()]
    unowned = [str(each.partition) for each in system.partitions if each.owner is None]
    if unowned:
        found.append(f"nobody folds partitions {', '.join(unowned)}")
    if lost := system.totals.get("lost_records"):
        found.append(f"{lost:,.0f} records were deleted by Kafka before they were folded")
    return found
