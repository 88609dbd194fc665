"""What strangers do to a running installation, at random; each that sends values keeps account of what was accepted."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk
from metrics_app.wire.partition import partition_of
from tests.faults import points
from tests.faults.broker_time import Stamped, append
from tests.faults.crashing import CRASH_FILE, RAISED
from tests.faults.installation import Installation

HOUR_S = 3600
DAY_S = 24 * HOUR_S
KEPT_WITHIN_S = 240.0  # a request is sent again, as the same one, for so long
SAMPLES, CHANGELOG = "samples", "metrics-aggregator-hours-changelog"
NUMBER_MAX = 2**64 - 1
SUPERVISED = {0, 3, 9, 70, -9, -15}  # exit codes after which a worker is started again; anything else is a finding

# an app that waits for its values to be taken, however long that lasts, and then says what has become of them
APP = """
import sys, time
from metrics_app import MetricsClient
client = MetricsClient(sys.argv[1].split(","))
for number in range(500):
    client.record(sys.argv[2], float(number))
give_up = time.monotonic() + 120
while not client.flush(timeout_s=10) and time.monotonic() < give_up:
    pass
stats = client.stats()
print(stats.sent, sum(stats.dropped.values()))
"""

Incident = Callable[[], Awaitable[None]]


class Strangers:
    """The incidents, and the account of what they sent.

    Attributes:
        accepted: values answered with 202, by key and hour; each is to count once.
        done: how often each incident has happened.
    """

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.random: random.Random = installation.random
        self.partitions = int(installation.settings["METRICS_PARTITIONS"])
        self.accepted: Counter[tuple[str, int]] = Counter()
        self.done: Counter[str] = Counter()
        self.incidents: list[Incident] = [
            self.poisoned_record,
            self.transaction,
            self.garbage_flood,
            self.damaged_changelog,
            self.ids_flood,
            self.app_with_a_client,
            self.clock_jumps,
            self.partly_rejected,
            self.half_closed,
            self.pipelined,
            self.silent_connections,
            self.garbage_requests,
            self.killed,
            self.frozen,
            self.stopped,
            self.raises,
            self.broker_killed,
        ]

    async def happen(self) -> None:
        """One of them, at random."""
        incident = self.random.choice(self.incidents)
        name = getattr(incident, "__name__", "")
        print(f"{datetime.now(UTC):%H:%M:%S} {name}", flush=True)
        await incident()
        self.done[name] += 1

    # records in the samples topic and in the changelog

    async def poisoned_record(self) -> None:
        """A record with a valid checksum that no collector writes."""
        key, hour = f"poison-{self.random.randrange(9)}".encode(), int(time.time()) // HOUR_S
        home = partition_of(key, self.partitions)
        one, two, sender = struct.pack("<d", 1.0), struct.pack("<2d", 1.0, 2.0), uuid.uuid4().bytes
        hostile: list[tuple[int, bytes]] = [
            (home, record.encode([Chunk(key, hour, two, sender, NUMBER_MAX)])),
            (home, record.encode([Chunk(key, hour, two, sender, NUMBER_MAX - 1)])),
            (home, record.encode([Chunk(key, 2**31 - 1, one)])),
            (home, record.encode([Chunk(key, -(2**31), one)])),
            (home, record.encode([Chunk(b"\xff\xfe", hour, one)])),
            (home, record.encode([Chunk(b"a\nb", hour, one)])),
            ((home + 1) % self.partitions, record.encode([Chunk(key, hour, one)])),
            (home, record.encode([Chunk(key, hour, b"")] * 20_000)),
            (home, b"\x80garbage"),
        ]
        partition, value = self.random.choice(hostile)
        async with self._producer() as producer:
            await producer.send_and_wait(SAMPLES, value, partition=partition)

    async def transaction(self) -> None:
        """A transaction of nothing but markers, whose offsets hold no record."""
        async with AIOKafkaProducer(
            bootstrap_servers=self.installation.kafka.bootstrap, transactional_id=f"stranger-{uuid.uuid4().hex[:6]}"
        ) as producer:
            for end in (producer.commit_transaction, producer.abort_transaction):
                await producer.begin_transaction()
                await producer.send_and_wait(SAMPLES, b"junk", partition=self.random.randrange(self.partitions))
                await end()

    async def garbage_flood(self) -> None:
        """So much garbage in a partition that it stops; the aggregators are started again, as somebody would."""
        partition = self.random.randrange(self.partitions)
        async with self._producer() as producer:
            for _ in range(101):
                await producer.send_and_wait(SAMPLES, b"garbage", partition=partition)
        await asyncio.sleep(2)
        for name, worker in self.installation.workers.items():
            if self.installation.roles[name] == "aggregator" and worker.is_running:
                await asyncio.to_thread(worker.stop, 60)

    async def damaged_changelog(self) -> None:
        """A changelog record of an existing row whose header is whole and whose checksum is not."""
        tp = TopicPartition(CHANGELOG, self.random.randrange(self.partitions))
        consumer = AIOKafkaConsumer(bootstrap_servers=self.installation.kafka.bootstrap, auto_offset_reset="earliest")
        async with consumer:
            consumer.assign([tp])
            found = await consumer.getmany(tp, timeout_ms=3000, max_records=500)
        rows = [one for one in found.get(tp, []) if one.key[:1] == b"\x10"]
        if rows:
            row = self.random.choice(rows)
            async with self._producer() as producer:
                damaged = row.value[:-1] + bytes([row.value[-1] ^ 1])
                await producer.send_and_wait(CHANGELOG, damaged, key=row.key, partition=tp.partition)

    async def clock_jumps(self) -> None:
        """One good record whose append time is that of a broker with a wrong clock."""
        away_s = self.random.choice([40 * DAY_S, 25 * HOUR_S, HOUR_S, -2 * HOUR_S, -40 * DAY_S])
        key, hour = f"stranger-clock-{self.random.randrange(4)}", int(time.time()) // HOUR_S
        value = record.encode([Chunk(key.encode(), hour, struct.pack("<d", 1.0))])
        odd = Stamped(partition_of(key.encode(), self.partitions), value, time.time() + away_s)
        await append(self.installation.kafka.bootstrap, SAMPLES, [odd])
        self.accepted[key, hour] += 1

    @contextlib.asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        async with AIOKafkaProducer(
            bootstrap_servers=self.installation.kafka.bootstrap, acks="all", max_request_size=4 << 20
        ) as producer:
            yield producer

    # requests

    async def partly_rejected(self) -> None:
        """A request of which one sample is too far ahead, sent again under its key once that sample is acceptable."""
        key, at = f"stranger-partly-{self.random.randrange(4)}", time.time()
        ahead = at + 302.0
        body, name = [[key, 1.0, at], [key, 2.0, ahead]], uuid.uuid4().hex
        await self._keep(body, name)
        await asyncio.sleep(3.5)
        reply = await self._keep(body, name)
        assert reply["accepted"] == len(body), reply
        for each in (at, ahead):
            self.accepted[key, int(each) // HOUR_S] += 1

    async def half_closed(self) -> None:
        """A client that closes its side right after the request; what it got no answer for it sends again."""
        key, hour, name = f"stranger-half-{self.random.randrange(4)}", int(time.time()) // HOUR_S, uuid.uuid4().hex
        body = [[key, 1.0, hour * HOUR_S]]
        said = await self._raw([self._request(body, name)], half_close=True)
        if b" 202 " not in said:
            await self._keep(body, name)
        self.accepted[key, hour] += 1

    async def pipelined(self) -> None:
        """Five requests in one write, then a half-close; what got no answer is sent again."""
        key, hour = f"stranger-pipe-{self.random.randrange(4)}", int(time.time()) // HOUR_S
        body = [[key, 1.0, hour * HOUR_S]]
        names = [uuid.uuid4().hex for _ in range(5)]
        said = await self._raw([self._request(body, name) for name in names], half_close=True)
        for name in names[said.count(b" 202 ") :]:
            await self._keep(body, name)
        self.accepted[key, hour] += len(names)

    async def ids_flood(self) -> None:
        """A request of many samples, each with an id, and the same samples again at whatever collector."""
        key, hour, run = f"stranger-ids-{self.random.randrange(4)}", int(time.time()) // HOUR_S, uuid.uuid4().hex
        body = [{"key": key, "value": 1.0, "timestamp": hour * HOUR_S, "id": f"{run}-{i}"} for i in range(5000)]
        for _ in range(2):
            await self._keep(body, "")
        self.accepted[key, hour] += len(body)

    async def app_with_a_client(self) -> None:
        """An app that records with the client, and is told to end as soon as it has."""
        key, hour = f"stranger-app-{uuid.uuid4().hex[:6]}", int(time.time()) // HOUR_S
        urls = ",".join(self.installation.tell)
        app = await asyncio.create_subprocess_exec(sys.executable, "-c", APP, urls, key, stdout=asyncio.subprocess.PIPE)
        said, _ = await app.communicate()
        sent, dropped = map(int, said.split())
        if int(time.time()) // HOUR_S == hour and sent and not dropped:
            self.accepted[key, hour] += sent

    async def silent_connections(self) -> None:
        """Several hundred clients that connect and say nothing, for some seconds."""
        host, port = self._collector().removeprefix("http://").split(":")
        opened = await asyncio.gather(
            *(asyncio.open_connection(host, int(port)) for _ in range(400)), return_exceptions=True
        )
        await asyncio.sleep(4)
        for one in opened:
            if not isinstance(one, BaseException):
                one[1].close()

    async def garbage_requests(self) -> None:
        """Bodies and requests that are none."""
        for junk in (
            b"\x16\x03\x01\x02\x00",
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST /samples HTTP/1.1\r\nHost: localhost\r\n" * 50,
        ):
            await self._raw([junk], half_close=True)

    def _request(self, body: Any, name: str) -> bytes:
        content = msgspec.json.encode(body)
        named = f"Host: localhost\r\nIdempotency-Key: {name}\r\n"
        return f"POST /samples HTTP/1.1\r\n{named}Content-Length: {len(content)}\r\n\r\n".encode() + content

    async def _raw(self, requests: list[bytes], half_close: bool) -> bytes:
        host, port = self._collector().removeprefix("http://").split(":")
        try:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"".join(requests))
            if half_close:
                writer.write_eof()
            async with asyncio.timeout(10):
                said = await reader.read(1 << 20)
                while not reader.at_eof():
                    said += await reader.read(1 << 20)
            writer.close()
        except (OSError, TimeoutError):
            return b""
        return said

    async def _keep(self, body: Any, name: str) -> dict[str, Any]:
        """The reply of the first 202 to a request that is sent as the same one until then."""
        give_up = time.monotonic() + KEPT_WITHIN_S
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    headers = {"Idempotency-Key": name} if name else {}
                    async with session.post(f"{self._collector()}/samples", json=body, headers=headers) as reply:
                        if reply.status == 202:
                            document: dict[str, Any] = await reply.json()
                            return document
                        assert reply.status in (429, 503), await reply.text()
                assert time.monotonic() < give_up, f"not accepted within {KEPT_WITHIN_S:g} s"
                await asyncio.sleep(0.3)

    def _collector(self) -> str:
        return self.random.choice(self.installation.tell)

    # processes

    async def killed(self) -> None:
        """Kill -9 of any worker; the supervisor starts it again."""
        self._worker().kill()

    async def frozen(self) -> None:
        """A worker that stands still, for shorter or longer than the session timeout."""
        worker = self._worker()
        worker.pause()
        await asyncio.sleep(self.random.choice([3, 14]))
        worker.resume()

    async def stopped(self) -> None:
        """A worker told to stop."""
        await asyncio.to_thread(self._worker().stop)

    async def raises(self) -> None:
        """An exception at some step of a worker's work."""
        name = self.random.choice(sorted(self.installation.workers))
        file = Path(self.installation.workers[name].settings[CRASH_FILE])
        point, kind = self.random.choice(points.RUNNING + points.STARTING), self.random.choice(sorted(RAISED))
        print(f"    {name}: {kind} at {point}", flush=True)
        await asyncio.to_thread(file.write_text, f"{point} {self.random.randint(1, 5)} {kind}")
        await asyncio.sleep(5)
        await asyncio.to_thread(file.unlink, missing_ok=True)

    async def broker_killed(self) -> None:
        """Kill -9 of Kafka, for some seconds."""
        await asyncio.to_thread(self.installation.kafka.kill)
        await asyncio.sleep(self.random.choice([1, 8]))
        await asyncio.to_thread(self.installation.kafka.start)

    def _worker(self) -> Any:
        running = [worker for worker in self.installation.workers.values() if worker.is_running]
        return self.random.choice(running)


async def supervise(installation: Installation, over: asyncio.Event) -> None:
    """Starts workers that have ended again, as any supervisor does; an exit code that none of ours has is a finding."""
    while not over.is_set():
        for worker in installation.workers.values():
            if not worker.is_running:
                assert worker.exit_code in SUPERVISED, f"{worker.name} ended with {worker.exit_code}: {worker.tail()}"
                worker.start()
        await asyncio.sleep(0.5)
