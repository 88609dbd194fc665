"""Clocks that are wrong, on real processes: of the broker, of an aggregator, of a collector; and retention that was
quicker than the fold. One broker and four workers for all stories, each of which leaves every clock right.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from metrics_app.http.proof import HOP
from metrics_app.kafka.ports import free_port
from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk
from metrics_app.wire.partition import partition_of
from tests.faults.broker_time import Stamped, append
from tests.faults.clocked import CLOCK_FILE, set_clock
from tests.faults.installation import Installation, eventually
from tests.faults.pace import stretched
from tests.faults.process import Process

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

HOUR_S, DAY_S = 3600, 86_400
AWAY_S = [40 * DAY_S, 25 * HOUR_S, HOUR_S, -2 * HOUR_S, -40 * DAY_S]
PARTITIONS = len(AWAY_S)
HOUR = int(time.time()) // HOUR_S
HOURS = [HOUR - 30, HOUR - 3, HOUR]
CHANGELOG = "metrics-aggregator-hours-changelog"
AGGREGATORS, COLLECTORS = ("a", "b"), ("c", "d")


def keys() -> list[str]:
    """One of each partition."""
    of = {partition_of(key.encode(), PARTITIONS): key for key in (f"key-{number}" for number in range(200))}
    return [of[partition] for partition in range(PARTITIONS)]


KEYS = keys()


class Reply(NamedTuple):
    status: int
    headers: Message
    body: dict[str, Any]


def call(url: str, data: Any = None, **headers: str) -> Reply:
    content = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return Reply(reply.status, reply.headers, json.load(reply))
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.headers, json.load(error))


class Books:
    """What was accepted, by key and hour, and what the installation answers."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.accepted: Counter[tuple[str, int]] = Counter()

    def url(self, name: str) -> str:
        return self.installation.workers[name].url

    def clock(self, name: str, off_s: float) -> None:
        set_clock(Path(self.installation.workers[name].settings[CLOCK_FILE]), off_s)

    def send(self, hours: list[int] = HOURS, to: str = "d", name: str = "") -> None:
        """A value of each key and hour; under an Idempotency-Key it is counted here as often as it should be."""
        body = [[key, 1.0, hour * HOUR_S + 1] for key in KEYS for hour in hours]
        reply = call(f"{self.url(to)}/samples", body, **({"Idempotency-Key": name} if name else {}))
        assert (reply.status, reply.body.get("accepted")) == (202, len(body)), reply
        self.accepted.update((key, hour) for key in KEYS for hour in hours)

    def repeat(self, name: str, hours: list[int] = HOURS) -> None:
        """The same request again, which counts no more."""
        accepted = self.accepted.copy()
        self.send(hours, name=name)
        self.accepted = accepted

    def ask(self, key: str, hour: int, of: str, held: bool = False) -> Reply:
        """What a worker answers; `held`: of its own copy."""
        at = datetime.fromtimestamp(hour * HOUR_S, UTC)
        return call(f"{self.url(of)}/{key}/count/{at:%F}/{at.hour}", **({HOP: "1"} if held else {}))

    def answers(self) -> dict[tuple[str, int], list[dict[str, Any]]]:
        """The answer of the owner and of the standby to each row."""
        return {
            (key, hour): [self.ask(key, hour, name, held=True).body for name in AGGREGATORS]
            for key, hour in self.accepted
        }

    def is_exact(self) -> bool:
        """Owner and standby have what was accepted of each row."""
        self.wrong = {
            row: (self.accepted[row], found)
            for row, answers in self.answers().items()
            if (found := [each.get("count", each) for each in answers]) != [self.accepted[row]] * len(AGGREGATORS)
        }
        return not self.wrong

    def assert_exact(self, within_s: float = 30.0) -> None:
        """So it is at last, and no hour that is open is said to be final."""
        give_up = time.monotonic() + stretched(within_s)
        while not self.is_exact():
            assert time.monotonic() < give_up, f"accepted, found by owner and standby: {list(self.wrong.items())[:4]}"
            time.sleep(0.3)
        now = int(time.time()) // HOUR_S
        final = [
            row for row, found in self.answers().items() if row[1] >= now and any(each.get("final") for each in found)
        ]
        assert not final, "an open hour is not final"

    def await_warning(self, name: str, words: str) -> None:
        """Waits until /readyz says so, there is a line in the log, and the metric is not 0."""

        def is_said() -> bool:
            document = json.dumps(call(f"{self.url(name)}/readyz").body)
            said = self.installation.workers[name].said
            return words in document and "METRICS_CLOCK_TOLERANCE_S" in said and self.difference_s(name) != 0.0

        asyncio.run(eventually(is_said, 20))

    def difference_s(self, name: str) -> float:
        return self.installation.counts("metrics_app_clock_difference_seconds")[name]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("clocks")
    settings = {
        "METRICS_PARTITIONS": str(PARTITIONS),
        "METRICS_FLUSH_INTERVAL_S": "0.3",
        "METRICS_SESSION_TIMEOUT_S": "6",
    }
    roles = dict.fromkeys(AGGREGATORS, "aggregator") | dict.fromkeys(COLLECTORS, "collector")
    installation = Installation(folder, roles, settings)
    for name, worker in installation.workers.items():
        worker.module = "tests.faults.clocked"
        worker.settings[CLOCK_FILE] = str(folder / f"{name}.clock")
    with installation:
        yield installation


@pytest.fixture
def books(installation: Installation) -> Iterator[Books]:
    books = shared.setdefault(str(installation.folder), Books(installation))
    yield books
    for name in installation.workers:
        books.clock(name, 0.0)


shared: dict[str, Books] = {}


def together(do: Callable[[str], Any], names: tuple[str, ...]) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(do, names))


def restart(installation: Installation, names: tuple[str, ...]) -> None:
    together(lambda name: installation.workers[name].stop(), names)
    together(installation.restart, names)


def test_records_of_brokers_whose_clocks_are_wrong_cost_nobody_anything(
    installation: Installation, books: Books
) -> None:
    """One partition each: 40 days, 25 h and 1 h ahead, 2 h and 40 days behind; before and after a restart of all.

    In the changelog it is a record that was there already.
    """
    name = uuid.uuid4().hex
    books.send()
    books.send(name=name)
    books.assert_exact()
    now = time.time()
    odd = [
        Stamped(at, record.encode([Chunk(key.encode(), HOUR, struct.pack("<d", 1.0))]), now + away_s)
        for at, (key, away_s) in enumerate(zip(KEYS, AWAY_S, strict=True))
    ]
    kafka = installation.kafka.bootstrap
    again = [asyncio.run(last_of(kafka, CHANGELOG, at))._replace(at_s=now + away_s) for at, away_s in enumerate(AWAY_S)]
    asyncio.run(append(kafka, "samples", odd))
    asyncio.run(append(kafka, CHANGELOG, again))
    books.accepted.update((key, HOUR) for key in KEYS)
    books.assert_exact()
    for aggregator in AGGREGATORS:
        books.await_warning(aggregator, "Kafka's clock is ")
    for attempt in range(2):
        books.send()
        books.repeat(name)
        books.assert_exact()
        if not attempt:
            restart(installation, (*AGGREGATORS, *COLLECTORS))
            books.assert_exact()


def test_an_aggregator_whose_own_clock_is_wrong_deletes_nothing_and_calls_nothing_final(
    installation: Installation, books: Books
) -> None:
    """From its start 40 days ahead, then, while it runs, 2 h behind, then back and forth."""
    name, b = uuid.uuid4().hex, installation.workers["b"]
    books.send(name=name)
    books.assert_exact()
    b.stop()
    books.clock("b", 40 * DAY_S)
    installation.restart("b")
    for off_s in (40 * DAY_S, -2 * HOUR_S):
        books.clock("b", off_s)
        books.await_warning("b", "behind" if off_s > 0 else "ahead of")
        books.send()
        books.repeat(name)
        books.assert_exact()
    for turn in range(20):
        books.clock("b", (turn % 5 - 2) * 10 * DAY_S)
        books.send([HOUR])
        time.sleep(0.15)
    books.clock("b", 0.0)
    books.repeat(name)
    books.assert_exact()
    asyncio.run(eventually(lambda: abs(books.difference_s("b")) < 1, 20))
    asyncio.run(eventually(lambda: books.ask(KEYS[0], HOUR - 30, "b").body["final"], 20))  # once it is proven again


def test_a_collector_whose_own_clock_is_wrong_takes_nothing_until_it_is_right(
    installation: Installation, books: Books
) -> None:
    """Stepped while it runs, and wrong from its start; the other one takes all that comes."""
    here = f"{books.url('c')}/samples"
    for off_s, at_start in ((2 * HOUR_S, False), (-40 * DAY_S, True), (40 * DAY_S, False), (-2 * HOUR_S, False)):
        refused = installation.counts("metrics_app_refused_values_total")["c"]
        if at_start:
            installation.workers["c"].stop()
            books.clock("c", off_s)
            installation.workers["c"].start()
            asyncio.run(eventually(installation.workers["c"].is_listening, 30))
            refused = 0.0
        books.clock("c", off_s)
        asyncio.run(eventually(lambda: "hour" in json.dumps(call(f"{books.url('c')}/readyz").body), 20))
        for sample in ([KEYS[0], 1.0], [KEYS[0], 1.0, time.time() + off_s], [KEYS[0], 1.0, time.time()]):
            reply = call(here, [sample])
            assert (reply.status, reply.headers["Date"]) == (503, None), reply
            assert reply.headers["Retry-After"]
        assert installation.counts("metrics_app_refused_values_total")["c"] == refused + 3
        books.send()
        books.clock("c", 0.0)
        asyncio.run(eventually(installation.workers["c"].is_ready, 10))
        books.send(to="c")
    assert call(here, [[KEYS[0], 1.0]]).headers["Date"]
    books.accepted[KEYS[0], int(time.time()) // HOUR_S] += 1
    books.assert_exact()


def test_a_collector_that_has_not_asked_kafka_yet_tells_nobody_the_time(tmp_path: Path) -> None:
    """Its clock may be wrong, and clients set theirs by the collectors' Date."""
    file, port = tmp_path / "clock", free_port()
    settings = {CLOCK_FILE: str(file), "METRICS_KAFKA": f"127.0.0.1:{free_port()}"}
    alone = Process("alone", ["collector", "--port", str(port), "--data-dir", str(tmp_path)], port, tmp_path, settings)
    alone.module = "tests.faults.clocked"
    set_clock(file, 40 * DAY_S)
    alone.start()
    try:
        asyncio.run(eventually(alone.is_listening, 30))
        for sample in (["key", 1.0], ["key", 1.0, time.time()]):
            reply = call(f"{alone.url}/samples", [sample])
            assert (reply.status, reply.headers["Date"]) == (503, None), reply
    finally:
        alone.end()


async def last_of(bootstrap: str, topic: str, partition: int) -> Stamped:
    """The last record of a partition."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        tp = TopicPartition(topic, partition)
        consumer.assign([tp])
        consumer.seek(tp, (await consumer.end_offsets([tp]))[tp] - 1)
        found = await consumer.getone()
    return Stamped(partition, found.value, 0.0, found.key)


async def delete(bootstrap: str, upto: dict[int, int | None]) -> None:
    """Deletes records of the samples topic, as retention does: up to an offset, or all of the partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        wanted = {TopicPartition("samples", at): RecordsToDelete(-1 if to is None else to) for at, to in upto.items()}
        await admin.delete_records(wanted)
    finally:
        await admin.close()


async def end_of(bootstrap: str, partition: int) -> int:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        tp = TopicPartition("samples", partition)
        return int((await consumer.end_offsets([tp]))[tp])


def test_records_that_retention_deleted_before_they_were_folded_are_said_to_be_lost(
    installation: Installation, books: Books
) -> None:
    """Of one partition all that waited, of another one two of three; before and after a rebuild from the changelog."""
    kafka, all_of, some_of = installation.kafka.bootstrap, 0, 1
    hour = int(time.time()) // HOUR_S  # that runs now, which need not be the one in which the tests began
    books.send()
    books.assert_exact()
    together(lambda name: installation.workers[name].stop(), AGGREGATORS)
    down = time.time()
    before = asyncio.run(end_of(kafka, some_of))
    for _ in range(3):
        books.send([hour])
    asyncio.run(delete(kafka, {all_of: None, some_of: before + 2}))
    books.accepted.subtract({(KEYS[all_of], hour): 3, (KEYS[some_of], hour): 2})
    together(installation.restart, AGGREGATORS)
    for attempt in range(2):
        books.send([hour])
        books.assert_exact(60)
        for partition, lost in ((all_of, 3), (some_of, 2), (2, 0)):
            for answer in (each for name in AGGREGATORS for each in [books.ask(KEYS[partition], hour, name).body]):
                missing = None if lost else 0
                assert (answer["lost_records"], answer["missing"]) == (lost, missing), answer
                assert (datetime.fromisoformat(answer["as_of"]).timestamp() < down + 1) == bool(lost), answer
                assert not (lost and answer["final"])
        listed = call(f"{books.url('a')}/keys?date={datetime.fromtimestamp(hour * HOUR_S, UTC):%F}").body
        assert (listed["keys"], listed["lost_records"]) == (sorted(KEYS), 5)
        if not attempt:
            asyncio.run(installation.rebuild())
