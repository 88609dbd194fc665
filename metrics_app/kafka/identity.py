"""Asks Kafka which cluster and which topics these are, by ids that never change and that no others share.

Called by `watch`, `aggregator` and `archive`.

A topic that is deleted and made anew has the same name and another id (KIP-516). A broker before 2.8 knows none: they
are empty.
"""

from __future__ import annotations

import asyncio
import base64
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient

from metrics_app.faust_runtime.metadata import NO_ID, metadata_with_ids
from metrics_app.kafka.topics import admin_client
from metrics_app.settings import Settings

ANSWER_S = 5.0


class TopicIdentity(NamedTuple):
    """One incarnation of a topic.

    Attributes:
        id: as Kafka's tools print it; empty when the broker knows none.
        partitions: how many it has.
    """

    id: str
    partitions: int


class ClusterIdentity(NamedTuple):
    """One cluster, and the topics it has now, by name.

    Attributes:
        id: as Kafka's tools print it.
    """

    id: str
    topics: dict[str, TopicIdentity]


async def cluster_identity(settings: Settings) -> ClusterIdentity:
    """The identity of the cluster that answers, asked by a connection of its own.

    Raises:
        KafkaError, OSError, TimeoutError: nobody answers.
    """
    async with asyncio.timeout(ANSWER_S), admin_client(settings) as admin:
        return await identity_of(admin)


async def identity_of(admin: AIOKafkaAdminClient) -> ClusterIdentity:
    """The identity of the cluster that a connected admin client talks to.

    Raises:
        KafkaError: it does not answer.
    """
    found = await metadata_with_ids(admin)
    topics = {
        topic["topic"]: TopicIdentity(_text(topic.get("topic_id", NO_ID)), len(topic["partitions"]))
        for topic in found["topics"]
        if topic["partitions"]  # one that is being made has none yet
    }
    return ClusterIdentity(found["cluster_id"] or "", topics)


def _text(uuid: bytes) -> str:
    return "" if uuid == NO_ID else base64.urlsafe_b64encode(uuid).rstrip(b"=").decode()
