"""Puts the aggregator together: table, agent, flusher, and the reader the query role asks."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NamedTuple, cast

import faust
import mode
from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.tables.manager import TableManager
from faust.types import EventT

from metrics_app.aggregator.agent import Folding, Partitions, prove_completeness
from metrics_app.aggregator.flusher import Flusher
from metrics_app.aggregator.fold import Limits
from metrics_app.aggregator.reader import GroupOwners, TableReader
from metrics_app.aggregator.table import HourlyTable, new_table
from metrics_app.broker import client
from metrics_app.settings import Settings
from metrics_app.telemetry import Telemetry
from metrics_app.web import Health

logger = logging.getLogger(__name__)

STANDBY_FLUSH_S = 0.5
PROOF_INTERVAL_S = 1.0
PROOF_DEADLINE_S = 5.0


class Aggregator(NamedTuple):
    """The parts other roles and the worker need."""

    reader: TableReader
    owners: GroupOwners
    services: list[mode.Service]


def register(app: faust.App, settings: Settings, telemetry: Telemetry, health: Health) -> Aggregator:
    """Adds table and agent to the app; the services returned are to be started with it."""
    table = new_table(app, settings.partitions)
    partitions = Partitions(table, limits_of(settings))
    flusher = Flusher(
        table,
        partitions,
        telemetry,
        interval_s=settings.flush_interval_s,
        deadline_s=client.REQUEST_SHARE * settings.session_timeout_s,
        new_producer=lambda: client.producer(settings, linger_ms=5),
    )

    async def dead_letter(event: EventT[Any], reason: str) -> None:
        message = event.message
        origin = {"topic": message.topic, "partition": message.partition, "offset": message.offset, "reason": reason}
        headers = [(name, str(value).encode()) for name, value in origin.items()]
        await flusher.dead_letter(settings.dead_letter_topic, message.value or b"", headers)
        telemetry.dead_lettered.labels(reason.partition(":")[0]).inc()

    folding = Folding(app, partitions, telemetry, settings.max_dirty_rows, dead_letter, flusher.flush)
    topic = app.topic(
        settings.samples_topic,
        key_type=bytes,
        key_serializer="raw",
        value_type=bytes,
        value_serializer="raw",
        partitions=settings.partitions,
        internal=True,
    )
    app.agent(topic, name="fold", concurrency=1)(folding.consume)  # out of order is what more would be
    _follow_the_group(app, settings, partitions)
    health.checks["table"] = lambda: _recovering(app)
    services = [flusher, Upkeep(app, table, partitions, settings.samples_topic, telemetry)]
    return Aggregator(TableReader(app, table, partitions), GroupOwners(app, table, settings.url), services)


def limits_of(settings: Settings) -> Limits:
    """Bounds of the fold of each partition."""
    return Limits(
        retention_hours=settings.retention_days * 24,
        exact_distinct=settings.exact_distinct,
        max_clean_rows=max(100, settings.max_cached_rows // settings.partitions),
    )


def _follow_the_group(app: faust.App, settings: Settings, partitions: Partitions) -> None:
    @app.on_partitions_revoked.connect
    async def on_revoked(_app: Any, /, *_revoked: Any, **_: Any) -> None:
        partitions.revoke()

    @app.on_partitions_assigned.connect
    async def on_assigned(_app: Any, /, *assigned: Any, **_: Any) -> None:
        partitions.assign({tp.partition for tp in assigned[0] if tp.topic == settings.samples_topic})


def _recovering(app: faust.App) -> str | None:
    if app.rebalancing:
        return "partitions are being reassigned"
    if not app.tables.actives_ready:
        return "recovering from the changelog"
    return None


class Upkeep(mode.Service):
    """Shows completeness and lag, and lets standby rows become visible."""

    def __init__(
        self, app: faust.App, table: HourlyTable, partitions: Partitions, topic: str, telemetry: Telemetry
    ) -> None:
        super().__init__()
        self.app = app
        self.table = table
        self.partitions = partitions
        self.topic = topic
        self.telemetry = telemetry

    @mode.Service.task
    async def _prove(self) -> None:
        while not self.should_stop:
            await self.sleep(PROOF_INTERVAL_S)
            if self.app.rebalancing or not self.app.tables.actives_ready:
                continue
            try:
                proof = prove_completeness(self.app, self.topic, self.partitions, self.telemetry)
                await asyncio.wait_for(proof, PROOF_DEADLINE_S)
            except (KafkaError, TimeoutError, ConsumerNotStarted) as error:
                # nothing is shown, so answers say that they may be stale
                logger.warning("could not ask Kafka how far the samples topic reaches: %r", error)

    @mode.Service.task
    async def _show_standby_rows(self) -> None:
        while not self.should_stop:
            await self.sleep(STANDBY_FLUSH_S)
            if not self.app.rebalancing:
                cast(TableManager, self.app.tables).recovery.flush_buffers()
