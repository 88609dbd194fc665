"""Collectors killed, replies lost, requests repeated: clients lose nothing and nothing counts twice."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.installation import Installation, assert_exact, eventually
from tests.faults.pace import slowness
from tests.faults.proxy import Proxy

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

ACCEPTED = "metrics_app_accepted_values_total"
DUPLICATE = "metrics_app_duplicate_values_total"
FOLDED = "metrics_app_folded_values_total"


@pytest.mark.slow  # asserts a rate, which a machine with other work to do may not hold
@pytest.mark.parametrize("times", [2, 5])
async def test_a_killed_collector_costs_a_client_with_a_second_address_one_retry(tmp_path: Path, times: int):
    """Kill -9 of one of two collectors."""
    rate = 5000.0

    async def kill_in_turn(installation: Installation) -> None:
        for turn in range(times):
            victim, survivor = installation.workers[f"c{turn % 2}"], installation.workers[f"c{(turn + 1) % 2}"]
            victim.kill()
            await asyncio.sleep(1.0)
            started_s, before = time.monotonic(), installation.counts(ACCEPTED)[survivor.name]
            await asyncio.sleep(2.0)
            accepted = installation.counts(ACCEPTED)[survivor.name] - before
            share = accepted / (time.monotonic() - started_s) / rate
            victim.start()
            ready_s = await asyncio.to_thread(victim.await_ready)
            print(
                f"the other one took {share:.1%} of the rate from 1 s on; the killed one was ready in {ready_s:.1f} s"
            )
            assert share * slowness() >= 0.95
            await asyncio.sleep(1.0)
        await installation.fresh()

    with Installation(tmp_path, {"c0": "collector", "c1": "collector", "a": "aggregator"}) as installation:
        run = await installation.under_load(kill_in_turn, installation.plan(rate, batch=25))
        assert_exact(run)
        assert "ServerDisconnectedError" in run.reasons or "ClientOSError" in run.reasons, "nothing was in flight"
        assert max(run.attempts) == 2, "a client with one retry on the other address would have failed"
        assert installation.prober is not None
        assert installation.prober.wrong() == []
        assert installation.prober.answered() == 1.0


@pytest.mark.slow
async def test_replies_lost_on_the_way_back_double_nothing(tmp_path: Path):
    """One reply in ten is dropped after the collector has done its work."""
    async with contextlib.AsyncExitStack() as stack:
        installation = stack.enter_context(
            Installation(tmp_path, {"c0": "collector", "c1": "collector", "a": "aggregator"})
        )
        proxies = [
            await stack.enter_async_context(Proxy(_port(url), installation.seed + number))
            for number, url in enumerate(installation.tell)
        ]
        plan = dataclasses.replace(installation.plan(), urls=tuple(proxy.url for proxy in proxies))

        async def lose_replies(installation: Installation) -> None:
            for proxy in proxies:
                proxy.change(lost_replies=0.1)
            await installation.grows("metrics_app_folded_values_total", by=40_000, within_s=60)
            for proxy in proxies:
                proxy.change(lost_replies=0.0)
            await installation.fresh()

        assert_exact(await installation.under_load(lose_replies, plan))
        lost, doubled = sum(proxy.did["lost"] for proxy in proxies), installation.count(DUPLICATE)
        print(f"{lost} replies lost, {doubled:.0f} values came twice and were left out")
        assert lost > 20
        assert doubled > 0
        assert installation.prober is not None
        assert installation.prober.wrong() == []


@pytest.mark.slow
async def test_a_request_repeated_under_the_same_id_counts_once_wherever_and_whenever(tmp_path: Path):
    """Five times in a row, five at a time to both collectors, after a collector's death, after a takeover."""
    installation = Installation(tmp_path, {"c0": "collector", "c1": "collector", "a": "aggregator", "b": "aggregator"})
    with installation:
        async with aiohttp.ClientSession() as session:
            client = Repeating(session, installation)
            await asyncio.gather(*(client.post(number % 2) for number in range(5)))
            for _ in range(5):
                await client.post(0)
            await client.counts_once()
            replies = [await client.post(1) for _ in range(2)]
            assert replies[0] == replies[1], "the reply to a repeated request is the same"

            installation.workers["c0"].kill()
            await asyncio.to_thread(installation.restart, "c0")
            await client.post(0)
            await client.counts_once()

            installation.workers["a"].kill()
            await client.post(1)
            await client.counts_once(within_s=40)
            await asyncio.to_thread(installation.restart, "a")
            installation.workers["b"].kill()
            await client.post(0)
            await client.counts_once(within_s=40)

            assert await client.post(0, value=2.0, expected=422), "another body under the same id"
            await client.counts_once(within_s=40)


async def test_a_request_that_was_partly_refused_and_is_sent_again_counts_whole(tmp_path: Path):
    """Its middle is too far ahead at first; before it is sent again, to another collector, the aggregator is killed."""
    installation = Installation(tmp_path, {"c0": "collector", "c1": "collector", "a": "aggregator"})
    with installation:
        async with aiohttp.ClientSession() as session:
            early_s, at_s = 5.0, time.time()
            key, at = f"partly-{uuid.uuid4().hex[:8]}", datetime.fromtimestamp(at_s, UTC)
            body = [[key, 1, at_s], [key, 2, at_s + 300 + early_s], [key, 4, at_s]]

            async def post(collector: int) -> int:
                url, headers = f"{installation.tell[collector]}/samples", {"Idempotency-Key": key}
                async with session.post(url, json=body, headers=headers) as reply:
                    return int((await reply.json())["accepted"])

            async def total(stat: str) -> float:
                days = {f"{each:%Y-%m-%d}" for each in (at, at + timedelta(seconds=300 + early_s))}
                found = [await told(f"{installation.ask[0]}/{key}/{stat}/{day}") for day in days]
                return sum(found)

            async def told(url: str) -> float:
                async with session.get(url) as reply:
                    return float((await reply.json()).get("value", 0))

            assert await post(0) == 2
            await eventually(lambda: installation.count(FOLDED) == 2, within_s=20)
            installation.workers["a"].kill()
            await asyncio.to_thread(installation.restart, "a")
            await asyncio.sleep(max(0.0, at_s + early_s + 1 - time.time()))
            assert [await post(1) for _ in range(3)] == [3, 3, 3]
            await installation.fresh()
            assert (await total("count"), await total("sum")) == (3, 7)


class Repeating:
    """Sends one request, of eight keys, again and again under one idempotency key; and samples with an id each."""

    def __init__(self, session: aiohttp.ClientSession, installation: Installation) -> None:
        self.session = session
        self.installation = installation
        self.run = uuid.uuid4().hex[:8]
        self.keys = [f"once-{self.run}-{number}" for number in range(8)]
        self.at = datetime.now(UTC)

    async def post(self, collector: int, value: float = 1.0, expected: int = 202) -> Any:
        """The reply to the whole request, and to the samples with ids."""
        at_s = int(self.at.timestamp())
        body = [{"key": f"{key}-request", "value": value, "timestamp": at_s} for key in self.keys]
        ids = [{"key": f"{key}-id", "value": 1.0, "timestamp": at_s, "id": f"{self.run}"} for key in self.keys]
        url = self.installation.tell[collector]
        async with self.session.post(f"{url}/samples", json=ids) as reply:
            assert reply.status == 202, await reply.text()
        async with self.session.post(f"{url}/samples", json=body, headers={"Idempotency-Key": self.run}) as reply:
            assert reply.status == expected, await reply.text()
            return await reply.json()

    async def counts_once(self, within_s: float = 10.0) -> None:
        """Asserts that every key counts 1, by its owner, once all that was sent is folded."""
        # what is sent later is folded later: once it shows, so does everything before it
        await eventually(lambda: all(worker.is_ready() for worker in self._asked()), within_s)
        for _ in range(20):
            with contextlib.suppress(AssertionError, aiohttp.ClientError):
                await self.installation.fresh()
                break
            await asyncio.sleep(1)
        for key in self.keys:
            for kind in ("request", "id"):
                await self._counts_once(f"{key}-{kind}", within_s)

    def _asked(self) -> list[Any]:
        return [worker for worker in self.installation.workers.values() if worker.is_running]

    async def _counts_once(self, key: str, within_s: float) -> None:
        url = next(
            worker.url for name, worker in self.installation.workers.items() if name in "ab" and worker.is_running
        )
        give_up = time.monotonic() + within_s
        while True:
            async with self.session.get(f"{url}/{key}/count/{self.at:%Y-%m-%d}/{self.at.hour}") as reply:
                told = await reply.json()
            if reply.status == 200:
                assert told["count"] == 1, told
            if reply.status == 200 and told["role"] == "active" and not told["stale"]:
                return
            assert time.monotonic() < give_up, told
            await asyncio.sleep(0.2)


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])
