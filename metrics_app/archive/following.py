"""Follows the changelog of every partition to its end and archives what is sealed: one pass, or one after another.

Called by `cli.archive`.

Why the changelog: docs/adr/0014.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from metrics_app.archive.keeping import Archive
from metrics_app.archive.manifest import ArchiveOf, ArchivePlace
from metrics_app.archive.pending import MOST_BYTES, Pending
from metrics_app.errors import BrokerError
from metrics_app.kafka import connections
from metrics_app.kafka.identity import cluster_identity
from metrics_app.settings import Settings
from metrics_app.wire.partition import partition_of

POLL_MS = 500
Say = Callable[[str], None]


class ArchivePass(NamedTuple):
    """What one pass has done.

    Attributes:
        hours: archived for the first time, of all partitions.
        corrected: hours that got a newer version.
        rows, values: in the files that were written.
    """

    hours: int = 0
    corrected: int = 0
    rows: int = 0
    values: int = 0

    def plus(self, other: ArchivePass) -> ArchivePass:
        """Both together."""
        return ArchivePass(*map(sum, zip(self, other, strict=True)))


class Follower:
    """Archives the partitions of one changelog.

    Args:
        most_bytes: of rows held at a time, of one partition.
    """

    def __init__(self, settings: Settings, archive: Archive, say: Say, most_bytes: int = MOST_BYTES) -> None:
        self.settings = settings
        self.archive = archive
        self.say = say
        self.most_bytes = most_bytes
        self.partitions: dict[int, Pending] = {}
        self.topic_id: str | None = None

    async def once(self) -> ArchivePass:
        """Reads to the end as it is now, and archives what is sealed.

        Raises:
            ArchiveError: the archive cannot be used.
            BrokerError: the changelog is not there, or not as the settings say.
            KafkaError, OSError, TimeoutError: Kafka does not answer.
        """
        await self._meet()
        done = ArchivePass()
        async with connections.reader(self.settings) as consumer:
            tps = [TopicPartition(self.settings.changelog_topic, partition) for partition in self.partitions]
            consumer.assign(tps)
            consumer.pause(*tps)
            for partition in self.partitions:
                done = done.plus(await self._partition(consumer, partition))
        return done

    async def _meet(self) -> None:
        """Makes sure that this is the cluster and topic of the archive; another incarnation is read from its start."""
        identity, topic = await cluster_identity(self.settings), self.settings.changelog_topic
        if topic not in identity.topics:
            raise BrokerError(f"there is no topic {topic}: an aggregator makes it; METRICS_NAME names another one")
        found = identity.topics[topic]
        if found.partitions != self.settings.partitions:
            raise BrokerError(
                f"topic {topic} has {found.partitions} partitions, METRICS_PARTITIONS says {self.settings.partitions}"
            )
        self.archive.belong_to(ArchiveOf(identity.id, topic, found.partitions))
        if found.id != self.topic_id:
            self.topic_id = found.id
            self.partitions = {
                partition: self._begin(partition, self.archive.place(partition, found.id).offset)
                for partition in range(found.partitions)
            }

    def _begin(self, partition: int, offset: int) -> Pending:
        def belongs(key: bytes) -> bool:
            return partition_of(key, self.settings.partitions) == partition

        return Pending(belongs, offset, self.most_bytes)

    async def _partition(self, consumer: AIOKafkaConsumer, partition: int) -> ArchivePass:
        done, progress = ArchivePass(), True
        while progress:
            pending = await self._read(consumer, TopicPartition(self.settings.changelog_topic, partition))
            progress = bool(pending.ready())
            done = done.plus(self._keep(partition, pending))
            progress = pending.read_again() and progress
            self._note_place(partition, pending)
        return done

    def _note_place(self, partition: int, pending: Pending) -> None:
        topic_id = self.topic_id or ""
        sealed = max(self.archive.place(partition, topic_id).sealed, pending.checkpoint.sealed)
        self.archive.note_place(partition, ArchivePlace(topic_id, pending.resume, sealed))

    async def _read(self, consumer: AIOKafkaConsumer, tp: TopicPartition) -> Pending:
        first = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        pending = self.partitions[tp.partition]
        if pending.position > end:
            self.say(f"partition {tp.partition}: the changelog is shorter than it was, and is read from its start")
            pending = self.partitions[tp.partition] = self._begin(tp.partition, first)
        elif 0 < pending.position < first:
            self.say(f"partition {tp.partition}: Kafka has deleted changelog records before they were archived")
        bad = pending.bad
        consumer.seek(tp, max(pending.position, first))
        consumer.resume(tp)
        while await consumer.position(tp) < end:
            for record in (await consumer.getmany(tp, timeout_ms=POLL_MS)).get(tp, ()):
                pending.take(record.offset, record.key, record.value)
        consumer.pause(tp)
        pending.position = max(pending.position, end)
        if pending.bad > bad:
            self.say(f"partition {tp.partition}: {pending.bad - bad} records of the changelog were not taken in")
        return pending

    def _keep(self, partition: int, pending: Pending) -> ArchivePass:
        done = ArchivePass()
        for hour, rows in pending.ready().items():
            kept = self.archive.keep(partition, hour, rows, pending.checkpoint)
            pending.archived(hour)
            if kept is not None:
                is_first = kept.version == 1
                done = done.plus(ArchivePass(is_first, not is_first, kept.rows, kept.values))
        return done
