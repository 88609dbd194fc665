"""The others, each as a process that drains a topic of one message a sample and says what it counted."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.backlog import Way
from benchmarks.bench import Bench
from benchmarks.meter import Drain, Point, cpu_s, drain, rss_mb
from benchmarks.peers import java
from benchmarks.samples import Samples, Total
from metrics_app.kafka.ports import free_port

ROOT = Path(__file__).parent.parent.parent
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
PARTITIONS = 8  # our own default
STREAM_THREADS = 2  # as many as this comparison was asked for; the machine has two cores
PATIENCE_S = 240.0


@dataclass(frozen=True)
class Contender:
    """One of the others.

    Attributes:
        name: its key in the results.
        rate: samples a second it is expected to do, which says how many it gets.
        command: from what every one is told (bootstrap, topic, samples, group, state folder) to its command line.
        closing: whether it needs samples of a later hour to say what it counted.
        least: samples it gets at least, for Java compiles what is hot while it runs.
        shares: whose backlog it drains; empty: one of its own.
    """

    name: str
    rate: int
    command: Callable[[Bench, list[str]], list[str]]
    closing: bool = False
    least: int = 0
    shares: str = ""


def _python(module: str, python: Path) -> Callable[[Bench, list[str]], list[str]]:
    return lambda bench, arguments: [str(python), "-m", f"benchmarks.peers.{module}", *arguments]


def _faust(bench: Bench, arguments: list[str]) -> list[str]:
    return _python("naive_faust", Path(sys.executable))(bench, [*arguments, str(free_port())])


def _streams(guarantee: str) -> Callable[[Bench, list[str]], list[str]]:
    def command(bench: Bench, arguments: list[str]) -> list[str]:
        path = java.class_path(bench.folder / "classes")
        return java.command(path, *arguments, STREAM_THREADS, guarantee)

    return command


CONTENDERS = (
    Contender("naive_faust", 1_000, _faust),
    Contender("quix_streams", 11_000, _python("quix_streams", PEERS_PYTHON), closing=True),
    Contender("kafka_streams", 250_000, _streams("at_least_once"), least=1_200_000),
    Contender("kafka_streams_eos", 250_000, _streams("exactly_once_v2"), shares="kafka_streams"),
)


def produce(bench: Bench, topic: str, samples: Samples, hour: int, closing: bool) -> Way:
    """Fills a new topic with a message a sample; returns what one cost its producer and Kafka."""
    asyncio.run(_create(bench.kafka.bootstrap, topic))
    arguments = [bench.kafka.bootstrap, topic, str(samples.keys), str(samples.count), str(hour)]
    command = _python("produce", PEERS_PYTHON)(bench, arguments) + (["--closing"] if closing else [])
    broker, started = cpu_s(bench.broker), time.monotonic()
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.monotonic() - started
    cost = int(done.stdout.split()[1])
    return Way(cost, round(1e9 * (cpu_s(bench.broker) - broker) / samples.count), round(samples.count / seconds))


async def _create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        config = {"message.timestamp.type": "CreateTime"}
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs=config)])
    finally:
        await admin.close()


def run(bench: Bench, contender: Contender, topic: str, samples: Samples) -> tuple[Drain, dict[str, Total]]:
    """The drain of a filled topic by one of the others, and what it counted.

    Raises:
        RuntimeError: it ended or was too slow before it had everything.
    """
    folder = bench.folder / bench.name(contender.name)
    folder.mkdir()
    arguments = [bench.kafka.bootstrap, topic, str(samples.count), folder.name, str(folder / "state")]
    log = folder / "log"
    command = contender.command(bench, arguments)
    with log.open("wb") as errors:
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
    too_late = threading.Timer(PATIENCE_S, child.kill)  # its output then ends as well
    too_late.start()
    try:
        return _watch(bench, child, samples.count)
    except LookupError as error:
        raise RuntimeError(f"{contender.name} did not count everything: {log.read_text()[-2000:]}") from error
    finally:
        too_late.cancel()
        child.kill()
        child.wait()


def _watch(bench: Bench, child: subprocess.Popen[str], count: int) -> tuple[Drain, dict[str, Total]]:
    assert child.stdout is not None
    process, memory = psutil.Process(child.pid), 0
    points = [Point(0.0, 0, 0.0, 0.0)]
    for line in child.stdout:
        word, _, rest = line.partition(" ")
        if word == "progress":
            done = min(int(rest), count)  # closing samples are not part of it
            points.append(Point(time.monotonic(), done, cpu_s(process), cpu_s(bench.broker)))
            memory = max(memory, rss_mb(process))
        elif word == "rows" and points[-1].done == count:
            rows: dict[str, Any] = msgspec.json.decode(rest)
            return drain(points, memory), {key: Total(*row) for key, row in rows.items()}
    raise LookupError("no rows")
