"""Topics are made as needed, and a topic that differs is named before anything is lost in it."""

from __future__ import annotations

import asyncio
import math
import socket
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from metrics_app.errors import BrokerError
from metrics_app.kafka import reaching, topics
from metrics_app.kafka.durability import OFFSETS, weaknesses
from metrics_app.kafka.embedded import EmbeddedKafka
from metrics_app.kafka.identity import cluster_identity
from metrics_app.kafka.ports import free_port
from metrics_app.settings import Settings
from tests.conftest import MakeSettings

OWN = 1  # config source of a value set on the topic itself
STAMPED = {"message.timestamp.type": "LogAppendTime"}


async def create(settings: Settings, name: str, partitions: int, config: dict[str, str]) -> None:
    async with topics.admin_client(settings) as admin:
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])


async def own_values(settings: Settings, name: str) -> dict[str, str]:
    async with topics.admin_client(settings) as admin:
        (reply,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    return {entry[0]: entry[1] for entry in reply.resources[0][4] if entry[3] == OWN}


async def have_own_values(settings: Settings, name: str, expected: dict[str, str]) -> None:
    """A change of a topic is acknowledged by the controller a moment before the brokers tell of it."""
    for _ in range(50):
        if await own_values(settings, name) == expected:
            return
        await asyncio.sleep(0.1)
    assert await own_values(settings, name) == expected


async def sizes(settings: Settings) -> dict[str, int]:
    async with topics.admin_client(settings) as admin:
        return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}


@pytest.mark.kafka
async def test_makes_the_three_topics_and_is_content_the_next_time(settings: MakeSettings) -> None:
    here = settings(partitions=3)
    await topics.ensure(here)
    await topics.ensure(here)
    found = await sizes(here)
    assert found[here.samples_topic] == found[here.changelog_topic] == 3
    assert found[here.dead_letter_topic] == 1
    for topic in topics.topics(here):
        assert await own_values(here, topic.name) == topic.config


@pytest.mark.kafka
async def test_several_workers_may_do_it_at_once(settings: MakeSettings) -> None:
    here = settings(partitions=2)
    await asyncio.gather(*(topics.ensure(here) for _ in range(4)))
    assert (await sizes(here))[here.samples_topic] == 2


@pytest.mark.kafka
async def test_another_number_of_partitions_is_refused_with_what_to_set(settings: MakeSettings) -> None:
    here = settings(partitions=2)
    await topics.ensure(here)
    other = here.model_copy(update={"partitions": 4})
    with pytest.raises(BrokerError, match=r"-samples has 2 partitions, .* says 4: set METRICS_PARTITIONS=2 if "):
        await topics.ensure(other)
    assert (await sizes(here))[here.samples_topic] == 2


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({**STAMPED, "cleanup.policy": "compact"}, "cleanup.policy=compact, needed is delete"),
        ({}, "message.timestamp.type=CreateTime, needed is LogAppendTime"),
    ],
)
async def test_a_samples_topic_set_up_otherwise_is_refused(
    settings: MakeSettings, config: dict[str, str], problem: str
) -> None:
    here = settings()
    await create(here, here.samples_topic, here.partitions, config)
    with pytest.raises(BrokerError, match=f"{problem}: .*METRICS_SAMPLES_TOPIC"):
        await topics.ensure(here)


@pytest.mark.kafka
async def test_a_changelog_that_is_not_compacted_is_refused(settings: MakeSettings) -> None:
    here = settings()
    await create(here, here.changelog_topic, here.partitions, STAMPED)
    with pytest.raises(BrokerError, match=r"-changelog has cleanup.policy=delete, needed is compact,delete"):
        await topics.ensure(here)


@pytest.mark.kafka
async def test_a_longer_retention_is_set_on_the_topic_and_the_rest_of_it_stays(settings: MakeSettings) -> None:
    here = settings(retention_days=3)
    await topics.ensure(here)
    async with topics.admin_client(here) as admin:
        kept = {**await own_values(here, here.changelog_topic), "segment.bytes": "1048576"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, here.changelog_topic, kept)])
    await have_own_values(here, here.changelog_topic, kept)
    longer = {**kept, "retention.ms": str(7 * 24 * 3_600_000)}
    await topics.ensure(here.model_copy(update={"retention_days": 5}))
    await have_own_values(here, here.changelog_topic, longer)
    await topics.ensure(here)  # a shorter one is no reason to delete
    await asyncio.sleep(0.2)
    await have_own_values(here, here.changelog_topic, longer)


async def until_there_are(partitions: int, topic: str, here: Settings) -> None:
    """For a moment after a change the broker may not say so."""
    async with asyncio.timeout(20):
        while True:
            found = (await cluster_identity(here)).topics.get(topic)
            if partitions == (found.partitions if found else 0):
                return
            await asyncio.sleep(0.05)


@pytest.mark.kafka
async def test_partitions_added_to_one_topic_of_a_system_in_use_are_left_alone(settings: MakeSettings) -> None:
    """To one only: the other shows how many there were; and to none while one is missing."""
    here = settings(partitions=2)
    await topics.ensure(here)
    async with topics.admin_client(here) as admin:
        await admin.create_partitions({here.samples_topic: NewPartitions(5)})
    await until_there_are(5, here.samples_topic, here)
    await topics.ensure(here)
    with pytest.raises(BrokerError, match="-changelog has 2 partitions, METRICS_PARTITIONS says 5"):
        await topics.ensure(here.model_copy(update={"partitions": 5}))
    async with topics.admin_client(here) as admin:
        await admin.delete_topics([here.changelog_topic])
    await until_there_are(0, here.changelog_topic, here)
    with pytest.raises(BrokerError, match="-samples has 5 partitions, METRICS_PARTITIONS says 2"):
        await topics.ensure(here)


@pytest.mark.kafka
async def test_more_replicas_than_brokers_says_which_setting(settings: MakeSettings) -> None:
    with pytest.raises(BrokerError, match=r"cannot have 3 replicas .*METRICS_REPLICATION"):
        await topics.ensure(settings(replication=3), patience_s=0)


@pytest.mark.kafka
async def test_brokers_that_are_late_are_waited_for_and_that_is_said(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "SAY_INTERVAL_S", 0.1)
    said: asyncio.Queue[str] = asyncio.Queue()
    here = settings(replication=3)
    waiting = asyncio.create_task(topics.ensure(here, said.put_nowait, patience_s=math.inf))
    for _ in range(2):
        assert "cannot have 3 replicas" in await asyncio.wait_for(said.get(), 30)
    waiting.cancel()


@pytest.mark.kafka
async def test_a_replica_that_lags_may_not_become_leader(settings: MakeSettings) -> None:
    here, unclean = settings(), "unclean.leader.election.enable"
    await topics.ensure(here)
    kept = await own_values(here, here.samples_topic)
    async with topics.admin_client(here) as admin:
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, here.samples_topic, {**kept, unclean: "true"})]
        )
    await have_own_values(here, here.samples_topic, {**kept, unclean: "true"})
    await topics.ensure(here)
    await have_own_values(here, here.samples_topic, kept)


@pytest.mark.parametrize(("brokers", "replicas", "warned"), [(3, 1, True), (2, 1, True), (1, 1, False), (3, 3, False)])
@pytest.mark.parametrize("what", ["warn", "refuse"])
async def test_one_replica_where_there_could_be_more_is_warned_of_or_refused(
    brokers: int,
    replicas: int,
    warned: bool,
    what: str,
    make_settings: MakeSettings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = make_settings(partitions=1, replication=replicas, weak_kafka=what)
    cluster = Cluster(topics.topics(here), brokers, replicas)
    monkeypatch.setattr(topics, "admin_client", lambda _: nullcontext(cluster))
    lost = "what is accepted is lost with one disk"
    if warned and what == "refuse":
        with pytest.raises(BrokerError, match=f"Kafka has {brokers} brokers, .*{lost}.*METRICS_WEAK_KAFKA=warn"):
            await topics.ensure(here)
    else:
        await topics.ensure(here)
        assert (f"Kafka has {brokers} brokers" in caplog.text) == (lost in caplog.text) == warned


@pytest.mark.parametrize(("brokers", "replicas", "weak"), [(3, 1, True), (1, 1, False), (3, 3, False)])
def test_one_replica_of_the_offsets_of_groups_is_a_weakness(brokers: int, replicas: int, weak: bool) -> None:
    partitions = {"ours": [{"replicas": [1, 2, 3]}], OFFSETS: [{"replicas": list(range(replicas))}]}
    assert any(OFFSETS in sentence for sentence in weaknesses(brokers, partitions, ["ours"])) == weak


class Cluster:
    """An admin client of a cluster in which the topics are as they should be; as many brokers do not fit a test."""

    def __init__(self, wanted: list[topics.Topic], brokers: int, replicas: int) -> None:
        self._wanted, self._brokers, self._replicas = wanted, brokers, replicas

    async def describe_cluster(self) -> dict[str, list[int]]:
        return {"brokers": list(range(self._brokers))}

    async def describe_topics(self) -> list[dict[str, Any]]:
        partition = {"replicas": list(range(self._replicas))}
        return [{"topic": topic.name, "partitions": [partition] * topic.partitions} for topic in self._wanted]

    async def describe_configs(self, _resources: object) -> list[Any]:
        described = [
            (0, "", 2, topic.name, [(*item, False, OWN) for item in topic.config.items()]) for topic in self._wanted
        ]
        return [SimpleNamespace(resources=described)]


class SlowCluster(Cluster):
    """Lists a changelog that it made only when asked again; its samples topic has twice the partitions."""

    def __init__(self, wanted: list[topics.Topic]) -> None:
        super().__init__(wanted, brokers=1, replicas=1)
        self._listed_late = [topic.name for topic in wanted if topic.name.endswith("changelog")]
        self._hides = 2

    async def describe_topics(self) -> list[dict[str, Any]]:
        self._hides -= 1
        found = await super().describe_topics()
        for topic in found:
            topic["partitions"] *= 2 if topic["topic"].endswith("samples") else 1
        return [topic for topic in found if self._hides < 0 or topic["topic"] not in self._listed_late]

    async def create_topics(self, _new: object) -> SimpleNamespace:
        return SimpleNamespace(topic_errors=[])


async def test_a_topic_made_a_moment_ago_does_not_show_how_many_partitions_there_were(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on the second attempt either, which finds it there: its number is our setting's, not history's."""
    here = make_settings(partitions=2, replication=1)
    cluster = SlowCluster(topics.topics(here))
    monkeypatch.setattr(topics, "admin_client", lambda _: nullcontext(cluster))
    with pytest.raises(BrokerError, match="samples has 4 partitions, METRICS_PARTITIONS says 2"):
        await topics.ensure(here)


@pytest.mark.kafka
async def test_fewer_replicas_than_asked_for_are_refused(settings: MakeSettings) -> None:
    here = settings()
    await topics.ensure(here)
    with pytest.raises(BrokerError, match=r"has 1 replicas, METRICS_REPLICATION says 2"):
        await topics.ensure(here.model_copy(update={"replication": 2}))


@pytest.mark.kafka
async def test_no_topic_appears_because_someone_asked_for_it(settings: MakeSettings) -> None:
    here = settings()
    async with topics.admin_client(here) as admin:
        for _ in range(5):  # a broker that makes topics on demand does it a little later
            await admin.describe_topics([here.samples_topic])
            await asyncio.sleep(0.1)
    assert here.samples_topic not in await sizes(here)


@pytest.mark.kafka
async def test_waiting_says_nothing_when_kafka_answers(settings: MakeSettings) -> None:
    said: list[str] = []
    await reaching.wait(settings(), said.append)
    assert said == []


@pytest.mark.kafka
async def test_waiting_says_so_at_once_and_ends_when_kafka_comes(make_settings: MakeSettings, tmp_path: Path) -> None:
    said: list[str] = []
    port = free_port()
    here = make_settings(kafka=f"127.0.0.1:{port}")
    waiting = asyncio.create_task(reaching.wait(here, said.append))
    await asyncio.sleep(0.3)
    assert len(said) == 1
    assert said[0].startswith(f"waiting for Kafka at 127.0.0.1:{port} (")
    broker = EmbeddedKafka(tmp_path / "kafka", port)
    try:
        starting = asyncio.create_task(asyncio.to_thread(broker.start))
        await waiting
        await topics.ensure(here)  # already, while the broker is still coming up
        await starting
    finally:
        broker.stop()


@pytest.mark.kafka
async def test_refused_credentials_end_the_wait_at_once(settings: MakeSettings) -> None:
    here = settings(kafka_protocol="SASL_PLAINTEXT", kafka_username="ann", kafka_password="wrong")
    with pytest.raises(BrokerError, match=r"refuses the credentials: .*METRICS_KAFKA_USERNAME"):
        await reaching.wait(here, print)


async def test_a_server_that_does_not_speak_tls_ends_the_wait_at_once(make_settings: MakeSettings) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerError, match=r"no TLS connection: .*METRICS_KAFKA_PROTOCOL"):
            await reaching.wait(make_settings(kafka=f"127.0.0.1:{port}", kafka_protocol="SSL"), print)


@pytest.mark.kafka
async def test_a_server_that_says_nothing_holds_up_nobody_who_could_ask_another(
    kafka: EmbeddedKafka, settings: MakeSettings
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        here = settings(kafka=f"127.0.0.1:{mute.getsockname()[1]},{kafka.bootstrap}")
        for _ in range(5):  # in whatever order they are asked
            async with asyncio.timeout(3):
                assert await reaching.meet(here) == kafka.bootstrap
