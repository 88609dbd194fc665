"""`doctor` finds what is wrong, on a real Kafka and on this machine, and says what mends it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from typer.testing import CliRunner

from metrics_app.cli.doctor import of_machine, of_workers
from metrics_app.cli.main import app
from metrics_app.credentials import NO_CREDENTIALS
from metrics_app.kafka import topics
from metrics_app.kafka.examination import ERROR, OK, WARNING, Diagnosis, examine, of_brokers, of_topic
from metrics_app.system.condition import joined
from tests.system.test_capacity import worker

from .test_status import served

SAMPLES = topics.Topic("samples", "METRICS_SAMPLES_TOPIC", 2, True, {"min.insync.replicas": "2"})
CONFIG = {"min.insync.replicas": "2", "cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime",
          "unclean.leader.election.enable": "false"}  # fmt: skip
EXPECTED = topics.Topic(*SAMPLES[:4], CONFIG)


def partition(number: int, leader: int = 1, isr: tuple[int, ...] = (1, 2, 3)) -> dict[str, Any]:
    return {"partition": number, "leader": leader, "isr": [*isr], "replicas": [1, 2, 3]}


def found(*partitions: dict[str, Any], **config: str) -> list[Diagnosis]:
    changed = {name.replace("_", "."): value for name, value in config.items()}
    return of_topic(EXPECTED, partitions, CONFIG | changed, 3, "k:9092")


def test_a_topic_that_is_as_needed_is_well() -> None:
    (only,) = found(partition(0), partition(1))
    assert only.level == OK


@pytest.mark.parametrize(
    ("partitions", "config", "level", "says"),
    [
        ([partition(0), partition(1, leader=-1)], {}, ERROR, "partitions [1] have no leader"),
        ([partition(0), partition(1, isr=(1,))], {}, ERROR, "fewer than 2 replicas in sync"),
        ([partition(0), partition(1, isr=(1, 2))], {}, WARNING, "a replica is not in sync"),
        ([partition(0)], {}, ERROR, "it has 1 partitions, METRICS_PARTITIONS says 2"),
        ([partition(0), partition(1)], {"unclean.leader.election.enable": "true"}, WARNING, "unclean.leader.election"),
        ([partition(0), partition(1)], {"min.insync.replicas": "1"}, WARNING, "min.insync.replicas is 1, needed is 2"),
        ([partition(0), partition(1)], {"cleanup.policy": "compact"}, ERROR, "cleanup.policy is compact"),
    ],
)
def test_a_fault_of_a_topic_is_named_with_what_mends_it(
    partitions: list[dict[str, Any]], config: dict[str, str], level: str, says: str
) -> None:
    (fault,) = found(*partitions, **config)
    assert fault.level == level
    assert says in fault.says
    assert fault.mend


def test_too_few_brokers_are_an_error_and_a_single_one_a_warning() -> None:
    assert [of_brokers(2, 3).level, of_brokers(1, 1).level, of_brokers(3, 3).level] == [ERROR, WARNING, OK]


@pytest.mark.kafka
async def test_of_a_real_kafka_nothing_is_wrong_until_a_topic_is_changed(settings: Any) -> None:
    ours = settings(partitions=2)
    assert {each.part for each in await examine(ours) if each.level == WARNING} >= {ours.samples_topic}
    await topics.ensure(ours)
    assert ERROR not in {each.level for each in await examine(ours)}
    assert Diagnosis(OK, ours.samples_topic, "2 partitions, all in sync and set up as needed") in await examine(ours)
    changed = {"message.timestamp.type": "LogAppendTime", "retention.ms": "1000"}
    async with topics.admin_client(ours) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, ours.samples_topic, changed)])
    (fault,) = [each for each in await examine(ours) if each.part == ours.samples_topic]
    assert "retention.ms is 1000" in fault.says
    assert f"--entity-name {ours.samples_topic} --add-config retention.ms=[" in fault.mend


def test_a_kafka_that_is_not_there_is_the_first_thing_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("METRICS_DATA_DIR", str(tmp_path))
    result = CliRunner().invoke(app, ["doctor", "--json"])
    first = json.loads(result.stdout)[0]
    assert (result.exit_code, first["level"], first["part"]) == (1, "error", "kafka")
    assert "METRICS_KAFKA" in first["mend"]


def test_faults_of_this_machine_are_named(tmp_path: Path, make_settings: Any) -> None:
    tokens = tmp_path / "tokens"
    tokens.touch(0o644)
    said = {each.part: each for each in of_machine(make_settings(tokens_file=tokens, max_connections=1_000_000_000))}
    assert said["python"].level == OK
    assert said["permissions"] == Diagnosis(
        WARNING, "permissions", f"{tokens} can be read by others", f"chmod 600 {tokens}"
    )
    tokens.chmod(0o600)
    assert OK in {each.level for each in of_machine(make_settings(tokens_file=tokens)) if each.part == "permissions"}


async def test_workers_of_two_releases_with_another_time_or_not_ready_are_named() -> None:
    a = worker("http://a", told=time.time() - 500, checks={"kafka": "away"})
    b = worker("http://b", told=time.time(), version="2")
    said = await _said(joined([a, b], [], 0, time.time()))
    assert [each.part for each in said] == ["workers", "versions", "clocks"]
    assert "http://a and ours are 500 s apart" in said[2].says
    assert [each.level for each in await _said(joined([b], [], 0, time.time()))] == [OK]


async def _said(system: Any) -> list[Diagnosis]:
    import asyncio

    from aiohttp import web
    from aiohttp.test_utils import TestServer

    served_app = web.Application()
    served_app.router.add_route("*", "/{tail:.*}", served(system).answer)
    async with TestServer(served_app) as running:
        url = str(running.make_url("")).rstrip("/")
        return await asyncio.to_thread(of_workers, [url], NO_CREDENTIALS, 10.0)
