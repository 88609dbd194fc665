"""The attacks, each for a number of seconds: `python -m benchmarks.attacks.hostile NAME URL SECONDS`.

Called by `run`, as a process of its own, so that the good client's times are not those of a busy sender.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from random import Random
from urllib.parse import urlsplit

CONNECT_S = 5.0
GENERATED = 60

Attack = Callable[["Target"], Awaitable[None]]


class Target:
    """The service under attack.

    Attributes:
        until: end of the attack, by the monotonic clock.
        sent: requests, or connections, so far.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self.host, self.port = urlsplit(url).hostname or "", urlsplit(url).port or 80
        self.until = time.monotonic() + seconds
        self.sent = 0

    @property
    def is_on(self) -> bool:
        """Whether the attack goes on."""
        return time.monotonic() < self.until

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection."""
        return await asyncio.wait_for(asyncio.open_connection(self.host, self.port), CONNECT_S)

    def post(self, body: bytes, content_type: str = "application/json", more: str = "") -> bytes:
        """A whole POST of a gzipped body."""
        packed = gzip.compress(body)
        head = (
            f"POST /samples HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: {content_type}\r\n"
            f"Content-Encoding: gzip\r\n{more}Content-Length: {len(packed)}\r\n\r\n"
        )
        return head.encode() + packed

    def get(self, path: str) -> bytes:
        """A whole GET."""
        return f"GET {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n\r\n".encode()

    async def ask(self, requests: Iterator[bytes], connections: int, a_second: float = 0.0) -> None:
        """Sends requests over so many connections, one at a time on each, at a rate or as fast as answers come."""
        pause_s = connections / a_second if a_second else 0.0
        await asyncio.gather(*(self._keep_asking(requests, pause_s, nth / connections) for nth in range(connections)))

    async def _keep_asking(self, requests: Iterator[bytes], pause_s: float, phase: float) -> None:
        await asyncio.sleep(phase * pause_s)
        while self.is_on:
            try:
                await self._ask_on_one(requests, pause_s)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
                await asyncio.sleep(0.05)

    async def _ask_on_one(self, requests: Iterator[bytes], pause_s: float) -> None:
        reader, writer = await self.open()
        try:
            while self.is_on:
                due = time.monotonic() + pause_s
                writer.write(next(requests))
                self.sent += 1
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
                lines = head.lower().split(b"\r\n")
                length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
                await reader.readexactly(length)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        finally:
            writer.close()


def rejected_pairs() -> bytes:
    """99,999 pairs with a negative value."""
    return b"[" + b",".join([b'["k",-1]'] * 99_999) + b"]"


def distinct_keys(count: int, key: str) -> bytes:
    """As many pairs, each of another key."""
    return json.dumps([[key % number, 1] for number in range(count)], separators=(",", ":")).encode()


def histograms() -> bytes:
    """14,000 histograms of one value."""
    of_one = {"min": 1.0, "max": 1.0, "sum": f"{1 << 64:x}", "squares": f"{1 << 128:x}", "offset": -1, "counts": [1]}
    series = [{"key": "h", "hour": _hour(), "first": number, "histogram": of_one} for number in range(14_000)]
    return json.dumps({"sender": str(uuid.uuid4()), "series": series}).encode()


def numbered_series(count: int, step: int) -> bytes:
    """As many series of one value of one key; with a step of 2 each leaves a gap behind it."""
    series = [{"key": "g", "hour": _hour(), "first": step * number, "values": [1]} for number in range(count)]
    return json.dumps({"sender": str(uuid.uuid4()), "series": series}, separators=(",", ":")).encode()


def generated(seed: int) -> Iterator[tuple[bytes, str]]:
    """Bodies within the limits, of every form and shape, each with its content type; the same for a seed."""
    random = Random(seed)
    while True:
        items, keys = round(10 ** random.uniform(0, 5)), round(10 ** random.uniform(0, 4.3))
        value = random.choice(["1", "-1", "0.5", "1e300", "17592186044416"])
        shape = random.choice(SHAPES)
        texts = [shape % {"k": number % keys, "v": value, "i": number, "h": _hour()} for number in range(items)]
        if shape.startswith('{"key"') and '"hour"' in shape:
            yield f'{{"sender":"{uuid.UUID(int=seed)}","series":[{",".join(texts)}]}}'.encode(), "application/json"
        elif random.random() < 0.3:
            yield "\n".join(texts).encode(), "application/x-ndjson"
        else:
            yield f"[{','.join(texts)}]".encode(), "application/json"


SHAPES = [
    '["k%(k)d",%(v)s]',
    '["' + "long" * 60 + '%(k)d",%(v)s]',
    '{"key":"k%(k)d","value":%(v)s}',
    '{"key":"k%(k)d","value":%(v)s,"id":"%(i)d"}',
    '{"key":"k%(k)d","value":%(v)s,"timestamp":"2026-11-26T10:00:00.%(i)06dZ"}',
    '{"key":"k%(k)d","value":%(v)s,"unknown":[[[%(i)d]]]}',
    '{"key":"k%(k)d","hour":%(h)d,"first":%(i)d,"values":[%(v)s,%(v)s]}',
    '{"key":"k%(k)d","hour":%(h)d,"first":%(i)d00,"values":[1,2,3]}',
]


def _hour() -> int:
    return int(time.time()) // 3600


def posting(body: Callable[[], bytes], connections: int, a_second: float = 0.0) -> Attack:
    """POSTs of one body again and again."""

    async def attack(target: Target) -> None:
        await target.ask(itertools.repeat(target.post(body())), connections, a_second)

    return attack


async def any_body(target: Target) -> None:
    """Generated bodies, a new one each time."""
    bodies = generated(round(time.time()))
    ready = [target.post(*next(bodies)) for _ in range(GENERATED)]
    await target.ask(itertools.cycle(ready), 8)


def asking(path: Callable[[], str], connections: int, a_second: float) -> Attack:
    """Questions at a rate."""

    async def attack(target: Target) -> None:
        await target.ask(itertools.repeat(target.get(path())), connections, a_second)

    return attack


def holding(connections: int, first: Callable[[Target], bytes], then: bytes = b"", every_s: float = 1.0) -> Attack:
    """Connections that send something, then a little now and then, and never read; those that end are opened anew."""

    async def attack(target: Target) -> None:
        async def hold() -> None:
            while target.is_on:
                with suppress(OSError, TimeoutError):
                    _, writer = await target.open()
                    target.sent += 1
                    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport has it
                    try:
                        writer.write(first(target))
                        while target.is_on and not writer.transport.is_closing():
                            await asyncio.sleep(every_s)
                            writer.write(then)
                    finally:
                        writer.transport.abort()
                await asyncio.sleep(0.2)

        await asyncio.gather(*(hold() for _ in range(connections)))

    return attack


def day_of(stat: str) -> str:
    """A question for all of today."""
    return f"/good/{stat}/{datetime.now(UTC):%Y-%m-%d}"


def open_hour(stat: str) -> str:
    """A question for the hour that runs."""
    return f"{day_of(stat)}/{datetime.now(UTC).hour}"


def month_of(stat: str) -> str:
    """A question for thirty days."""
    now = time.time()
    first, last = (datetime.fromtimestamp(now - days * 86_400, UTC) for days in (30, 1))
    return f"/good/{stat}?from={first:%Y-%m-%d}&to={last:%Y-%m-%d}"


def half_of_a_megabyte(target: Target) -> bytes:
    """A header that announces 1 MB, and half of it."""
    head = f"POST /samples HTTP/1.1\r\nHost: {target.host}\r\nContent-Length: {1 << 20}\r\n\r\n"
    return head.encode() + b"[" * (1 << 19)


ATTACKS: dict[str, Attack] = {
    "rejected": posting(rejected_pairs, 12),
    "bomb": posting(lambda: b" " * (64 << 20), 4),
    "keys": posting(lambda: distinct_keys(100_000, "k%d"), 4),
    "long-keys": posting(lambda: distinct_keys(29_000, "%0256d"), 4),
    "histograms": posting(histograms, 4),
    "series": posting(lambda: numbered_series(98_000, 1), 4),
    "gaps": posting(lambda: numbered_series(16_384, 2), 2, 4.0),
    "generated": any_body,
    "unread": holding(300, lambda target: target.get(open_hour("summary")) * 200, b"", 5.0),
    "silent": holding(1150, lambda _: b""),
    "summaries": asking(lambda: day_of("summary"), 1500, 1000.0),
    "listings": asking(lambda: "/keys", 400, 400.0),
    "singles": posting(lambda: b'{"key":"s","value":1}', 256, 12_000.0),
    "months": asking(lambda: month_of("summary"), 100, 200.0),
    "slow-headers": holding(2400, lambda _: b"GET /livez HTTP/1.1\r\n", b"X: y\r\n"),
    "half-bodies": holding(600, half_of_a_megabyte, b"["),
}


async def main(name: str, url: str, seconds: float) -> int:
    """Attacks; returns how often something was sent."""
    target = Target(url, seconds)
    with suppress(TimeoutError):
        await asyncio.wait_for(ATTACKS[name](target), seconds + 1.0)
    return target.sent


async def in_background(name: str, url: str, seconds: float) -> int:
    """The same in a process of its own, so that the times of others here are not those of a busy sender."""
    command = [sys.executable, "-m", "benchmarks.attacks.hostile", name, url, str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        sent, _ = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    return int(sent or 0)


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
