"""Which Kafka this is, and which topics: the ids that a cluster and its topics keep for life, and never share.

A topic that is deleted and made anew has the same name and another id (KIP-516). aiokafka speaks a form of the metadata
request that is older than these ids, so a newer one is described here. A broker before 2.8 knows none: they are empty.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from metrics_app.kafka.topics import admin_client
from metrics_app.settings import Settings

ANSWER_S = 5.0
METADATA = 3  # key of the request, in the Kafka protocol
UUID_BYTES = 16
NO_ID = bytes(UUID_BYTES)


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
    reply: Any = await admin._send_request(_Metadata())
    found = reply.to_object()
    topics = {
        topic["topic"]: TopicIdentity(_text(topic.get("topic_id", NO_ID)), len(topic["partitions"]))
        for topic in found["topics"]
        if topic["partitions"]  # one that is being made has none yet
    }
    return ClusterIdentity(found["cluster_id"] or "", topics)


def _text(uuid: bytes) -> str:
    return "" if uuid == NO_ID else base64.urlsafe_b64encode(uuid).rstrip(b"=").decode()


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]  # aiokafka has no types; so below
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: Any) -> bytes:
        value: bytes = data.read(UUID_BYTES)
        return value


_BROKER = (
    ("node_id", Int32),
    ("host", CompactString("utf-8")),
    ("port", Int32),
    ("rack", CompactString("utf-8")),
    ("tags", TaggedFields),
)
_PARTITION = (
    ("error_code", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", CompactArray(Int32)),
    ("isr", CompactArray(Int32)),
    ("offline_replicas", CompactArray(Int32)),
    ("tags", TaggedFields),
)
_TOPIC = (
    ("error_code", Int16),
    ("topic", CompactString("utf-8")),
    ("topic_id", _Uuid),
    ("is_internal", Boolean),
    ("partitions", CompactArray(*_PARTITION)),
    ("authorized_operations", Int32),
    ("tags", TaggedFields),
)


class _MetadataResponse10(Response):  # type: ignore[misc]
    API_KEY = METADATA
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(*_BROKER)),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        ("topics", CompactArray(*_TOPIC)),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequest10(RequestStruct):  # type: ignore[misc]
    API_KEY = METADATA
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse10
    SCHEMA = Schema(
        ("topics", CompactArray(CompactString("utf-8"))),  # none stands for all, and only that is asked here
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_operations", Boolean),
        ("include_topic_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Metadata(Request[MetadataRequest_v5 | _MetadataRequest10]):  # type: ignore[misc]
    """Asks for all topics, and makes none."""

    API_KEY = METADATA

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class is _MetadataRequest10:
            return _MetadataRequest10(None, False, False, False, {})
        return MetadataRequest_v5(None, False)
