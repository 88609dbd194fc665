from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import psutil
import pytest
import urllib3
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

from metrics_app.cli.child import Program
from metrics_app.cli.main import app
from metrics_app.cli.stages import answers, base_url, plan
from metrics_app.cli.supervisor import sole_use
from metrics_app.configuration import load
from metrics_app.errors import SettingsError
from metrics_app.kafka.belonging import note, noted
from metrics_app.kafka.embedded import EmbeddedKafka
from metrics_app.kafka.ports import is_free
from metrics_app.kafka.storage import Storage

runner = CliRunner()
NOTHING: Mapping[str, str] = {}
COMMAND = (sys.executable, "-m", "metrics_app", "up")


def unused_port() -> int:
    """One whose neighbour is unused as well, for a second worker."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if is_free(port) and is_free(port + 1):
            return port


def test_a_taken_port_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = runner.invoke(app, ["up", "--port", str(port), "--data-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert f"error: port {port} on 127.0.0.1: cannot be listened on; choose another with --port" in result.stderr
    assert not (tmp_path / "logs").exists()


def test_the_port_of_a_later_worker_is_checked_as_well(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = runner.invoke(app, ["up", "--port", str(port - 1), "--workers", "2", "--data-dir", str(tmp_path)])
    assert re.search(rf"error: port [\d, ]*{port} on", result.stderr)  # its neighbour may be taken as well


def test_a_folder_that_another_up_uses_is_refused(tmp_path: Path) -> None:
    with sole_use(tmp_path):
        result = runner.invoke(app, ["up", "--port", str(unused_port()), "--data-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert f"error: data folder {tmp_path}: another `metrics-app up` is using it" in result.stderr


def test_each_worker_has_a_port_and_a_folder_of_its_own(tmp_path: Path) -> None:
    port = unused_port()
    (kafka,), workers = plan(load(port=port, data_dir=tmp_path), 2, embedded=True)
    commands = [" ".join(worker.command) for worker in workers]
    assert [f"--port {port + i} --data-dir {tmp_path}/worker-{i}" in commands[i] for i in (0, 1)] == [True, True]
    assert f"--avoid {port} --avoid {port + 1}" in " ".join(kafka.command)


def test_each_of_several_brokers_has_ports_and_a_folder_of_its_own_and_knows_the_others(tmp_path: Path) -> None:
    kafka, (worker,) = plan(load(port=unused_port(), data_dir=tmp_path, replication=3), 1, embedded=True, count=3)
    assert [broker.name for broker in kafka] == ["kafka-1", "kafka-2", "kafka-3"]
    shared = [command[command.index("--cluster-id") : command.index("--data-dir")] for command in map(as_list, kafka)]
    assert shared[0] == shared[1] == shared[2]
    assert shared[0].count("--controller-port") == 3
    ports = {command[command.index("--port") + 1] for command in map(as_list, kafka)}
    assert len(ports | set(shared[0][5::2])) == 6
    assert {command[-1] for command in map(as_list, kafka)} == {f"{tmp_path}/kafka/node-{n}" for n in (1, 2, 3)}
    assert worker.environment() == {"METRICS_REPLICATION": "3"}, "no broker has said where it is"


def as_list(program: Program) -> list[str]:
    return list(program.command)


@pytest.mark.parametrize(
    ("there", "asked", "said"),
    [
        (["kafka"], 3, "of 1 broker, not of 3: say --brokers 1"),
        (["kafka/node-1", "kafka/node-2", "kafka/node-3"], 1, "of 3 brokers, not of 1: say --brokers 3"),
        (["kafka/node-1"], 1, "of 1 broker, not of 1"),
        (["kafka/node-1", "kafka/node-2", "kafka/node-3"], 2, "of 3 brokers, not of 2: say --brokers 3"),
    ],
)
def test_a_folder_that_holds_a_kafka_of_another_number_of_brokers_is_refused(
    tmp_path: Path, there: list[str], asked: int, said: str
) -> None:
    for name in there:
        (tmp_path / name / "log").mkdir(parents=True)
    with pytest.raises(SettingsError, match=said):
        plan(load(port=unused_port(), data_dir=tmp_path), 1, embedded=True, count=asked)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_brokers_come_up_and_each_of_them_is_killed_by_a_drill() -> None:
    command = [sys.executable, "-m", "metrics_app", "drill", "--fresh", "--brokers", "3", "--yes", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"sent (\d+) counted \1 lost 0 double 0", done.stderr)
    assert {"kafka-1", "kafka-2", "kafka-3"} <= set(re.findall(r"kafka-\d", done.stdout))


def test_several_workers_do_not_share_an_advertised_url(tmp_path: Path) -> None:
    settings = load(port=unused_port(), data_dir=tmp_path, advertised_url="http://one.example")
    one, two = (plan(settings, workers, embedded=False)[0][0] for workers in (1, 2))
    assert "METRICS_ADVERTISED_URL" not in one.environment()
    assert two.environment()["METRICS_ADVERTISED_URL"] == ""


def test_one_of_several_workers_has_the_socket_of_statsd(tmp_path: Path) -> None:
    settings = load(port=unused_port(), data_dir=tmp_path, statsd="udp://127.0.0.1:8125")
    first, second = plan(settings, 2, embedded=False)[0]
    assert "METRICS_STATSD" not in first.environment()
    assert second.environment()["METRICS_STATSD"] == ""


def test_brokers_beside_a_kafka_of_the_users_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_KAFKA", "127.0.0.1:1")
    result = runner.invoke(app, ["up", "--brokers", "3", "--data-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "--brokers 3" in result.stderr


def test_a_kafka_of_the_users_is_used_as_it_is(tmp_path: Path) -> None:
    ((worker,),) = plan(load(port=unused_port(), data_dir=tmp_path, kafka="there:1"), 1, embedded=False)
    assert worker.environment()["METRICS_KAFKA"] == "there:1"


def test_processes_get_absolute_folders_so_that_a_drill_can_tell_whose_they_are() -> None:
    (kafka,), (worker,) = plan(load(port=unused_port(), data_dir=Path("data")), 1, embedded=True)
    assert kafka.command[-1] == f"{Path.cwd()}/data/kafka"
    assert worker.command[-1] == f"{Path.cwd()}/data/worker-0"


def test_a_worker_on_an_ipv6_address_is_asked_under_a_url_with_brackets(tmp_path: Path) -> None:
    for host, url in (("::1", "http://[::1]:8080"), ("::", "http://[::1]:8080"), ("0.0.0.0", "http://127.0.0.1:8080")):
        assert base_url(load(host=host, data_dir=tmp_path), 8080) == url


async def test_another_process_that_answers_in_the_place_of_a_worker_is_not_taken_for_it() -> None:
    """Of two installations that want the same port, the loser has a worker that is about to end."""
    pid = 4711

    async def ready(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ready", "pid": pid})

    app = web.Application()
    app.router.add_get("/readyz", ready)
    async with TestServer(app) as server:
        probe = answers(str(server.make_url("/readyz")))
        assert await probe(pid)
        assert not await probe(pid + 1)
        assert not await answers(str(server.make_url("/other")))(pid)


def test_a_new_worker_learns_which_kafka_the_others_belong_to(tmp_path: Path) -> None:
    note(tmp_path / "worker-0", "Mxyz")
    plan(load(port=unused_port(), data_dir=tmp_path, kafka="there:1"), 2, embedded=False)
    assert noted(tmp_path / "worker-1") == "Mxyz"


def test_more_replicas_than_the_embedded_kafka_has_brokers_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"METRICS_REPLICATION: 3 replicas .* METRICS_KAFKA"):
        plan(load(port=unused_port(), data_dir=tmp_path, replication=3), 1, embedded=True)


class Up:
    """A `metrics-app up` with a port and a folder of its own."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str] = NOTHING, disk: Path | None = None, workers: int = 1
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.port, self.folder, self.log = unused_port(), (disk or folder) / "data", folder / "stderr"
        self.url = f"http://127.0.0.1:{self.port}"
        command = [*COMMAND, "--port", str(self.port), "--data-dir", str(self.folder), "--workers", str(workers)]
        environment = {**os.environ, "METRICS_PARTITIONS": "2", **settings}
        with self.log.open("w") as stderr:
            self.process = psutil.Popen(command, env=environment, stdout=-1, stderr=stderr, text=True)

    def __enter__(self) -> Up:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.is_running():
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(60) == 0, self.said()
        self.process.stdout.close()

    def await_ready(self) -> None:
        """Until its first line, which is its invitation."""
        first = self.process.stdout.readline()
        assert first.startswith("ready"), self.said()
        assert self.url in first

    def said(self) -> str:
        """What it told on its terminal."""
        return self.log.read_text()

    def send(self) -> None:
        """One value for the key checkout."""
        assert self.post() == HTTPStatus.ACCEPTED

    def post(self) -> int:
        """Status of a request with one value."""
        try:
            body = b'["checkout", 12.5]'
            return urllib3.request("POST", f"{self.url}/samples", body=body, retries=False, timeout=5.0).status
        except urllib3.exceptions.HTTPError:
            return 0

    def count(self) -> int:
        """Values of that key that were counted since yesterday."""
        now = datetime.now(UTC)
        found = 0
        for hour in (now - timedelta(hours=1), now):
            reply = urllib3.request("GET", f"{self.url}/checkout/count/{hour:%Y-%m-%d}/{hour.hour}", retries=False)
            found += reply.json()["value"] if reply.status == HTTPStatus.OK else 0
        return found


def of_the_test(kafka: EmbeddedKafka, port: int) -> dict[str, str]:
    """The session's Kafka, with topics and a group of one test."""
    names = {f"METRICS_{topic}_TOPIC": f"up-{port}-{topic.lower()}" for topic in ("SAMPLES", "DEAD_LETTER")}
    return {"METRICS_KAFKA": kafka.bootstrap, "METRICS_NAME": f"up-{port}"} | names


@pytest.mark.kafka
def test_up_says_ready_serves_restarts_what_dies_or_hangs_and_stops_cleanly(
    kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    settings = of_the_test(kafka, unused_port())
    with Up(tmp_path, {"METRICS_SILENCE_TIMEOUT_S": "5", **settings}) as up:
        up.await_ready()
        up.send()
        worker = psutil.Process(int((up.folder / "run" / "worker-0.pid").read_text()))
        worker.kill()
        wait_for(lambda: up.said().count("worker-0 is ready") == 2)
        assert up.said().count("worker-0 was killed by SIGKILL; starting it again in 0.5 s") == 1
        up.send()
        psutil.Process(int((up.folder / "run" / "worker-0.pid").read_text())).suspend()
        wait_for(lambda: up.said().count("worker-0 is ready") == 3)
        assert "worker-0 gave no sign of life for 5 s; killed" in up.said()
        up.send()
    assert not list((up.folder / "run").glob("*.pid"))
    assert is_free(up.port)


@pytest.mark.kafka
@pytest.mark.parametrize(
    "apart_s", [0.0, *(pytest.param(apart_s, marks=pytest.mark.slow) for apart_s in (0.0, 0.3, 0.7, 1.2, 2.0))]
)
def test_two_installations_of_the_same_instant_have_nothing_in_common(apart_s: float, tmp_path: Path) -> None:
    with Up(tmp_path / "one") as one:
        time.sleep(apart_s)
        with Up(tmp_path / "two") as two:
            for up, values in ((one, 3), (two, 5)):
                up.await_ready()
                for _ in range(values):
                    up.send()
            wait_for(lambda: (one.count(), two.count()) == (3, 5))
            kafkas = [Storage(up.folder / "kafka").address() for up in (one, two)]
            assert None not in kafkas
            assert len({kafka.port for kafka in kafkas if kafka}) == 2
            assert [noted(up.folder / "worker-0") for up in (one, two)] == [k.broker.cluster_id for k in kafkas if k]


@pytest.mark.kafka
def test_up_ends_with_the_reason_first(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    settings = of_the_test(kafka, unused_port())
    with Up(tmp_path / "one", settings) as up:
        up.await_ready()
    with Up(tmp_path / "three", {**settings, "METRICS_REPLICATION": "3"}) as up:
        assert up.process.wait(60) == 1
    (error,) = [line for line in up.said().splitlines() if line.startswith("error: ")]
    topic = settings["METRICS_SAMPLES_TOPIC"]
    assert (
        f"error: worker-0: the worker cannot go on: topic {topic} has 1 replicas, METRICS_REPLICATION says 3: " in error
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that can be filled without harm."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here; test_supervisor.py has the form without one")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.kafka
def test_a_full_disk_is_waited_out_and_nothing_accepted_is_lost(small_disk: Path, tmp_path: Path) -> None:
    with Up(tmp_path, disk=small_disk) as up:
        up.await_ready()
        accepted = sum(up.post() == HTTPStatus.ACCEPTED for _ in range(3))
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(1 << 20)):
                pass
        while "waits for disk space" not in up.said():
            accepted += up.post() == HTTPStatus.ACCEPTED
            time.sleep(0.2)
        assert up.process.is_running()
        filler.unlink()
        wait_for(lambda: up.said().count("kafka is ready") == 2)
        wait_for(lambda: up.post() == HTTPStatus.ACCEPTED)
        wait_for(lambda: up.count() == accepted + 1)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
