"""Looks at a Kafka and changes nothing: what of it breaks a promise, and the command that mends it.

Called by `cli.doctor`. `topics` sets right by itself what it may when a role starts; here it is only said.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from metrics_app.errors import BrokerError
from metrics_app.kafka import connections
from metrics_app.kafka.durability import weaknesses
from metrics_app.kafka.reaching import meet
from metrics_app.kafka.topics import Topic, admin_client, topics
from metrics_app.settings import Settings

OK, WARNING, ERROR = "ok", "warning", "error"
PATIENCE_S = 20.0  # for all that one broker is asked


class Diagnosis(NamedTuple):
    """What was looked at and found.

    Attributes:
        level: OK, WARNING or ERROR.
        part: what was looked at.
        says: what was found, in a sentence.
        mend: a command, or what to set; empty where all is well.
    """

    level: str
    part: str
    says: str
    mend: str = ""


async def examine(settings: Settings) -> list[Diagnosis]:
    """Everything about the Kafka of these settings; what cannot be asked is a finding too."""
    named = connections.servers(settings)
    problems = await _problems(settings, named)
    if len(problems) == len(named):
        return [
            Diagnosis(ERROR, "kafka", each, "start it, or set METRICS_KAFKA=host:port") for each in problems.values()
        ]
    server = next(each for each in named if each not in problems)
    dead = [
        Diagnosis(WARNING, "kafka", f"of the servers of METRICS_KAFKA: {each}", "start it, or name another")
        for each in problems.values()
    ]
    try:
        async with asyncio.timeout(PATIENCE_S), admin_client(settings) as admin:
            return [Diagnosis(OK, "kafka", f"{server} answers"), *dead, *await _examine(admin, settings, server)]
    except (KafkaError, OSError, TimeoutError) as error:
        says = f"{server} answers, and then does not say what it has within {PATIENCE_S:g} s: {error!r}"
        return [*dead, Diagnosis(ERROR, "kafka", says, "let the brokers advertise reachable addresses")]


async def _problems(settings: Settings, servers: Sequence[str]) -> dict[str, str]:
    """Why servers are of no use, by server; those that answer are left out."""
    problems = await asyncio.gather(*(_problem(settings, server) for server in servers))
    return {server: problem for server, problem in zip(servers, problems, strict=True) if problem}


async def _problem(settings: Settings, server: str) -> str:
    try:
        async with asyncio.timeout(PATIENCE_S):
            await meet(settings.model_copy(update={"kafka": server}))
    except (BrokerError, TimeoutError) as error:
        return f"{server} cannot be used: {error or 'no answer'}"
    return ""


async def _examine(admin: AIOKafkaAdminClient, settings: Settings, server: str) -> list[Diagnosis]:
    brokers = [f"{each['host']}:{each['port']}" for each in (await admin.describe_cluster())["brokers"]]
    present = {each["topic"]: each["partitions"] for each in await admin.describe_topics() if each["partitions"]}
    wanted = topics(settings)
    ours = [topic for topic in wanted if topic.name in present]
    described = await _described(admin, ours) if ours else {}
    found = [of_brokers(len(brokers), settings.replication), *await _advertised(settings, brokers)]
    for topic in ours:
        found += of_topic(topic, present[topic.name], described.get(topic.name, {}), settings.replication, server)
    found += of_missing([topic.name for topic in wanted if topic not in ours], is_new=not ours)
    if len(ours) == len(wanted):
        names = [topic.name for topic in ours]
        found += [
            Diagnosis(WARNING, "kafka", each, "kafka-reassign-partitions.sh")
            for each in weaknesses(len(brokers), present, names)
        ]
    return found


async def _advertised(settings: Settings, brokers: Sequence[str]) -> list[Diagnosis]:
    """Brokers that are up under addresses that cannot be reached from here."""
    others = sorted({*brokers} - {*connections.servers(settings)})
    mend = "set advertised.listeners of that broker, and open its port"
    problems = await _problems(settings, others)
    return [Diagnosis(ERROR, "brokers", f"Kafka names a broker: {each}", mend) for each in problems.values()]


def of_missing(names: Sequence[str], *, is_new: bool) -> list[Diagnosis]:
    """Topics that are not there: in a new installation none is, later somebody has deleted some."""
    level, and_others = (WARNING, "") if is_new else (ERROR, ", and the others are there")
    mend = "start a role: it makes the topic"
    return [Diagnosis(level, name, f"the topic is not there{and_others}", mend) for name in names]


async def _described(admin: AIOKafkaAdminClient, ours: list[Topic]) -> dict[str, dict[str, str]]:
    (reply,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in ours])
    return {
        name: {entry[0]: entry[1] for entry in entries} for _code, _message, _kind, name, entries in reply.resources
    }


def of_brokers(brokers: int, replication: int) -> Diagnosis:
    """Whether there are as many as copies are wanted."""
    if brokers < replication:
        says = f"{brokers} brokers are up, METRICS_REPLICATION says {replication}"
        return Diagnosis(ERROR, "brokers", says, f"start brokers, or set METRICS_REPLICATION={brokers}")
    if brokers == 1:
        says = "one broker: what is accepted is as durable as its disk"
        return Diagnosis(WARNING, "brokers", says, "for production: three brokers and METRICS_REPLICATION=3")
    return Diagnosis(OK, "brokers", f"{brokers} brokers are up")


def of_topic(
    topic: Topic, partitions: Sequence[Any], config: Mapping[str, str], replication: int, server: str
) -> list[Diagnosis]:
    """What is wrong with one topic; one that says so when nothing is."""
    found = [*_of_partitions(topic, partitions, config, replication)]
    alter = f"kafka-configs.sh --bootstrap-server {shlex.quote(server)} --alter --entity-type topics"
    if known := all(key in config for key in topic.config):
        wrong = [(ERROR, key) for key in topic.conflicts(config)] + [(WARNING, key) for key in topic.too_low(config)]
        for level, key in wrong:
            says = f"{key} is {config[key]}, needed is {topic.config[key]}"
            added = shlex.quote(f"{key}=[{topic.config[key]}]")
            mend = f"{alter} --entity-name {topic.name} --add-config {added}"
            found.append(Diagnosis(level, topic.name, says, mend))
    if not known:
        found.append(Diagnosis(WARNING, topic.name, "its settings may not be read", "grant DescribeConfigs on it"))
    return found or [Diagnosis(OK, topic.name, f"{len(partitions)} partitions, all in sync and set up as needed")]


def _of_partitions(
    topic: Topic, partitions: Sequence[Any], config: Mapping[str, str], replication: int
) -> list[Diagnosis]:
    found = []
    least = int(config.get("min.insync.replicas", 1))
    leaderless = [each["partition"] for each in partitions if each["leader"] < 0]
    behind = [each["partition"] for each in partitions if len(each["isr"]) < least]
    lagging = [each["partition"] for each in partitions if len(each["isr"]) < len(each["replicas"])]
    replicas = min(len(each["replicas"]) for each in partitions)
    if topic.fixed and len(partitions) != topic.partitions:
        says = f"it has {len(partitions)} partitions, METRICS_PARTITIONS says {topic.partitions}"
        found.append(Diagnosis(ERROR, topic.name, says, f"METRICS_PARTITIONS={len(partitions)}, if made with them"))
    if replicas < replication:
        says = f"it has {replicas} replicas, METRICS_REPLICATION says {replication}"
        mend = f"kafka-reassign-partitions.sh, or METRICS_REPLICATION={replicas}"
        found.append(Diagnosis(ERROR, topic.name, says, mend))
    if leaderless:
        found.append(Diagnosis(ERROR, topic.name, f"partitions {leaderless} have no leader", "start their brokers"))
    if behind:
        says = f"partitions {behind} have fewer than {least} replicas in sync: nothing can be written to them"
        found.append(Diagnosis(ERROR, topic.name, says, "start the brokers they are on"))
    elif lagging:
        says = f"of partitions {lagging} a replica is not in sync"
        found.append(Diagnosis(WARNING, topic.name, says, "start the broker, or wait until it has caught up"))
    return found
