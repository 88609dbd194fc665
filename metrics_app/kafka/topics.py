"""The topics: creates what is missing, and checks what is there.

Called by `app` and `collector.producer` before they use a topic, and by `watch`, which looks again every few seconds.

    samples       deleted after `samples_retention_hours`. The broker stamps records (LogAppendTime), as the aggregator
                  takes the timestamp for the moment of acceptance, and all collectors share the brokers' clock.
    changelog     compacted, and deleted when no row in it can still be visible. A row is written in its hour or later,
                  so two days past `retention_days` suffice; without a retention of its own it would get 7 days.
                  Compaction leaves the newest two hours alone: who has read nearly to the end finds every offset after.
    dead letters  deleted after 30 days.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    for_code,
)

from metrics_app.errors import BrokerError
from metrics_app.kafka.connections import client_options
from metrics_app.kafka.durability import SAFE_REPLICATION, weaknesses
from metrics_app.kafka.reaching import FIRST_BACKOFF_S, REQUEST_TIMEOUT_MS, SAY_INTERVAL_S, Say
from metrics_app.settings import Settings

logger = logging.getLogger(__name__)

OWN_VALUE = 1  # config source of a value set on the topic itself, in the Kafka protocol
ENSURE_TIMEOUT_S = 30.0


class LateBrokerError(BrokerError):
    """Brokers that a topic needs are not up; they may still come."""


async def ensure(settings: Settings, say: Say = logger.warning, patience_s: float = ENSURE_TIMEOUT_S) -> None:
    """Create missing topics and check all of them; any number of processes may do it at once.

    What promises less than needed is set right on the topic. Nothing else of it is changed. While Kafka does not do it,
    though it may yet, that is said every 5 s.

    Raises:
        BrokerError: a topic is set up otherwise and cannot be used, or Kafka did not do it for `patience_s`.
    """
    wanted, started = topics(settings), time.monotonic()
    said = started
    found_missing: set[str] = set()
    while True:
        try:
            async with admin_client(settings) as admin:
                return await _ensure(admin, wanted, settings, found_missing)
        except LateBrokerError as error:
            late: Exception = error
        except (KafkaError, OSError, TimeoutError) as error:
            late = LateBrokerError(
                f"Kafka at {settings.kafka} does not set the topics up: {error!r}; "
                "are the addresses its brokers advertise reachable from here?"
            )
            late.__cause__ = error
        if time.monotonic() - started > patience_s:
            raise late
        if time.monotonic() - said > SAY_INTERVAL_S:
            say(f"waiting for Kafka at {settings.kafka} ({late})")
            said = time.monotonic()
        await asyncio.sleep(FIRST_BACKOFF_S)


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client, closed at the end."""
    admin = AIOKafkaAdminClient(request_timeout_ms=REQUEST_TIMEOUT_MS, **client_options(settings))
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def _ensure(admin: AIOKafkaAdminClient, wanted: list[Topic], settings: Settings, found_missing: set[str]) -> None:
    """One attempt. Notes in `found_missing` what it creates, since the next attempt finds it there."""
    present = await _present(admin)
    missing = [topic for topic in wanted if topic.name not in present]
    found_missing.update(topic.name for topic in missing)
    if missing:
        await _create(admin, missing, settings.replication)
        present = await _present(admin)
    for topic in wanted:
        if topic.name not in present:
            raise TimeoutError(f"topic {topic.name} has been created but is not listed yet")
    _check_partitions(
        [(topic, len(present[topic.name])) for topic in wanted if topic.fixed], is_new=bool(found_missing)
    )
    for topic in wanted:
        _check_replicas(topic, present[topic.name], settings.replication)
    await _check_config(admin, wanted)
    await _judge(admin, present, wanted, settings.weak_kafka)


async def _judge(admin: AIOKafkaAdminClient, present: dict[str, list[Any]], wanted: list[Topic], weak: str) -> None:
    """Warns of, or refuses, what Kafka keeps less safely than it could."""
    brokers = len((await admin.describe_cluster())["brokers"])
    for weakness in weaknesses(brokers, present, [topic.name for topic in wanted]):
        if weak == "refuse":
            raise BrokerError(f"{weakness}; METRICS_WEAK_KAFKA=warn takes it as it is")
        logger.warning("%s", weakness)


async def _present(admin: AIOKafkaAdminClient) -> dict[str, list[Any]]:
    # all topics, not ours by name: a request that names a missing topic may make the broker create it its own way
    return {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics() if topic["partitions"]}


async def _create(admin: AIOKafkaAdminClient, missing: list[Topic], replication: int) -> None:
    new = [NewTopic(topic.name, topic.partitions, replication, topic_configs=topic.config) for topic in missing]
    reply = await admin.create_topics(new)
    for name, code, message in reply.topic_errors:
        kind = for_code(code)
        if kind in (NoError, TopicAlreadyExistsError):
            continue
        live = len((await admin.describe_cluster())["brokers"])
        if kind is InvalidReplicationFactorError and 0 < live < replication:
            raise LateBrokerError(
                f"topic {name} cannot have {replication} replicas ({message}): start more brokers, or lower "
                "METRICS_REPLICATION"
            )
        if kind.retriable or kind is InvalidReplicationFactorError:  # the latter while brokers are just coming up
            raise kind(message)
        raise BrokerError(f"topic {name} cannot be created: {message or kind.description}")


def _check_partitions(found: list[tuple[Topic, int]], *, is_new: bool) -> None:
    """Checks the numbers of partitions. Those added to one topic in use are left alone: the others show the number.

    Args:
        is_new: whether one of the topics was missing, so that nothing shows how many there were.
    """
    may_have_more = not is_new and any(count == topic.partitions for topic, count in found)
    for topic, count in found:
        if count > topic.partitions and may_have_more:
            logger.warning("topic %s has %s partitions: %s of them are used", topic.name, count, topic.partitions)
        elif count != topic.partitions:
            raise BrokerError(
                f"topic {topic.name} has {count} partitions, METRICS_PARTITIONS says {topic.partitions}: "
                f"set METRICS_PARTITIONS={count} if that is how many it was made with, or name another topic with "
                f"{topic.setting}"
            )


def _check_replicas(topic: Topic, partitions: list[Any], replication: int) -> None:
    replicas = min(len(partition["replicas"]) for partition in partitions)
    if replicas < replication:
        raise BrokerError(
            f"topic {topic.name} has {replicas} replicas, METRICS_REPLICATION says {replication}: "
            f"add replicas, or set METRICS_REPLICATION={replicas}"
        )


async def _check_config(admin: AIOKafkaAdminClient, wanted: list[Topic]) -> None:
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in wanted]
    (reply,) = await admin.describe_configs(resources)
    described = {name: entries for _code, _message, _kind, name, entries in reply.resources}
    for topic in wanted:
        found = {entry[0]: entry[1] for entry in described[topic.name]}
        if missing := [key for key in topic.config if key not in found]:
            raise TimeoutError(f"topic {topic.name} is not described yet: {', '.join(missing)}")
        for key in topic.conflicts(found):
            raise BrokerError(
                f"topic {topic.name} has {key}={found[key]}, needed is {topic.config[key]}: change it on the topic, "
                f"or name another topic with {topic.setting}"
            )
        if low := topic.too_low(found):
            own = {entry[0]: entry[1] for entry in described[topic.name] if entry[3] == OWN_VALUE}
            await _raise(admin, topic, own, low)


async def _raise(admin: AIOKafkaAdminClient, topic: Topic, own: dict[str, str], low: list[str]) -> None:
    raised = {key: topic.config[key] for key in low}
    # this request replaces all of the topic's own values, so it must repeat those that stay
    (reply,) = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, own | raised)])
    ((code, message, _kind, _name),) = reply.resources
    settings = ", ".join(f"{key}={value}" for key, value in raised.items())
    if code:
        raise BrokerError(f"topic {topic.name} needs {settings} and does not let us set it ({message}): set it there")
    logger.warning("topic %s: set %s, which it had lower", topic.name, settings)


HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DEAD_LETTER_DAYS = 30
EXACT = ("cleanup.policy", "message.timestamp.type")
AT_LEAST = ("retention.ms", "min.compaction.lag.ms", "min.insync.replicas")
SAFE = {"unclean.leader.election.enable": "false"}  # a lagging replica that becomes leader loses acknowledged records
FOREVER = "-1"  # a retention without end


class Topic(NamedTuple):
    """One topic. `setting` is the variable that renames it; its number of partitions must match where `fixed`."""

    name: str
    setting: str
    partitions: int
    fixed: bool
    config: dict[str, str]

    def conflicts(self, found: Mapping[str, str]) -> list[str]:
        """Keys of a found configuration that differ, and that only somebody who knows the reason may change."""
        return [key for key in EXACT if _parts(found[key]) != _parts(self.config[key])]

    def too_low(self, found: Mapping[str, str]) -> list[str]:
        """Keys of a found configuration that promise less than needed."""
        bounds = [key for key in AT_LEAST if key in self.config and found[key] != FOREVER]
        unsafe = [key for key in SAFE if found[key] != self.config[key]]
        return unsafe + [key for key in bounds if int(found[key]) < int(self.config[key])]


def _parts(value: str) -> set[str]:
    return {part.strip() for part in value.split(",")}


def topics(settings: Settings) -> list[Topic]:
    """All topics this configuration uses."""
    common = {"message.timestamp.type": "LogAppendTime", **SAFE}
    common["min.insync.replicas"] = "2" if settings.replication >= SAFE_REPLICATION else "1"
    samples = {"cleanup.policy": "delete", "retention.ms": str(settings.samples_retention_hours * HOUR_MS)}
    changelog = {
        "cleanup.policy": "compact,delete",
        "retention.ms": str((settings.retention_days + 2) * DAY_MS),
        # an older state that is last is written over within seconds, and at the latest when its hour has closed
        "min.compaction.lag.ms": str(2 * HOUR_MS),
        "segment.ms": str(HOUR_MS),
    }
    dead = {"cleanup.policy": "delete", "retention.ms": str(DEAD_LETTER_DAYS * DAY_MS)}
    count = settings.partitions
    return [
        Topic(settings.samples_topic, "METRICS_SAMPLES_TOPIC", count, True, common | samples),
        Topic(settings.changelog_topic, "METRICS_NAME", count, True, common | changelog),
        Topic(settings.dead_letter_topic, "METRICS_DEAD_LETTER_TOPIC", 1, False, common | dead),
    ]
