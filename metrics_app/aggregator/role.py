"""Puts the aggregator together: table, agent, flusher, upkeep, watchdog, and the reader that the query role asks.

Called by `app`. `SoleUse` keeps two workers out of one data folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import faust
import mode
from faust.exceptions import ConsumerNotStarted

from metrics_app.aggregator.agent import Folding
from metrics_app.aggregator.dead_letters import StopRule, headers_of, kind_of
from metrics_app.aggregator.fencing import changelog_reader
from metrics_app.aggregator.flusher import Flusher
from metrics_app.aggregator.fold import FoldLimits
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.reader import CaughtUp, TableReader
from metrics_app.aggregator.replica import Replica
from metrics_app.aggregator.source_log import SourceLog
from metrics_app.aggregator.table import new_table
from metrics_app.aggregator.upkeep import Upkeep
from metrics_app.aggregator.watchdog import LoopGuard, Symptoms, Watchdog
from metrics_app.clocks import Clocks
from metrics_app.faust_runtime.consumer import Record, RunConsumer
from metrics_app.faust_runtime.group import GroupOwners
from metrics_app.faust_runtime.tables import Tables
from metrics_app.http.problems import Health
from metrics_app.kafka import connections
from metrics_app.kafka.identity import cluster_identity
from metrics_app.kafka.watch import TopicsWatch
from metrics_app.process import EXIT_UNUSABLE, leave
from metrics_app.settings import Settings
from metrics_app.telemetry import Telemetry

logger = logging.getLogger(__name__)


class Aggregator(NamedTuple):
    """The parts other roles and the worker need.

    Attributes:
        before_kafka: to be started before the worker joins the group.
        services: to be started with the tables.
        committable: what is to be committed of a partition of the samples topic.
    """

    reader: TableReader
    owners: GroupOwners
    before_kafka: list[mode.Service]
    services: list[mode.Service]
    committable: Callable[[int], int | None]


def register(
    app: faust.App, settings: Settings, telemetry: Telemetry, health: Health, watch: TopicsWatch
) -> Aggregator:
    """Adds table and agent to the app; the services returned are to be started with it."""
    table = new_table(app, settings.partitions)
    table.on_rebuild = lambda reason: telemetry.state_rebuilds.labels(reason).inc()
    table.on_bad = telemetry.bad_rows.inc
    replica = Replica(
        table,
        lambda: connections.reader(settings),
        lambda: connections.producer(settings, linger_ms=5),
        lambda: cluster_identity(settings),
    )
    cast(Tables, app.tables).delegate_to(replica)
    log = SourceLog(app, settings.samples_topic)
    clocks = Clocks(settings.clock_tolerance_s, telemetry)
    table.latest_ms = lambda: int((clocks.now().own_s + clocks.tolerance_s) * 1000)
    partitions = Partitions(table, limits_of(settings), log, telemetry, clocks)
    telemetry.id_horizon.set_function(partitions.ids_known_for_s)
    telemetry.partitions.set(settings.partitions)
    telemetry.owned.set_function(lambda: len(partitions.owned))
    telemetry.recovering.set_function(lambda: sum(each.total - each.done for each in [*replica.progress.values()]))
    flusher = Flusher(
        table,
        partitions,
        telemetry,
        interval_s=settings.flush_interval_s,
        deadline_s=connections.REQUEST_SHARE * settings.session_timeout_s,
        new_producer=lambda: connections.producer(settings, linger_ms=5),
        read_changelog=changelog_reader(settings),
    )

    flusher.distrust = lambda why: watch.distrust(table.changelog_topic_name, why)
    watch.on_remade.append(lambda names: _begin_anew(app, names - {settings.dead_letter_topic}))
    watch.on_unusable.append(lambda why: leave(EXIT_UNUSABLE, why))

    async def dead_letter(record: Record, reason: str) -> None:
        await flusher.dead_letter(settings.dead_letter_topic, record.value or b"", headers_of(record, reason))
        telemetry.dead_lettered.labels(kind_of(reason)).inc()

    def new_rule() -> StopRule:
        return StopRule(settings.dead_letters_in_row, settings.dead_letters_percent)

    folding = Folding(app, partitions, telemetry, settings.max_dirty_rows, dead_letter, flusher.flush, new_rule)
    folding.first_record = lambda partition, offset: connections.first_record(
        settings, settings.samples_topic, partition, offset
    )
    topic = app.topic(
        settings.samples_topic,
        key_type=bytes,
        key_serializer="raw",
        value_type=bytes,
        value_serializer="raw",
        partitions=settings.partitions,
        internal=True,
    )
    app.agent(topic, name="fold", concurrency=1)(folding.consume)  # a second agent would fold out of order
    owners = GroupOwners(app, table.changelog_topic_name, settings.url, settings.data_dir)
    _follow_the_group(app, settings, partitions, owners, telemetry)
    upkeep = Upkeep(app, log, partitions, telemetry)
    symptoms = Symptoms(settings, replica, folding, flusher, upkeep)
    watchdog = Watchdog(symptoms.now, symptoms.kafka_answers, symptoms.remedy)
    health.warnings["clock"] = clocks.warning
    caught_up = CaughtUp(partitions)
    health.checks["table"] = lambda: _recovering(app, partitions, replica) or caught_up.problem()
    health.checks["dead_letters"] = lambda: _stopped(partitions)
    health.checks["watchdog"] = watchdog.suspicion
    telemetry.suspicion.set_function(lambda: watchdog.suspicion() is not None)
    health.vital["watchdog"] = watchdog.overdue
    return Aggregator(
        TableReader(app, table, partitions, replica, final_after_s(settings)),
        owners,
        before_kafka=[SoleUse(settings.data_dir), LoopGuard(settings.session_timeout_s)],
        services=[flusher, upkeep, watchdog],
        committable=partitions.committable,
    )


async def _begin_anew(app: faust.App, names: set[str]) -> None:
    """Has all partitions assigned again: copies and checkpoints are then compared with the topics that exist."""
    if names:
        try:
            await cast(RunConsumer, app.consumer).rejoin()
        except ConsumerNotStarted:  # the first assignment is to come
            logger.info("not in the group yet")


def final_after_s(settings: Settings) -> float:
    """How long after an hour what a collector took in it may still be on its way into Kafka, and clocks may differ."""
    return connections.PATIENCE * settings.request_deadline_s + settings.clock_tolerance_s


def limits_of(settings: Settings) -> FoldLimits:
    """Bounds of the fold of each partition."""
    return FoldLimits(
        retention_hours=settings.retention_days * 24,
        id_horizon_hours=settings.id_horizon_hours,
        exact_distinct=settings.exact_distinct,
        max_clean_rows=max(100, settings.max_cached_rows // settings.partitions),
        clock_tolerance_s=settings.clock_tolerance_s,
        max_ahead_s=settings.max_ahead_s,
    )


def _follow_the_group(
    app: faust.App, settings: Settings, partitions: Partitions, owners: GroupOwners, telemetry: Telemetry
) -> None:
    @app.on_partitions_revoked.connect
    async def on_revoked(_app: Any, /, *_revoked: Any, **_: Any) -> None:
        partitions.revoke()
        telemetry.lag.clear()  # whoever has them next tells how far they are

    @app.on_partitions_assigned.connect
    async def on_assigned(_app: Any, /, *assigned: Any, **_: Any) -> None:
        telemetry.rebalances.inc()
        partitions.assign({tp.partition for tp in assigned[0] if tp.topic == settings.samples_topic})
        partitions.clocks.keep(partitions.owned)
        await asyncio.to_thread(owners.note)  # a disk may take seconds


def _stopped(partitions: Partitions) -> str | None:
    """Why nothing at all is folded here; a worker that still folds some of its partitions goes on."""
    reasons = [partitions.stopped[partition] for partition in sorted(partitions.owned & partitions.stopped.keys())]
    return reasons[0] if reasons and len(reasons) == len(partitions.owned) else None


def _recovering(app: faust.App, partitions: Partitions, replica: Replica) -> str | None:
    if replica.progress:
        return "; ".join(map(str, replica.progress.values()))
    if app.rebalancing:
        return "partitions are being reassigned"
    if not app.tables.actives_ready:
        return "recovering from the changelog"
    if not partitions.all_compared.is_set():
        return "comparing what is folded with the samples topic"
    return None


WAIT_S = 5.0  # a predecessor may be on its way out
POLL_S = 0.1


class SoleUse(mode.Service):
    """Holds a data folder from its start to the end of the process; the kernel frees it, however that ends."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._held: IO[str] | None = None

    async def on_start(self) -> None:
        """Returns when the folder is ours; ends the process when it does not become so."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._held = (self.folder / "aggregator.lock").open("w")
        waited_s = 0.0
        while not self._lock(self._held):
            if waited_s >= WAIT_S:
                leave(
                    EXIT_UNUSABLE, f"another worker uses {self.folder}; give each its own --data-dir (METRICS_DATA_DIR)"
                )
            await self.sleep(POLL_S)
            waited_s += POLL_S

    def _lock(self, file: IO[str]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
