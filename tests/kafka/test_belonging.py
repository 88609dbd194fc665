"""A data folder belongs to one cluster, whoever answers at the address of its Kafka."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiokafka.client
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from metrics_app.errors import BrokerError
from metrics_app.faust_runtime.producer import abandon
from metrics_app.kafka import belonging, connections, reaching, topics
from metrics_app.kafka.embedded import EmbeddedKafka
from metrics_app.kafka.ports import free_port
from metrics_app.settings import Settings
from tests.conftest import MakeSettings

OURS, OTHER = "MOurs", "MOther"


def test_a_folder_that_has_met_no_kafka_takes_any(make_settings: MakeSettings) -> None:
    here = make_settings()
    assert belonging.objection(here, OURS) == ""
    assert not here.data_dir.exists()  # a command that only looks leaves nothing behind


def test_another_cluster_than_the_one_noted_is_refused_with_how_to_accept_it(make_settings: MakeSettings) -> None:
    here = make_settings()
    belonging.note(here.data_dir, OURS)
    assert belonging.objection(here, OURS) == belonging.objection(here, "") == ""
    problem = belonging.objection(here, OTHER)
    assert f"is cluster {OTHER}, and {here.data_dir} belongs to cluster {OURS}" in problem
    assert f"METRICS_KAFKA_CLUSTER_ID={OTHER}" in problem


def test_a_cluster_id_that_was_set_wins_over_the_note(make_settings: MakeSettings) -> None:
    here = make_settings(kafka_cluster_id=OTHER)
    belonging.note(here.data_dir, OURS)
    assert belonging.objection(here, OTHER) == ""
    assert f"METRICS_KAFKA_CLUSTER_ID says {OTHER}" in belonging.objection(here, OURS)


def test_a_note_is_found_in_the_folder_of_any_worker(tmp_path: Path) -> None:
    assert belonging.noted_in_any(tmp_path) == ""
    belonging.note(tmp_path / "worker-1", OURS)
    assert belonging.noted_in_any(tmp_path) == OURS


@pytest.mark.kafka
async def test_the_first_kafka_is_noted_and_a_new_one_once_it_is_accepted(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = settings()
    found = await guarded_contact(here, monkeypatch)
    assert found == belonging.noted(here.data_dir) != ""
    belonging.note(here.data_dir, OTHER)
    with pytest.raises(BrokerError, match=f"not ours: .*METRICS_KAFKA_CLUSTER_ID={found}"):
        await reaching.wait(here, print)
    with pytest.raises(KafkaError):
        await guarded_contact(here, monkeypatch)
    await guarded_contact(here.model_copy(update={"kafka_cluster_id": found}), monkeypatch)
    assert belonging.noted(here.data_dir) == found


async def guarded_contact(here: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(aiokafka.client, "create_conn", aiokafka.client.create_conn)
        belonging.guard(here)
        async with topics.admin_client(here) as admin:
            cluster: dict[str, str] = await admin.describe_cluster()
            return cluster["cluster_id"]


@pytest.mark.kafka
async def test_a_first_kafka_that_cannot_be_noted_is_kept_to_as_long_as_the_process_lives(
    settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").touch()
    here = settings(data_dir=tmp_path / "a file" / "data")
    monkeypatch.setattr(aiokafka.client, "create_conn", aiokafka.client.create_conn)
    belonging.guard(here)
    async with topics.admin_client(here):
        monkeypatch.setattr(belonging, "cluster_of", _is_other)
        with pytest.raises(KafkaError):
            async with topics.admin_client(here):
                pass


async def _is_other(_connection: object) -> str:
    return OTHER


@pytest.mark.kafka
async def test_while_ours_may_still_come_another_in_its_place_is_waited_out(settings: MakeSettings) -> None:
    said: list[str] = []
    with pytest.raises(BrokerError, match=r"has not answered for 0\.2 s"):
        await reaching.wait(settings(kafka_cluster_id=OTHER), said.append, patience_s=0.2)
    assert f"METRICS_KAFKA_CLUSTER_ID says {OTHER}" in said[0]


@pytest.mark.kafka
async def test_a_producer_whose_broker_is_gone_sends_nothing_to_the_one_that_took_its_port(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    here = make_settings(kafka=f"127.0.0.1:{port}", partitions=1)
    ours, other = EmbeddedKafka(tmp_path / "ours", port), EmbeddedKafka(tmp_path / "other", port)
    try:
        for broker in (other, ours):
            other.stop()
            await asyncio.to_thread(broker.start)
            await topics.ensure(here)
        with monkeypatch.context() as patch:
            patch.setattr(aiokafka.client, "create_conn", aiokafka.client.create_conn)
            belonging.guard(here)
            async with connections.producer(here, request_timeout_ms=3000) as producer:
                await producer.send_and_wait(here.samples_topic, b"first", partition=0)
                ours.kill()
                await asyncio.to_thread(other.start)
                sent = await producer.send(here.samples_topic, b"second", partition=0)
                await asyncio.wait([sent], timeout=4)
                assert not (sent.done() and sent.exception() is None)
                await abandon(producer)
                await asyncio.wait([sent])
                sent.exception()
        assert await held(here) == 0
    finally:
        ours.stop()
        other.stop()


async def held(here: Settings) -> int:
    async with connections.reader(here) as consumer:
        tp = TopicPartition(here.samples_topic, 0)
        end: int = (await consumer.end_offsets([tp]))[tp]
        return end
