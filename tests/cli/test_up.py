from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest
import urllib3
from typer.testing import CliRunner

from metrics_app.broker.embedded import EmbeddedKafka
from metrics_app.broker.ports import is_free
from metrics_app.cli.main import app
from metrics_app.cli.stages import plan
from metrics_app.settings import load

runner = CliRunner()
COMMAND = (sys.executable, "-m", "metrics_app", "up")


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
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


def test_each_worker_has_a_port_and_a_folder_of_its_own(tmp_path: Path) -> None:
    port = unused_port()
    (kafka,), workers = plan(load(port=port, data_dir=tmp_path), 2, embedded=True)
    commands = [" ".join(worker.command) for worker in workers]
    assert [f"--port {port + i} --data-dir {tmp_path}/worker-{i}" in commands[i] for i in (0, 1)] == [True, True]
    assert f"--avoid {port} --avoid {port + 1}" in " ".join(kafka.command)


def test_several_workers_do_not_share_an_advertised_url(tmp_path: Path) -> None:
    settings = load(port=unused_port(), data_dir=tmp_path, advertised_url="http://one.example")
    one, two = (plan(settings, workers, embedded=False)[0][0] for workers in (1, 2))
    assert "METRICS_ADVERTISED_URL" not in one.environment()
    assert two.environment()["METRICS_ADVERTISED_URL"] == ""


def test_a_kafka_of_the_users_is_used_as_it_is(tmp_path: Path) -> None:
    ((worker,),) = plan(load(port=unused_port(), data_dir=tmp_path, kafka="there:1"), 1, embedded=False)
    assert worker.environment()["METRICS_KAFKA"] == "there:1"


def test_processes_get_absolute_folders_so_that_a_drill_can_tell_whose_they_are() -> None:
    (kafka,), (worker,) = plan(load(port=unused_port(), data_dir=Path("data")), 1, embedded=True)
    assert kafka.command[-1] == f"{Path.cwd()}/data/kafka"
    assert worker.command[-1] == f"{Path.cwd()}/data/worker-0"


@pytest.mark.kafka
@pytest.mark.usefixtures("one_up_at_a_time")
def test_up_says_ready_serves_restarts_what_dies_and_stops_cleanly(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    port = unused_port()
    url, log = f"http://127.0.0.1:{port}", tmp_path / "stderr"
    environment = {**os.environ, "METRICS_KAFKA": kafka.bootstrap, "METRICS_NAME": f"up-{port}"}
    environment |= {f"METRICS_{topic}_TOPIC": f"up-{port}-{topic.lower()}" for topic in ("SAMPLES", "DEAD_LETTER")}
    command = [*COMMAND, "--port", str(port), "--data-dir", str(tmp_path / "data")]
    with log.open("w") as stderr, psutil.Popen(command, env=environment, stdout=-1, stderr=stderr, text=True) as up:
        try:
            first = up.stdout.readline()
            assert first.startswith("ready")
            assert url in first
            send(url)
            worker = psutil.Process(int((tmp_path / "data" / "run" / "worker-0.pid").read_text()))
            worker.kill()
            wait_for(lambda: log.read_text().count("worker-0 is ready") == 2)
            assert log.read_text().count("worker-0 was killed by SIGKILL; starting it again in 0.5 s") == 1
            send(url)
        finally:
            up.send_signal(signal.SIGTERM)
            assert up.wait(40) == 0
    assert not list((tmp_path / "data" / "run").glob("*.pid"))
    assert is_free(port)


def send(url: str) -> None:
    reply = urllib3.request("POST", f"{url}/samples", body=b'["checkout", 12.5]', retries=False)
    assert reply.status == 202


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.1)
