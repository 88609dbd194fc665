"""Decides whether a local copy was taken from the changelog that Kafka has now.

Called by `replica` before it reads, once for each copy.

A copy leads to an offset, and an offset does not say whose it is: the data folder may have met another Kafka, the topic
may have been made anew, the broker restored from a backup. So a copy also holds the id of the cluster and of the topic,
and when the newest record up to its offset was appended. A log that goes on from there reaches further than the offset,
and every record appended later lies after it: the same two proofs as for the samples topic (`source_log`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import UnknownTopicOrPartitionError
from faust.types import TP

from metrics_app.aggregator.local_state import AHEAD, DIVERGED, FOREIGN
from metrics_app.kafka.identity import ClusterIdentity

if TYPE_CHECKING:
    from metrics_app.aggregator.store import HourStore

logger = logging.getLogger(__name__)

ANSWER_S = 10.0
FETCH_MS = 2000
REMADE = "remade"

AskIdentity = Callable[[], Awaitable[ClusterIdentity]]


class CopyOrigin(NamedTuple):
    """A changelog: ids of the cluster and of the topic; the latter is empty where Kafka knows none."""

    cluster: str
    topic: str

    def encode(self) -> bytes:
        """What a copy holds of it."""
        return f"{self.cluster} {self.topic}".encode()

    @classmethod
    def decode(cls, value: bytes) -> CopyOrigin:
        """The origin that a copy holds."""
        cluster, _, topic = value.decode().partition(" ")
        return cls(cluster, topic)


class Reached(NamedTuple):
    """How far a copy leads.

    Attributes:
        offset: the last one it holds everything up to; -1 for an empty copy.
        appended_ms: log-append time of the newest record up to there; 0 where it was not noted.
    """

    offset: int
    appended_ms: int


def difference(copy: CopyOrigin | None, here: CopyOrigin, reached: Reached, end: int, newer: int | None) -> str | None:
    """Why a copy is not one of this changelog, in a word; None when it is.

    Args:
        copy: where it was taken from; None when it does not say.
        end: the offset after the last record of the changelog.
        newer: the first offset appended later than all the copy has; None when there is none, or it cannot be told.
    """
    if copy is not None and copy.cluster != here.cluster:
        return FOREIGN
    if copy is not None and copy.topic and here.topic and copy.topic != here.topic:
        return REMADE
    if reached.offset >= end:
        return AHEAD
    return DIVERGED if newer is not None and newer <= reached.offset else None


class Matching:
    """Matches local copies with the changelog.

    Args:
        ask: which Kafka this is.
    """

    def __init__(self, store: HourStore, ask: AskIdentity) -> None:
        self.store = store
        self.ask = ask

    async def match(self, reader: AIOKafkaConsumer, tps: Collection[TP]) -> None:
        """Afterwards each copy is of this changelog: as it was, put aside and empty, or detached from an earlier one.

        Args:
            reader: a started consumer; it may be left at any position.
        Raises:
            KafkaError, TimeoutError: Kafka did not say.
        """
        async with asyncio.timeout(ANSWER_S):
            here = await self.ask()
            ends = await reader.end_offsets(list(tps))
            reached = {tp: self.store.reached(tp) for tp in tps}
            known = {tp: each.appended_ms + 1 for tp, each in reached.items() if each.appended_ms}
            newer = await reader.offsets_for_times(known) if known else {}
            for tp in tps:
                if tp.topic not in here.topics:
                    raise UnknownTopicOrPartitionError(tp.topic)
                origin = CopyOrigin(here.id, here.topics[tp.topic].id)
                first_newer = found.offset if (found := newer.get(tp)) is not None else None
                reason = difference(self.store.origin(tp.partition), origin, reached[tp], ends[tp], first_newer)
                if reason is None and reached[tp].offset >= 0 and tp not in known:
                    reason = None if await self._has_its_last_record(reader, tp, reached[tp].offset) else DIVERGED
                self._act_on(tp, reason, reached[tp], ends[tp])
                self.store.matched(tp.partition, origin)

    def _act_on(self, tp: TP, reason: str | None, reached: Reached, end: int) -> None:
        if reason == REMADE and self.store.has_been_whole(tp.partition):
            logger.error("%s was made anew: partition %s is written to it from its local copy", tp.topic, tp.partition)
            self.store.detach(tp.partition)
        elif reason is not None:
            detail = f"it leads to offset {reached.offset} of a changelog that is not the one here, which ends at {end}"
            self.store.rebuild(tp.partition, reason, detail)

    async def _has_its_last_record(self, reader: AIOKafkaConsumer, tp: TP, offset: int) -> bool:
        """Whether the changelog has the last record that a copy of an earlier release was taken from."""
        reader.assign([tp])
        reader.seek(tp, offset)
        for record in (await reader.getmany(tp, timeout_ms=FETCH_MS, max_records=1)).get(tp, ()):
            return bool(
                record.offset == offset
                and record.key
                and self.store.read(tp.partition, record.key) == record.value is not None
            )
        return False
