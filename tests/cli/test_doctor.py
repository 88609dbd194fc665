"""`doctor` finds what is wrong, on a real Kafka and on this machine, and says what mends it."""

from __future__ import annotations

import asyncio
import json
import shlex
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from typer.testing import CliRunner

from metrics_app import __version__
from metrics_app.cli import machine
from metrics_app.cli.doctor import of_workers
from metrics_app.cli.main import app
from metrics_app.credentials import NO_CREDENTIALS
from metrics_app.errors import BrokerError
from metrics_app.http.tokens import new_token
from metrics_app.kafka import connections, examination, topics
from metrics_app.kafka.examination import ERROR, OK, WARNING, Diagnosis, examine, of_brokers, of_missing, of_topic
from metrics_app.kafka.ports import free_port
from metrics_app.kafka.reaching import meet
from metrics_app.settings import Settings
from metrics_app.system.condition import joined
from tests.conftest import MakeSettings
from tests.faults.pace import stretched
from tests.faults.proxy import Proxy
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
    *_, option, added = shlex.split(fault.mend)
    assert f"--entity-name {ours.samples_topic} " in fault.mend
    assert (option, added.partition("=[")[0]) == ("--add-config", "retention.ms")


def test_a_missing_topic_is_an_error_where_the_others_are_there() -> None:
    assert [each.level for each in of_missing(["a", "b"], is_new=True)] == [WARNING, WARNING]
    (only,) = of_missing(["a"], is_new=False)
    assert (only.level, only.part) == (ERROR, "a")


@pytest.mark.kafka
async def test_a_topic_that_somebody_deleted_is_an_error(settings: MakeSettings) -> None:
    ours = settings(partitions=1)
    await topics.ensure(ours)
    async with topics.admin_client(ours) as admin:
        await admin.delete_topics([ours.dead_letter_topic])
    for _ in range(100):  # the brokers tell of it a moment later
        errors = {each.part for each in await examine(ours) if each.level == ERROR}
        if errors == {ours.dead_letter_topic}:
            break
        await asyncio.sleep(0.1)
    assert errors == {ours.dead_letter_topic}


@pytest.mark.kafka
async def test_of_several_servers_the_dead_one_is_named(settings: MakeSettings) -> None:
    dead = f"127.0.0.1:{free_port()}"
    ours = settings(partitions=1)
    await topics.ensure(ours)
    found = await examine(ours.model_copy(update={"kafka": f"{dead},{ours.kafka}"}))
    assert [dead in each.says for each in found if each.level == WARNING and each.part == "kafka"] == [True]
    assert ERROR not in {each.level for each in found}
    none = await examine(ours.model_copy(update={"kafka": f"{dead},127.0.0.1:{free_port()}"}))
    assert [(each.level, each.part) for each in none] == 2 * [(ERROR, "kafka")]


@pytest.mark.kafka
async def test_a_kafka_that_answers_and_then_hangs_is_said_in_time(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = settings()
    async with Proxy(int(ours.kafka.rpartition(":")[2]), seed=1) as proxy:

        async def met(settings: Settings) -> str:
            server = await meet(settings)
            proxy.change(mute=True)
            return server

        monkeypatch.setattr(examination, "meet", met)
        monkeypatch.setattr(examination, "PATIENCE_S", stretched(1))
        async with asyncio.timeout(stretched(3)):
            last = (await examine(ours.model_copy(update={"kafka": f"127.0.0.1:{proxy.port}"})))[-1]
    assert (last.level, last.part) == (ERROR, "kafka")
    assert "within" in last.says


@pytest.mark.kafka
async def test_a_broker_under_an_address_that_nobody_reaches_is_an_error(settings: MakeSettings) -> None:
    ours = settings()
    async with Proxy(int(ours.kafka.rpartition(":")[2]), seed=1) as proxy:
        through = ours.model_copy(update={"kafka": f"127.0.0.1:{proxy.port}"})
        assert [each.level for each in await examine(through) if each.part == "brokers"] == [WARNING]  # a single one
        (named,) = connections.servers(ours)

        async def met(settings: Settings) -> str:
            if settings.kafka == named:
                raise BrokerError(f"Kafka at {named} does not answer")
            return settings.kafka

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(examination, "meet", met)
            found = [each for each in await examine(through) if each.part == "brokers" and each.level == ERROR]
    assert [named in each.says for each in found] == [True]
    assert "advertised.listeners" in found[0].mend


def test_a_kafka_that_is_not_there_is_the_first_thing_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("METRICS_DATA_DIR", str(tmp_path))
    result = CliRunner().invoke(app, ["doctor", "--json"])
    first = json.loads(result.stdout)[0]
    assert (result.exit_code, first["level"], first["part"]) == (1, "error", "kafka")
    assert "METRICS_KAFKA" in first["mend"]


async def of(settings: Settings) -> dict[str, Diagnosis]:
    return {each.part: each for each in await machine.examine(settings)}


async def test_files_that_a_worker_cannot_use_are_errors(tmp_path: Path, make_settings: MakeSettings) -> None:
    tokens = tmp_path / "the tokens"
    missing = (await of(make_settings(tokens_file=tokens)))["tokens"]
    assert (missing.level, f"'{tokens}'" in missing.mend) == (ERROR, True)
    _, line = new_token("ann", ["query"], [])
    tokens.write_text(line)
    tokens.chmod(0o644)
    shown = (await of(make_settings(tokens_file=tokens)))["tokens"]
    assert (shown.level, shlex.split(shown.mend.partition(";")[0])) == (ERROR, ["chmod", "600", str(tokens)])
    tokens.chmod(0o600)
    said = await of(make_settings(tokens_file=tokens))
    assert ("tokens" in said, said["permissions"].level) == (False, OK)
    gone = (await of(make_settings(tls_cert_file=tmp_path / "c", tls_key_file=tmp_path / "k")))["permissions"]
    assert (gone.level, "there is no such file" in gone.says) == (ERROR, True)
    key = tmp_path / "a key"
    key.touch(0o644)
    open_key = (await machine.examine(make_settings(tls_cert_file=key, tls_key_file=key)))[-1]
    assert (open_key.level, open_key.mend) == (WARNING, f"chmod 600 '{key}'")


async def test_faults_of_this_machine_are_named(tmp_path: Path, make_settings: MakeSettings) -> None:
    file = tmp_path / "a file"
    file.touch()
    said = await of(make_settings(max_connections=1_000_000_000, data_dir=file))
    assert (said["python"].level, said["data folder"].level) == (OK, ERROR)


async def test_a_variable_that_is_no_setting_is_a_warning(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await of(make_settings()))["settings"].level == OK
    monkeypatch.setenv("METRICS_KAFAK", "a:1")
    found = (await of(make_settings()))["settings"]
    assert (found.level, found.mend) == (WARNING, "unset METRICS_KAFAK; is it METRICS_KAFKA?")


async def test_a_port_is_free_or_ours_or_an_error(make_settings: MakeSettings) -> None:
    here = make_settings(port=free_port())
    assert (await of(here))["port"].level == OK
    with socket.create_server(("127.0.0.1", here.port)) as taken:
        other = (await of(here))["port"]
        assert (other.level, f"sport = :{here.port}" in other.mend) == (ERROR, True)
        # the same port of another address of this machine is free
        assert (await of(make_settings(host="127.0.0.2", port=taken.getsockname()[1])))["port"].level == OK
    alive = web.Application()
    alive.router.add_get("/livez", _alive)
    async with TestServer(alive, host="127.0.0.1", port=here.port):
        ours = (await of(here))["port"]
    assert (ours.level, "process 4711" in ours.says) == (OK, True)
    elsewhere = (await of(make_settings(host="192.0.2.1", port=here.port)))["port"]  # no address of any machine
    assert (elsewhere.level, "no address of this machine" in elsewhere.says) == (ERROR, True)


async def _alive(_: web.Request) -> web.Response:
    return web.json_response({"status": "alive", "pid": 4711})


async def test_workers_of_two_releases_with_another_time_or_not_ready_are_named() -> None:
    a = worker("http://a", told=time.time() - 500, checks={"kafka": "away"})
    b = worker("http://b", told=time.time(), version="2")
    said = await _said(joined([a, b], [], 0, time.time()))
    assert [each.part for each in said] == ["clocks", "workers", "versions"]
    assert "http://a and ours are 500 s apart" in said[0].says
    assert f"2, this command is of {__version__}" in said[2].says
    assert [each.part for each in await _said(joined([b], [], 0, time.time()))] == ["versions"]
    ours = worker("http://c", told=time.time() + stretched(60), version=__version__)
    assert [each.part for each in await _said(joined([ours], [], 0, time.time()))] == ["clocks"]
    ours.told = time.time()
    assert [each.level for each in await _said(joined([ours], [], 0, time.time()))] == [OK]


async def test_a_worker_that_does_not_answer_hides_nothing_of_the_others() -> None:
    ill = worker("http://a", told=time.time(), version=__version__, checks={"kafka": "away"})
    dead = f"http://127.0.0.1:{free_port()}"
    said = await _said(joined([ill], [], 0, time.time()), dead)
    assert [each.part for each in said] == ["workers", "workers"]
    assert (dead in said[0].says, "http://a is not ready" in said[1].says) == (True, True)


async def _said(system: Any, *others: str) -> list[Diagnosis]:
    served_app = web.Application()
    served_app.router.add_route("*", "/{tail:.*}", served(system).answer)
    async with TestServer(served_app) as running:
        url = str(running.make_url("")).rstrip("/")
        return await asyncio.to_thread(of_workers, [*others, url], NO_CREDENTIALS, 10.0)
