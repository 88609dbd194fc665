"""What the watchdog looks at: everything of this worker that may not stand still."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any, cast

import faust
from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.tables.manager import TableManager
from faust.types import TP

from metrics_app.aggregator.agent import Folding
from metrics_app.aggregator.flusher import Flusher
from metrics_app.aggregator.upkeep import Upkeep
from metrics_app.aggregator.watchdog import Symptom
from metrics_app.broker import layout, topics
from metrics_app.settings import Settings

logger = logging.getLogger(__name__)

ANSWER_S = 5.0
POSITION_S = 2.0
BUSY_S = 30.0  # standstill of one partition, while others are folded, after which its next record is asked for
ITS_TURN = 3  # times the limit of a standstill that a partition may wait for others


class Symptoms:
    """The symptoms of one worker, read from its parts."""

    def __init__(self, app: faust.App, settings: Settings, folding: Folding, flusher: Flusher, upkeep: Upkeep) -> None:
        self.app = app
        self.settings = settings
        self.folding = folding
        self.flusher = flusher
        self.upkeep = upkeep

    @property
    def _tables(self) -> TableManager:
        return cast(TableManager, self.app.tables)

    @property
    def _recovery(self) -> Any:
        return self._tables.recovery

    def now(self) -> dict[str, Symptom]:
        """Those that may be watched now, by name."""
        limit_s = self.settings.stall_timeout_s
        if self._recovery.in_recovery:
            moves = *sorted(self._recovery.active_offsets.items()), *sorted(self._recovery.written.items())
            return {"recovery": Symptom(moves, limit_s, "recovery reads nothing from the changelog")}
        if not self.upkeep.is_settled:
            longest_s = 3 * self.settings.session_timeout_s + 60
            return {"rebalance": Symptom(None, longest_s, "a rebalance does not end")}
        found = {"proof": Symptom(self.upkeep.proofs, limit_s, "Faust's consumer does not answer")}
        if self.flusher.failing_since is not None:
            found["flush"] = Symptom(self.flusher.failing_since, limit_s, "no flush succeeds")
        return found | self._lags(limit_s)

    def _lags(self, limit_s: float) -> dict[str, Symptom]:
        partitions = self.folding.partitions
        if not partitions.all_compared.is_set():
            sentence = "places cannot be compared with the samples topic"
            return {"compare": Symptom(partitions.indexed, limit_s, sentence)}
        behind = [
            partition
            for partition in partitions.active
            if self.upkeep.lags.get(partition) and partition not in partitions.stopped  # these have said why
        ]
        found = {
            # of a partition alone: with a backlog of others, it may have to wait its turn
            _lag(partition): Symptom(
                partitions.active[partition].fold.offset,
                ITS_TURN * limit_s,
                f"partition {partition} has records and none is folded",
            )
            for partition in behind
        }
        if behind:
            taken = self.folding.taken if self.folding.is_busy else tuple(each.marker for each in found.values())
            found["fold"] = Symptom(taken, limit_s, "this worker has records and none is folded")
        return found

    async def kafka_answers(self) -> bool:
        """Whether Kafka is in a state in which everything could go on, asked by a connection of its own."""
        needed = {topic.name: topic for topic in layout.topics(self.settings) if topic.fixed}
        try:
            async with asyncio.timeout(ANSWER_S), topics.admin_client(self.settings) as admin:
                found = [topic for topic in await admin.describe_topics() if topic["topic"] in needed]
        except (KafkaError, OSError, TimeoutError):
            return False
        return len(found) == len(needed) and all(
            partition["leader"] >= 0
            and len(partition["isr"]) >= int(needed[topic["topic"]].config["min.insync.replicas"])
            for topic in found
            for partition in topic["partitions"]
        )

    async def remedy(self, lasting: Mapping[str, float]) -> None:
        """Asks again for records that Faust has fetched and dropped.

        Without a later record in its partition, what was dropped is no hole that the fold could see. While others are
        folded a partition has longer: what only waits its turn would be fetched again and again.

        Args:
            lasting: the symptoms that have lasted for a while, and for how many seconds.
        """
        patience_s = BUSY_S if self.folding.is_busy else 0.0
        for partition, active in list(self.folding.partitions.active.items()):
            if lasting.get(_lag(partition), -1.0) >= patience_s:
                wanted = active.fold.offset + 1
                logger.warning("partition %s: offset %s does not come, asking for it again", partition, wanted)
                with contextlib.suppress(KafkaError, OSError, TimeoutError, ConsumerNotStarted):  # the watchdog goes on
                    if await self.folding.step_over(TP(self.settings.samples_topic, partition), active):
                        wanted = active.fold.offset + 1
                    await asyncio.wait_for(self.upkeep.log_of_samples.seek(partition, wanted), POSITION_S)


def _lag(partition: int) -> str:
    return f"lag {partition}"
