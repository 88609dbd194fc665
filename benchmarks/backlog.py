"""A backlog of our own: samples through a real collector into Kafka, and the worker that folds it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.request import urlopen

import msgspec

from benchmarks.bench import Bench
from benchmarks.flood import flood, post
from benchmarks.meter import Drain, Point, cpu_s, drain, rss_mb
from benchmarks.samples import Block, Samples, Total
from benchmarks.services import Service, service

HOUR_S = 3600
CONNECTIONS = 8
POLL_S = 0.2  # a look costs a worker 2 ms
DRAIN_S = 600.0
MSGPACK = "application/msgpack"


class Way(NamedTuple):
    """The way into Kafka: CPU nanoseconds a value of the process that leads it there and of Kafka; values a second."""

    cpu_ns: int
    broker_cpu_ns: int
    per_s: int


def this_hour() -> int:
    """The UTC hour that samples without a time of their own belong to."""
    return int(time.time()) // HOUR_S


def columns(samples: Samples, hour: int, batch: int) -> Iterator[tuple[bytes, int]]:
    """Bodies of `batch` values as MessagePack columns, numbered by one sender, and their counts."""
    sender, numbers = str(uuid.uuid4()), Counter[int]()
    for block in samples.blocks():
        for at in range(0, len(block.values), batch):
            part = Block(block.keys[at : at + batch], block.values[at : at + batch])
            series = []
            for index, values in part.by_key():
                name, first = samples.name(index), numbers[index]
                series.append({"key": name, "hour": hour, "first": first, "values": values.astype("<f8").tobytes()})
                numbers[index] += len(values)
            yield msgspec.msgpack.encode({"sender": sender, "series": series}), len(part.values)


def fill(
    bench: Bench,
    name: str,
    bodies: Iterator[tuple[bytes, int]],
    content_type: str = MSGPACK,
    connections: int = CONNECTIONS,
) -> Way:
    """Posts the bodies to a collector of their own, all that Kafka acknowledges; returns what a value cost.

    Raises:
        RuntimeError: a request was not accepted.
    """
    sent = 0

    def feed(_connection: int) -> bytes | None:
        nonlocal sent
        body, count = next(bodies, (b"", 0))
        sent += count
        return post(url, body, content_type) if count else None

    with service(bench, "collector", name, request_deadline_s=30) as collector:
        url, processes = collector.url, (collector.process, bench.broker)
        before = [cpu_s(process) for process in processes]
        done = asyncio.run(flood(url, feed, connections))
        used = [cpu_s(process) - start for process, start in zip(processes, before, strict=True)]
    if done.failed:
        raise RuntimeError(f"{done.failed} requests were not accepted")
    of_collector, of_broker = (round(1e9 * seconds / sent) for seconds in used)
    return Way(of_collector, of_broker, round(sent / done.seconds))


def folded(bench: Bench, worker: Service, count: int) -> Drain:
    """The drain of a backlog of `count` values by a worker that has just been started.

    Raises:
        TimeoutError: it is not drained in time.
    """
    points, deadline = [Point(0.0, 0, 0.0, 0.0)], time.monotonic() + DRAIN_S
    while points[-1].done < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{points[-1].done:,} of {count:,} values are folded after {DRAIN_S:g} s: {worker.log}")
        time.sleep(POLL_S)
        done = round(worker.metric("metrics_app_folded_values_total"))
        points.append(Point(time.monotonic(), done, cpu_s(worker.process), cpu_s(bench.broker)))
    return drain(points, rss_mb(worker.process))


def rows(worker: Service, samples: Samples, hour: int) -> dict[str, Total]:
    """What the worker answers for each key; a key it has nothing of is missing."""
    at = datetime.fromtimestamp(hour * HOUR_S, UTC)
    found = {}
    for index in range(samples.keys):
        key = samples.name(index)
        with urlopen(f"{worker.url}/{key}/summary/{at:%Y-%m-%d}/{at.hour}", timeout=30) as reply:
            answer: dict[str, Any] = msgspec.json.decode(reply.read())
        values = answer["values"]
        found[key] = Total(answer["count"], values["sum"], values["min"], values["max"])
    return found
