"""One load run: send on schedule, probe freshness meanwhile, drain, read back, judge."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from metrics_app.cli.audit import Freshness, Reader, drained
from metrics_app.cli.ledger import Batch, Ledger, Outcome
from metrics_app.cli.open_loop import OpenLoop
from metrics_app.cli.plan import Plan
from metrics_app.cli.sender import Sender
from metrics_app.cli.service import reason
from metrics_app.cli.terminal import err, say
from metrics_app.cli.traffic import HOUR_S, Encoder, Lane, batches
from metrics_app.cli.verdict import Verdict, verdict
from metrics_app.errors import ClientError


@dataclass(frozen=True)
class Run:
    """What came of it. `run_id` is part of every key: load-<run_id>-<number>."""

    run_id: str
    verdict: Verdict
    loop: OpenLoop
    sending_s: float
    freshness: Freshness
    reasons: dict[str, int]

    @property
    def is_right(self) -> bool:
        """Nothing lost, nothing double, every statistic as it must be, every probe seen."""
        return self.verdict.is_right and not self.freshness.never


async def perform(plan: Plan, until: asyncio.Event | None = None) -> Run:
    """The run of a plan, ended early when `until` is set.

    Raises:
        ClientError: the service cannot be reached at all, or does not answer queries.
    """
    run_id = uuid.uuid4().hex[:8]
    keys = [f"load-{run_id}-{number:02d}" for number in range(plan.keys)]
    pool = batches(keys, plan.batch, plan.requests, plan.seed)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    async with aiohttp.ClientSession(connector=connector) as session:
        reader = Reader(session, plan.urls, plan.patience_s)
        freshness = Freshness(Sender(session, plan.urls), reader, f"load-{run_id}-probe")
        encoder, ledger = Encoder(plan.form), Ledger()
        with_key = plan.until_kept_s > 0 and not encoder.is_numbered
        sender = Sender(session, plan.urls, encoder.content_type, plan.until_kept_s, with_key)
        await _greet(session, plan)
        loop = OpenLoop(plan.requests, plan.interval_s, plan.in_flight)
        stop = asyncio.Event()
        probing = asyncio.create_task(freshness.run(stop))
        try:
            sending_s = await _send_all(plan, pool, loop, encoder, sender, ledger, until)
        finally:
            stop.set()
        await probing
        expected = ledger.expected()
        with _bar("reading back", len(expected)) as advance:
            found = await drained(reader, expected, plan.drain_s, lambda left: advance(len(expected) - left))
    return Run(run_id, verdict(ledger, found), loop, sending_s, freshness, sender.reasons)


async def _greet(session: aiohttp.ClientSession, plan: Plan) -> None:
    problems = []
    for url in plan.urls:
        try:
            async with session.get(f"{url.rstrip('/')}/readyz", timeout=aiohttp.ClientTimeout(total=5)) as reply:
                if reply.ok:
                    return
                problems.append(f"{url} is not ready: {(await reply.text())[:300].strip()}")
        except (aiohttp.ClientError, TimeoutError) as error:
            problems.append(f"no answer from {url}: {reason(error)}")
    raise ClientError("; ".join(problems))


async def _send_all(
    plan: Plan,
    pool: list[Batch],
    loop: OpenLoop,
    encoder: Encoder,
    sender: Sender,
    ledger: Ledger,
    until: asyncio.Event | None,
) -> float:
    lanes = [Lane() for _ in range(plan.in_flight)]
    with _bar(f"sending {plan.rate:,.0f} values/s", plan.requests) as advance:

        async def send(number: int, lane: int) -> bool:
            batch, at_s = pool[number % len(pool)], time.time()
            body = encoder.encode(batch, at_s, lanes[lane])
            outcome = await sender.send(body, batch.count)
            ledger.record(batch, int(at_s) // HOUR_S, outcome)
            advance(number + 1)
            return outcome is Outcome.OK

        return await loop.run(send, until)


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, else a line of text; gives the function that takes the number done so far."""
    if not err.is_terminal:
        say(title)
        yield lambda done: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)
