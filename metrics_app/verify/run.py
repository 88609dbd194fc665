"""Runs load: sends on schedule, probes freshness meanwhile, drains, reads back and judges.

Called by `course`, `drill_report`, `load_report` and `cli.load`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

from metrics_app.errors import ClientError, reason
from metrics_app.verify.audit import Freshness, Reader, drained
from metrics_app.verify.ledger import Ledger, Outcome, SentBatch
from metrics_app.verify.plan import Plan
from metrics_app.verify.sender import OpenLoop, Sender
from metrics_app.verify.traffic import HOUR_S, Encoder, TrafficLane, batches
from metrics_app.verify.verdict import Verdict, verdict_of

GREETING = aiohttp.ClientTimeout(total=5)
ELSEWHERE = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.MISDIRECTED_REQUEST}


@dataclass(frozen=True)
class Run:
    """What came of it.

    Attributes:
        run_id: part of every key, see `keys_of`.
        reasons: attempts that did not succeed, by kind.
        attempts: requests by the number of attempts they took.
    """

    run_id: str
    ledger: Ledger
    verdict: Verdict
    loop: OpenLoop
    sending_s: float
    freshness: Freshness
    reasons: dict[str, int]
    attempts: Mapping[int, int]

    @property
    def is_right(self) -> bool:
        """Nothing lost, nothing double, every statistic as it must be, every probe seen."""
        return self.verdict.is_right and not self.freshness.never


def keys_of(run_id: str, count: int) -> list[str]:
    """The keys of a run."""
    return [f"load-{run_id}-{number:02d}" for number in range(count)]


Advance = Callable[[int], None]
Progress = Callable[[str, int], AbstractContextManager[Advance]]


@contextmanager
def silent(title: str, total: int) -> Iterator[Advance]:
    """A progress display that shows nothing."""
    yield lambda done: None


async def perform(
    plan: Plan, *, until: asyncio.Event | None = None, progress: Progress = silent, ledger: Ledger | None = None
) -> Run:
    """Runs a plan, and ends early when `until` is set.

    Args:
        ledger: written to, an empty one that somebody reads meanwhile; None: one of its own.
        progress: opens a bar of a title and a total, and gives the function that takes the number done so far.
    Raises:
        ClientError: the service cannot be reached at all, or does not answer queries.
    """
    run_id = plan.run_id or uuid.uuid4().hex[:8]
    pool = batches(keys_of(run_id, plan.keys), plan.batch, plan.requests, plan.seed)
    async with _session(plan) as session:
        reader = Reader(session, plan.asked, plan.patience_s)
        freshness = Freshness(Sender(session, plan.urls), reader, f"load-{run_id}-probe")
        encoder, ledger = Encoder(plan.form), ledger or Ledger()
        with_key = plan.until_kept_s > 0 and not encoder.is_numbered
        sender = Sender(session, plan.urls, encoder.content_type, plan.until_kept_s, with_key)
        await _greet(session, plan)
        loop = OpenLoop(plan.requests, plan.interval_s, plan.in_flight)
        stop = asyncio.Event()
        probing = asyncio.create_task(freshness.run(stop))
        try:
            with progress(f"sending {plan.rate:,.0f} values/s", plan.requests) as advance:
                sending_s = await loop.run(_sending(plan, pool, encoder, sender, ledger, advance), until)
        except BaseException:
            probing.cancel()
            raise
        stop.set()
        await probing
    verdict = await read_back(plan, ledger, progress)
    return Run(run_id, ledger, verdict, loop, sending_s, freshness, sender.reasons, sender.attempts)


async def read_back(plan: Plan, ledger: Ledger, progress: Progress = silent) -> Verdict:
    """Judges the answers for everything in a ledger, once all accepted values are counted or `drain_s` have passed.

    Raises:
        ClientError: the service does not answer queries.
    """
    expected = ledger.expected()
    async with _session(plan) as session:
        with progress("reading back", len(expected)) as advance:
            reader = Reader(session, plan.asked, plan.patience_s)
            found = await drained(reader, expected, plan.drain_s, lambda left: advance(len(expected) - left))
    return verdict_of(ledger, found)


def _session(plan: Plan) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    return aiohttp.ClientSession(connector=connector, headers=plan.credentials.headers())


async def _greet(session: aiohttp.ClientSession, plan: Plan) -> None:
    """Waits until a service is ready and each address has the role that it is used for.

    Raises:
        ClientError: none is ready, or samples or questions would go where nobody takes them.
    """
    problems = [await _problem(session, url) for url in plan.urls]
    if all(problems):
        raise ClientError("; ".join(problems))
    for url in plan.asked:
        if await _refuses(session, "GET", f"{url.rstrip('/')}/keys?limit=1"):
            raise ClientError(f"{url} answers no questions: name an aggregator with --query-url")
    for url in plan.urls:
        if await _refuses(session, "POST", f"{url.rstrip('/')}/samples"):
            raise ClientError(f"{url} takes no samples: name a collector with --url")


async def _problem(session: aiohttp.ClientSession, url: str) -> str:
    try:
        async with session.get(f"{url.rstrip('/')}/readyz", timeout=GREETING) as reply:
            return "" if reply.ok else f"{url} is not ready: {(await reply.text())[:300].strip()}"
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"no answer from {url}: {reason(error)}"


async def _refuses(session: aiohttp.ClientSession, method: str, url: str) -> bool:
    """Whether the service there has another role; one that cannot be asked now does not count as such."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with session.request(method, url, timeout=GREETING) as reply:
            return reply.status in ELSEWHERE
    return False


def _sending(
    plan: Plan, pool: list[SentBatch], encoder: Encoder, sender: Sender, ledger: Ledger, advance: Advance
) -> Callable[[int, int], Awaitable[bool]]:
    lanes = [TrafficLane() for _ in range(plan.in_flight)]

    async def send(number: int, lane: int) -> bool:
        advance(number + 1)
        batch, at_s = pool[number % len(pool)], time.time()
        outcome = await sender.send(encoder.encode(batch, at_s, lanes[lane]), batch.count)
        ledger.record(batch, int(at_s) // HOUR_S, outcome)
        return outcome is Outcome.OK

    return send
