"""Inputs at the edges, on real processes and against a ledger: times, bodies, keys, paths; one key for all values."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from tests.faults.installation import Installation, assert_exact, eventually
from tests.faults.pace import stretched
from tests.faults.probe import PROBLEM

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

HOUR_S, DAY_S = 3600, 86_400
HOT_S = 4.0
QUESTION_S = 0.2
SETTINGS = {"METRICS_FLUSH_INTERVAL_S": "0.3", "METRICS_MAX_INFLATED_BYTES": "1048576"}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("edges"), {"a": "all"}, SETTINGS) as running:
        yield running


class Reply:
    """What was answered to one request."""

    def __init__(self, reply: http.client.HTTPResponse) -> None:
        self.status, self.kind, self.body = reply.status, reply.getheader("Content-Type", ""), reply.read()

    @property
    def is_proper(self) -> bool:
        """Whether it is a refusal by a problem document, and none for a fault of the server."""
        return 400 <= self.status < 500 and self.kind.startswith(PROBLEM)

    def __repr__(self) -> str:
        return f"{self.status} {self.kind} {self.body[:120]!r}"


def ask(installation: Installation, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    connection = http.client.HTTPConnection(installation.tell[0].removeprefix("http://"), timeout=stretched(10))
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        return Reply(connection.getresponse())
    finally:
        connection.close()


def post(installation: Installation, samples: Any) -> Reply:
    return ask(installation, "POST", "/samples", json.dumps(samples).encode())


def count(installation: Installation, key: str, hour: int) -> int:
    at = datetime.fromtimestamp(hour * HOUR_S, UTC)
    reply = ask(installation, "GET", f"/{quote(key, safe='')}/count/{at:%F}/{at.hour}")
    return int(json.loads(reply.body)["count"]) if reply.status == 200 else -reply.status


def assert_counted(installation: Installation, ledger: Counter[tuple[str, int]]) -> None:
    """Every key and hour has what the ledger has."""

    def wrong() -> dict[tuple[str, int], int]:
        found = {row: count(installation, *row) for row in ledger}
        return {row: number for row, number in found.items() if number != ledger[row]}

    try:
        asyncio.run(eventually(lambda: not wrong(), 20))
    except AssertionError:
        raise AssertionError(f"found {wrong()} of {dict(ledger)}") from None


def test_values_in_any_order_are_in_their_hour_and_those_beyond_the_limits_are_refused(
    installation: Installation,
) -> None:
    now = time.time()
    hour, chance = int(now) // HOUR_S, random.Random(installation.seed)
    times = [(hour - back) * HOUR_S + second for back in (0, 1, 2, 24, 700) for second in (0, 0.001, 1)]
    times += [(hour - back) * HOUR_S - 0.001 for back in (0, 1, 23)] + [now - chance.uniform(0, HOUR_S)] * 20
    times = [at for at in times if at <= now]
    chance.shuffle(times)
    refused = [now + 400, now + DAY_S, now - 40 * DAY_S, 0, -1, 253_402_300_800, now * 1e3, now * 1e6, now * 1e9]
    ledger: Counter[tuple[str, int]] = Counter()
    for part in (times[::2], times[1::2]):
        reply = post(installation, [["times", 1.0, at] for at in part])
        assert (reply.status, json.loads(reply.body)["accepted"]) == (202, len(part)), reply
        ledger.update(("times", int(at // HOUR_S)) for at in part)
    for at in refused:
        assert (reply := post(installation, [["times", 1.0, at]])).is_proper, (at, reply)
    assert_counted(installation, ledger)


BODIES = [
    *(f'[["kept", {value}]]'.encode() for value in ("NaN", "Infinity", "-Infinity", "1e400", "-1", "true", "null")),
    *(f'[["kept", {value}]]'.encode() for value in ('"1.5"', "[1]", "{}", "")),
    b'[["kept"]]', b'[[1, 1]]', b'{"key": "kept"}', b"", b"[", b"null", b"1", b'\xef\xbb\xbf[["kept", 1]]',
    b'[["kept\xff", 1]]', '[["kept", 1]]'.encode("utf-16"), b'[["\\ud800", 1]]', b"[" * 100_000,
]  # fmt: skip
SENT_ODDLY: list[tuple[bytes, dict[str, str]]] = [
    (b'[["kept", 1]]', {"Content-Type": "image/png"}),
    (b'[["kept", 1]]', {"Content-Encoding": "br"}),
    (b'[["kept", 1]]', {"Content-Encoding": "gzip"}),
    (gzip.compress(b" " * 20_000_000), {"Content-Encoding": "gzip"}),
    (b" " * (1 << 20) + b'[["kept", 1]]', {}),
    (b'[["kept", 1]]', {"X-Long": "x" * 9000}),
    (b'[["kept", 1]]', {"Transfer-Encoding": "chunked", "Content-Length": "13"}),
]


def test_bodies_that_cannot_be_used_are_refused_whole_and_count_nothing(installation: Installation) -> None:
    hour = int(time.time()) // HOUR_S
    assert post(installation, [["kept", 1.0, hour * HOUR_S]]).status == 202
    for body, headers in [*((body, {}) for body in BODIES), *SENT_ODDLY]:
        assert (reply := ask(installation, "POST", "/samples", body, **headers)).is_proper, (body[:40], headers, reply)
    assert post(installation, [["kept", 1.0, hour * HOUR_S]]).status == 202
    assert_counted(installation, Counter({("kept", hour): 2}))


KEYS = [
    "/", "a/b", "%2F", "..", ".", "../keys", "?", "a?b=1", "#", " ", "a b", "keys", "healthz", "readyz", "metrics",
    "samples", "<script>alert(1)</script>", "\u202eabc", "e\u0301", "\u00e9", "😀", "a\r\nX-Injected: 1", "\x00",
    "\x7f", "x" * 256, "x" * 257, "é" * 128, "é" * 129, "a;b", "a&b", "a+b", "a\\b", "count/2026-01-01/1", '"', "'",
]  # fmt: skip


def test_every_key_is_either_refused_or_found_under_its_encoded_url(installation: Installation) -> None:
    hour = int(time.time()) // HOUR_S
    ledger: Counter[tuple[str, int]] = Counter()
    for number, key in enumerate(KEYS, 1):
        reply = post(installation, [[key, float(value), hour * HOUR_S] for value in range(number)])
        if reply.status == 202:
            ledger[key, hour] += number
        else:
            assert reply.is_proper, (key, reply)
    assert 20 < len(ledger) < len(KEYS)
    assert_counted(installation, ledger)
    assert "\nX-Injected" not in installation.workers["a"].said


@pytest.mark.parametrize(
    "path",
    ["/table/", "/table/hours/", "/router/", "/router/hours/", "/graph", "/stats/", "/../../etc/passwd", "/%2e%2e/x"],
)
def test_nothing_of_faust_or_of_the_disk_is_served(installation: Installation, path: str) -> None:
    assert ask(installation, "GET", path, Host="example.invalid").is_proper
    assert ask(installation, "POST", path, b"{}").is_proper


async def test_one_key_for_everything_is_exact_and_still_answers(installation: Installation) -> None:
    async def wait(installation: Installation) -> None:
        await asyncio.sleep(HOT_S)

    assert_exact(await installation.under_load(wait, installation.plan(keys=1)))
    prober = installation.prober
    assert prober is not None
    assert prober.wrong() == []
    took = sorted(one.took_s for one in prober.seen)
    assert took[len(took) // 2] <= stretched(QUESTION_S)
