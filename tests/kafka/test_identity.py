"""A cluster and a topic are known by their ids, not by their names."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic
from aiokafka.protocol.metadata import MetadataRequest_v5

from metrics_app.faust_runtime import metadata
from metrics_app.kafka import reaching, topics
from metrics_app.kafka.embedded import EmbeddedKafka
from metrics_app.kafka.identity import TopicIdentity, cluster_identity
from metrics_app.kafka.ports import free_port
from metrics_app.settings import Settings
from tests.conftest import MakeSettings

pytestmark = pytest.mark.kafka

KAFKA_ID = 22  # characters


async def make(settings: Settings, name: str, partitions: int) -> None:
    async with topics.admin_client(settings) as admin:
        for _ in range(50):  # a deleted topic is gone a moment after it was acknowledged
            reply = await admin.create_topics([NewTopic(name, partitions, 1)])
            if reply.topic_errors[0][1] == 0:
                return
            await asyncio.sleep(0.1)
    raise AssertionError(reply)


async def topic_of(settings: Settings, name: str) -> TopicIdentity:
    for _ in range(50):
        found = (await cluster_identity(settings)).topics
        if name in found:
            return found[name]
        await asyncio.sleep(0.1)
    raise AssertionError(name)


async def test_a_topic_made_anew_has_another_id_and_the_cluster_the_same(settings: MakeSettings) -> None:
    here = settings()
    before = await cluster_identity(here)
    await make(here, here.samples_topic, 3)
    first = await topic_of(here, here.samples_topic)
    async with topics.admin_client(here) as admin:
        await admin.delete_topics([here.samples_topic])
    await make(here, here.samples_topic, 2)
    second = await topic_of(here, here.samples_topic)
    assert (len(first.id), first.partitions) == (KAFKA_ID, 3)
    assert (len(second.id), second.partitions) == (KAFKA_ID, 2)
    assert first.id != second.id
    assert await topic_of(here, here.samples_topic) == second
    assert (await cluster_identity(here)).id == before.id != ""


async def test_two_clusters_have_two_ids_and_a_restart_keeps_them(
    settings: MakeSettings, make_settings: MakeSettings, tmp_path: Path
) -> None:
    port = free_port()
    broker, there = EmbeddedKafka(tmp_path / "kafka", port), make_settings(kafka=f"127.0.0.1:{port}")
    found = []
    for _ in range(2):
        try:
            broker.start()
            await reaching.wait(there, print)
            found.append((await cluster_identity(there)).id)
        finally:
            broker.stop()
    assert found[0] == found[1] != (await cluster_identity(settings())).id


async def test_a_broker_that_knows_no_topic_ids_is_asked_in_the_older_form(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = settings()
    await make(here, here.samples_topic, 3)
    await topic_of(here, here.samples_topic)
    monkeypatch.setattr(metadata._Metadata, "_CLASSES", (MetadataRequest_v5,))
    found = await cluster_identity(here)
    assert found.id
    assert found.topics[here.samples_topic] == TopicIdentity("", 3)
