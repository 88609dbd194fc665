"""Runs beside the fold: compares checkpoints with the log, shows completeness, and expires copies of others' rows.

Called by `role`, which starts it with the tables.
"""

from __future__ import annotations

import asyncio
import logging

import faust
import mode
from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted

from metrics_app.aggregator.completeness import LogEnd
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.source_log import SourceLog
from metrics_app.telemetry import Telemetry

logger = logging.getLogger(__name__)

COMPARE_INTERVAL_S = 0.1
PROOF_INTERVAL_S = 1.0
FIRST_PROOF_INTERVAL_S = 0.2
PROOF_DEADLINE_S = 5.0
EXPIRE_INTERVAL_S = 10.0
NO_ANSWER = (KafkaError, TimeoutError, ConsumerNotStarted)


class Upkeep(mode.Service):
    """Three small loops.

    Attributes:
        lags: records not folded of each owned partition, as last shown.
        proofs: how often that was shown.
    """

    def __init__(self, app: faust.App, log: SourceLog, partitions: Partitions, telemetry: Telemetry) -> None:
        super().__init__()
        self.app = app
        self.log_of_samples = log
        self.partitions = partitions
        self.telemetry = telemetry
        self.lags: dict[int, int] = {}
        self.proofs = 0

    @property
    def is_settled(self) -> bool:
        """No rebalance and no recovery is under way."""
        return self.app.tables.actives_ready and not self.app.rebalancing

    @mode.Service.task
    async def _compare(self) -> None:
        while not self.should_stop:
            await self.sleep(COMPARE_INTERVAL_S)
            if self.is_settled and not self.partitions.all_compared.is_set():
                try:
                    await self.partitions.compare()
                except NO_ANSWER as error:
                    logger.warning("could not ask Kafka what the samples topic holds: %r", error)
                    await self.sleep(PROOF_INTERVAL_S)

    @mode.Service.task
    async def _prove(self) -> None:
        while not self.should_stop:
            # questions about keys without a row wait for the first proof
            await self.sleep(FIRST_PROOF_INTERVAL_S if self.partitions.unproven else PROOF_INTERVAL_S)
            if not self.is_settled:
                continue
            try:
                proof = prove_completeness(self.log_of_samples, self.partitions, self.telemetry)
                self.lags = await asyncio.wait_for(proof, PROOF_DEADLINE_S)
                self.proofs += 1
            except NO_ANSWER as error:
                # nothing is shown, so answers say that they may be stale
                logger.warning("could not ask Kafka how far the samples topic reaches: %r", error)

    @mode.Service.task
    async def _expire_standbys(self) -> None:
        while not self.should_stop:
            await self.sleep(EXPIRE_INTERVAL_S)
            if self.is_settled:
                self.partitions.expire_standbys()


async def prove_completeness(log: SourceLog, partitions: Partitions, telemetry: Telemetry) -> dict[int, int]:
    """Notes for each owned partition whether everything it held a moment ago is folded; returns its lag in records."""
    at = partitions.clocks.now()
    with telemetry.round_trip.time():
        ends = await log.ends(partitions.checkpoints)
    lags = {}
    for partition, offset in ends.items():
        if partition not in partitions.checkpoints:
            continue
        end = LogEnd(offset, at, partitions.clocks.both_s(partition, at) or 0.0)
        lag = partitions.of(partition).lag_at(end)
        if lag is None:
            partitions.doubt(partition)
            continue
        lags[partition] = lag
        telemetry.lag.labels(str(partition)).set(lag)
    return lags
