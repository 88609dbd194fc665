"""Links that are slow, thin, lossy, cut or half-open: from apps, to Kafka and between workers.

The kernel that these tests run on need not know `tc netem`: a proxy on each link does what networks do. One broker,
one collector and two aggregators for all stories, each of which leaves every link whole.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from metrics_app.verify.plan import Plan
from metrics_app.verify.run import Run, read_back
from metrics_app.verify.verdict import Verdict
from tests.faults.installation import Installation, assert_right, eventually
from tests.faults.links import AGGREGATOR, APP, COLLECTOR, PEERS, Links, links
from tests.faults.pace import stretched
from tests.faults.probe import PROBLEM

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

SETTINGS = {"METRICS_SESSION_TIMEOUT_S": "6", "METRICS_FLUSH_INTERVAL_S": "0.5", "METRICS_BODY_TIMEOUT_S": "3"}
RATE = 1000.0
ANSWERED_WITHIN_S = 5.0
RECOVERED_WITHIN_S = 15.0
NORMAL_FOR_S = 1.0
FOLDED = "metrics_app_folded_values_total"
MORE_DESCRIPTORS = 12

SLOW = {"latency_s": 0.2, "jitter_s": 0.05}
LOSSY = {"loss": 0.05}
THIN = {"bytes_per_s": 100_000}
CRUMBS = {"slice_bytes": 16}
RESETS = {"reset_share": 0.05}
CUT = {"is_cut": True}
HALF_OPEN = {"deaf": True, "mute": True}
ONE_WAY = {"mute": True}
BITES = {
    "latency_s": "delayed",
    "loss": "repeated",
    "bytes_per_s": "throttled",
    "slice_bytes": "sliced",
    "reset_share": "reset",
    "is_cut": "held",
    "deaf": "swallowed",
    "mute": "swallowed",
}
PASSES = [SLOW, LOSSY, THIN, CRUMBS, RESETS]  # values get through meanwhile


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def linked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Links]:
    async with links(tmp_path_factory.mktemp("links"), SETTINGS) as whole:
        yield whole


SHORT = [
    (APP, [(LOSSY, 2)]),  # half-open ones cost nothing but time: 20 s until the collector has let go of them
    (COLLECTOR, [(LOSSY, 2), (HALF_OPEN, 4)]),
    (AGGREGATOR, [(SLOW, 2), (HALF_OPEN, 8)]),
    (PEERS, [(SLOW, 2), (HALF_OPEN, 3)]),
]
LONG = [
    (link, [(weather, 30)])
    for link in (APP, COLLECTOR, AGGREGATOR, PEERS)
    for weather in (SLOW, LOSSY, THIN, CRUMBS, RESETS, CUT, HALF_OPEN, ONE_WAY)
]


def name_of(value: Any) -> str:
    return value if isinstance(value, str) else "-".join(next(iter(weather)) for weather, _ in value)


@pytest.mark.parametrize(
    ("link", "spells"), SHORT + [pytest.param(*case, marks=pytest.mark.slow) for case in LONG], ids=name_of
)
async def test_a_bad_link_loses_and_doubles_nothing_and_holds_nobody_up(
    linked: Links, link: str, spells: list[tuple[dict[str, Any], float]]
) -> None:
    """Every post and question ends in time, by an answer or a proper refusal; all is well 15 s after the link is."""
    installation = linked.installation
    most_open = {name: number + MORE_DESCRIPTORS for name, number in descriptors(installation).items()}

    async def disturb(installation: Installation) -> None:
        for weather, for_s in spells:
            await bad_weather(linked, link, weather, for_s)

    plan = linked.plan(RATE)
    run = await installation.under_load(disturb, plan, settle_s=1.0)
    assert run.verdict.sent == run.verdict.accepted, run.reasons
    assert_right(await read_at_last(plan, run))
    assert installation.prober is not None
    assert installation.prober.wrong() == []
    await eventually(lambda: all(now <= most_open[name] for name, now in descriptors(installation).items()), 30)


async def bad_weather(linked: Links, link: str, weather: dict[str, Any], for_s: float) -> None:
    """One spell of it, and what must hold meanwhile and afterwards."""
    installation, bite = linked.installation, BITES[next(iter(weather))]
    bitten, folded = linked.did(link, bite), await asyncio.to_thread(installation.count, FOLDED)
    linked.weather(link, **weather)
    posts = await posted(installation, time.monotonic() + for_s)
    if weather in PASSES:
        assert await asyncio.to_thread(installation.count, FOLDED) > folded, "nothing gets through"
    linked.weather(link)
    whole_s = time.monotonic()
    assert linked.did(link, bite) > bitten, "the link was well"
    assert [post for post in posts if not post.is_proper] == []
    assert max(post.took_s for post in posts) <= stretched(ANSWERED_WITHIN_S)
    if link != COLLECTOR:
        assert {post.status for post in posts} == {HTTPStatus.ACCEPTED}, "a client whose own link is well"
    await recovered(installation)
    recovered_s = time.monotonic() - whole_s
    print(f"{link} {weather}: {len(posts)} posts, all well {recovered_s:.1f} s later")
    assert recovered_s <= stretched(RECOVERED_WITHIN_S)


async def read_at_last(plan: Plan, run: Run) -> Verdict:
    """The verdict once all is counted: partitions may move again after the last question, and a copy answers then."""
    verdict, give_up = run.verdict, time.monotonic() + stretched(RECOVERED_WITHIN_S)
    while verdict.sent != verdict.counted and time.monotonic() < give_up:
        await asyncio.sleep(1.0)
        verdict = await read_back(plan, run.ledger)
    return verdict


class Post:
    """What came of one request straight to the collector."""

    def __init__(self, reply: aiohttp.ClientResponse, started_s: float) -> None:
        self.status = reply.status
        self.took_s = time.monotonic() - started_s
        refused = reply.status == HTTPStatus.SERVICE_UNAVAILABLE and "Retry-After" in reply.headers
        self.is_proper = reply.status == HTTPStatus.ACCEPTED or (refused and reply.content_type == PROBLEM)

    def __repr__(self) -> str:
        return f"{self.status} after {self.took_s:.2f} s"


async def posted(installation: Installation, until_s: float) -> list[Post]:
    """Posts one after the other; their keys are nobody's but theirs."""
    found = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=stretched(10))) as session:
        while time.monotonic() < until_s:
            started_s = time.monotonic()
            async with session.post(f"{installation.tell[0]}/samples", json=["of-nobody", 1.0]) as reply:
                found.append(Post(reply, started_s))
            await asyncio.sleep(0.1)
    return found


async def recovered(installation: Installation) -> None:
    """Returns when every worker is ready, new values can be queried everywhere, and no answer is stale any more."""
    await eventually(lambda: all(worker.is_ready() for worker in installation.workers.values()), RECOVERED_WITHIN_S)
    await installation.fresh()
    prober = installation.prober
    assert prober is not None
    await eventually(lambda: prober.normal_after(time.monotonic() - NORMAL_FOR_S) == 0, RECOVERED_WITHIN_S)


def descriptors(installation: Installation) -> dict[str, int]:
    """How many each worker has open."""
    return {name: len(os.listdir(f"/proc/{worker.pid}/fd")) for name, worker in installation.workers.items()}
