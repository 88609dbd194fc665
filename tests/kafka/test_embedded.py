"""The embedded Kafka as a process: starts, restarts, dies with us, and never touches what is not its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from metrics_app.errors import BrokerError
from metrics_app.kafka import connections, embedded, topics
from metrics_app.kafka.embedded import EmbeddedKafka
from metrics_app.kafka.ports import broker_at, free_port
from metrics_app.kafka.storage import Storage
from metrics_app.settings import Settings
from tests.conftest import MakeSettings

pytestmark = pytest.mark.kafka
DEADLINE_S = 30.0
START = """
import sys, time
from pathlib import Path
from metrics_app.kafka.embedded import EmbeddedKafka
broker = EmbeddedKafka(Path(sys.argv[1]), 0)
broker.start()
print(broker.pid, broker.port, flush=True)
time.sleep(600)
"""
MakeBroker = Callable[..., EmbeddedKafka]


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[MakeBroker]:
    """Makes brokers, by default on one folder and any free port; they are stopped at the end."""
    made: list[EmbeddedKafka] = []

    def make(port: int | None = 0, folder: str = "kafka", advertised: str = "") -> EmbeddedKafka:
        made.append(EmbeddedKafka(tmp_path / folder, port, advertised=advertised))
        return made[-1]

    yield make
    for broker in made:
        broker.stop()


async def produce(settings: Settings, values: list[bytes]) -> None:
    async with connections.producer(settings) as sender:
        for value in values:
            await sender.send_and_wait(settings.samples_topic, value, partition=0)


async def consume(settings: Settings, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(**connections.client_options(settings), auto_offset_reset="earliest") as reader:
        reader.assign([TopicPartition(settings.samples_topic, 0)])
        return [(await reader.getone()).value for _ in range(count)]


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


async def test_what_was_acknowledged_is_there_after_kill_9_and_after_a_stop(
    make_broker: MakeBroker, make_settings: MakeSettings
) -> None:
    broker = make_broker()
    broker.start()
    here = make_settings(kafka=broker.bootstrap, partitions=2)
    await topics.ensure(here)
    values = [b"value %d" % i for i in range(50)]
    await produce(here, values)
    broker.kill()
    assert broker_at(broker.port) is None
    broker.start()
    assert await consume(here, 50) == values
    await produce(here, [b"after the crash"])
    broker.stop()
    assert broker.pid is None
    broker.start()
    assert await consume(here, 51) == [*values, b"after the crash"]


def test_a_second_kafka_on_one_folder_is_refused_and_names_the_first(make_broker: MakeBroker) -> None:
    first, second = make_broker(), make_broker()
    first.start()
    with pytest.raises(BrokerError, match=rf"another Kafka \(pid {first.pid}\) uses .*kill {first.pid}\).*--data-dir"):
        second.start()
    assert broker_at(first.port)
    first.stop()
    second.start()
    assert broker_at(second.port)


def test_of_two_that_start_at_once_on_an_empty_folder_one_is_refused(make_broker: MakeBroker) -> None:
    with ThreadPoolExecutor(2) as pool:
        errors = [started.exception() for started in [pool.submit(make_broker().start) for _ in range(2)]]
    (refused,) = [error for error in errors if error is not None]
    assert isinstance(refused, BrokerError)
    assert str(refused).startswith("another Kafka ")


def test_a_killed_starter_takes_its_kafka_along_and_the_folder_is_free_again(
    make_broker: MakeBroker, tmp_path: Path
) -> None:
    """Also: with nothing in PATH, so without a Java, a Maven or a shell's tools."""
    starter = subprocess.Popen(
        [sys.executable, "-c", START, str(tmp_path / "kafka")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert starter.stdout is not None
    with starter.stdout as lines:
        pid = int(lines.readline().split()[0])
    assert psutil.pid_exists(pid)
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    again = make_broker()
    again.start()  # waits for the old one to be gone
    assert eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_stopped_kafka_dies_with_its_starter_too_and_the_next_start_waits_for_that(
    make_broker: MakeBroker, tmp_path: Path
) -> None:
    """A process under SIGSTOP keeps SIGTERM waiting: the guard goes on to SIGKILL."""
    starter = subprocess.Popen([sys.executable, "-c", START, str(tmp_path / "kafka")], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    with starter.stdout as lines:
        kafka = psutil.Process(int(lines.readline().split()[0]))
    kafka.suspend()
    starter.kill()
    starter.wait()
    broker = make_broker()
    broker.start()
    assert broker_at(broker.port)
    assert not kafka.is_running() or kafka.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("version=1\nnode.id=7\ncluster.id=abc\n", "belongs to node 7"),
        ("version=0\nbroker.id=1\ncluster.id=abc\n", "another format"),
        ("\0" * 100, "another format, or damaged"),
        (None, "cannot be read"),
    ],
)
def test_a_folder_that_is_not_ours_is_refused_and_left_as_it_is(
    make_broker: MakeBroker, tmp_path: Path, content: str | None, problem: str
) -> None:
    log = tmp_path / "kafka" / "log"
    log.mkdir(parents=True)
    (log / "somebody's data").write_text("precious")
    if content is not None:
        (log / "meta.properties").write_text(content)
    with pytest.raises(BrokerError, match=rf"{problem}.*choose another --data-dir, or move {log} away"):
        make_broker().start()
    assert (log / "somebody's data").read_text() == "precious"
    assert (log / "meta.properties").exists() == (content is not None)


def test_damage_that_kafka_itself_finds_is_reported_with_its_reason(make_broker: MakeBroker, tmp_path: Path) -> None:
    broker = make_broker()
    broker.start()
    broker.stop()
    (tmp_path / "kafka" / "log" / "__cluster_metadata-0" / "quorum-state").write_text("{ damaged")
    with pytest.raises(BrokerError, match=r"Kafka ended with code 1 at its start: .*quorum.*\(see .*kafka\.log\)"):
        broker.start()
    assert broker.pid is None


def test_a_format_that_was_interrupted_is_done_again(make_broker: MakeBroker, tmp_path: Path) -> None:
    unfinished = tmp_path / "kafka" / "log.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "bootstrap.checkpoint").write_bytes(b"half")
    broker = make_broker()
    broker.start()
    assert broker_at(broker.port)


def test_a_port_that_was_asked_for_and_is_taken_is_refused(make_broker: MakeBroker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"port {port} on 127\.0\.0\.1 is taken: .*--port"):
            make_broker(port).start()


def test_where_the_default_port_is_taken_another_is_chosen_and_kept(
    make_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default is another here: those of other tests take the real one, and the ports behind it."""
    default = free_port()
    monkeypatch.setattr(embedded, "DEFAULT_PORT", default)
    broker = make_broker(port=None)
    with socket.create_server(("127.0.0.1", default)):
        broker.start()
    assert broker.port != default
    bootstrap = broker.bootstrap
    broker.stop()
    broker.start()
    assert broker.bootstrap == bootstrap


def test_who_loses_the_race_for_a_port_takes_another_even_to_a_kafka_on_a_copy_of_its_folder(
    make_broker: MakeBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody answers on the port of a copy, with the same cluster id; it is another process all the same."""
    first = make_broker(folder="first")
    first.start()
    shutil.copytree(tmp_path / "first", tmp_path / "copy", ignore=shutil.ignore_patterns(".lock", "kafka.pid"))
    copy = make_broker(port=None, folder="copy")
    monkeypatch.setattr(embedded, "is_free", lambda _port: True)  # as it was a moment before
    copy.start()
    assert copy.port != first.port
    found = [broker_at(port) for port in (first.port, copy.port)]
    assert None not in found
    assert len({broker.cluster_id for broker in found if broker}) == 1
    assert len({broker.run for broker in found if broker}) == 2


def test_several_that_start_at_once_take_a_port_each(make_broker: MakeBroker) -> None:
    brokers = [make_broker(port=None, folder=f"kafka-{i}") for i in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda broker: broker.start(), brokers))
    assert all(broker_at(broker.port) == broker.storage.address().broker for broker in brokers)  # type: ignore[union-attr]
    assert len({broker.storage.cluster_id() for broker in brokers}) == 2


def test_a_folder_may_have_any_name_that_can_be_written_in_a_line(tmp_path: Path) -> None:
    """Also in a locale that knows ASCII only: lists, templates, escapes and addresses are made of these characters."""
    folder = tmp_path / "a,b\\c\\u0041 {x} ${env:HOME} = # % : ; ! 'é' 東"
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "metrics_app", "kafka", "--data-dir", str(folder) + "/"]
    environment = {**os.environ, **ascii_only}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    try:
        said = process.stdout.readline().decode()
        assert said.startswith("Kafka is ready on 127.0.0.1:"), process.stderr and process.stderr.read()
        assert said.endswith(f"its data and log are in {folder}\n")
        assert Storage(folder).runs()
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_S)
    assert [each.name for each in tmp_path.iterdir()] == [folder.name]
    assert {each.name for each in folder.iterdir()} >= {"log", "kafka.log", "jvm.log", "address"}
    assert EmbeddedKafka(folder).storage.cluster_id()


@pytest.mark.parametrize("name", [b"two\nlines", b"a\tb", b"latin \xff"])
def test_a_name_that_cannot_is_refused_with_a_sentence(name: bytes, tmp_path: Path) -> None:
    line = [
        sys.executable,
        "-m",
        "metrics_app",
        "kafka",
        "--data-dir",
        os.fsdecode(os.fsencode(tmp_path) + b"/" + name),
    ]
    done = subprocess.run(line, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: METRICS_DATA_DIR: expected a path "), done.stderr
    assert list(tmp_path.iterdir()) == []


async def test_clients_are_sent_to_the_advertised_address(make_broker: MakeBroker, make_settings: MakeSettings) -> None:
    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed.append(writer)
        there, back = await asyncio.open_connection("127.0.0.1", broker.port)
        await asyncio.gather(pipe(reader, back), pipe(there, writer))

    passed: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(pass_on, "127.0.0.1", 0) as proxy:
        broker = make_broker(advertised=f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        broker.start()
        here = make_settings(kafka=broker.bootstrap)
        await topics.ensure(here)
        assert passed
        proxied = len(passed)
        await produce(here, [b"by way of the proxy"])
        assert len(passed) > proxied
        broker.stop()
        await asyncio.sleep(0.1)  # both ends of every connection see the end


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


def test_the_command_runs_it_until_it_is_told_to_stop(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "kafka"
    command = [sys.executable, "-m", "metrics_app", "kafka", "--port", str(port), "--data-dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(f"Kafka is ready on 127.0.0.1:{port} ")
    pid = int((folder / "kafka.pid").read_text())
    process.terminate()
    _, said = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, said) == (0, "stopping Kafka\n")
    assert not psutil.pid_exists(pid)


def test_the_command_ends_with_code_70_when_its_kafka_dies(tmp_path: Path) -> None:
    folder = tmp_path / "kafka"
    command = [sys.executable, "-m", "metrics_app", "kafka", "--port", str(free_port()), "--data-dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(int((folder / "kafka.pid").read_text()), signal.SIGKILL)
    _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 70
    assert "Kafka ended with code -9" in said
