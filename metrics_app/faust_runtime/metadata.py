"""Asks Kafka for the ids of topics (KIP-516), in a form of the metadata request that aiokafka does not have.

Called by `kafka.identity`.
"""

from __future__ import annotations

from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

METADATA = 3  # key of the request, in the Kafka protocol
UUID_BYTES = 16
NO_ID = bytes(UUID_BYTES)


async def metadata_with_ids(admin: AIOKafkaAdminClient) -> dict[str, Any]:
    """What a cluster says of itself and of all topics, as the fields of the protocol.

    Topics have no `topic_id` where the broker is older than 2.8.

    Raises:
        KafkaError: it does not answer.
    """
    reply: Any = await admin._send_request(_Metadata())
    found: dict[str, Any] = reply.to_object()
    return found


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
        ("topics", CompactArray(CompactString("utf-8"))),  # null asks for all topics; no other question is asked here
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
