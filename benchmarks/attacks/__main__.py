"""Runs the attacks in turn against one worker, with a good client beside each, and shows what became of that.

    python -m benchmarks.attacks                     all of them, 20 s each
    python -m benchmarks.attacks keys gaps --json    two of them, for a machine

Exit code 1 when a worker ended, or counts something else than the good client was told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from typing import Any

import aiohttp
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.attacks.good import GoodClient, Times
from benchmarks.attacks.hostile import ATTACKS, in_background
from benchmarks.bench import Bench
from benchmarks.meter import rss_mb
from benchmarks.services import service

CALM_S = 8.0
SETTLE_S = 5.0


async def attack(name: str, url: str, process: psutil.Process, good: GoodClient, seconds: float) -> dict[str, Any]:
    """The good client's figures beside one attack, and after it."""
    before = await delays(url)
    hostile = asyncio.create_task(in_background(name, url, seconds))
    most_mb, times = 0, asyncio.create_task(good.work(seconds))
    while not times.done():
        await asyncio.wait([times], timeout=0.25)
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            most_mb = max(most_mb, rss_mb(process))
    sent = await hostile
    found = {"loop": _between(before, await delays(url))}
    await asyncio.sleep(SETTLE_S)
    after = await good.work(3.0)
    return found | {
        "sent": sent,
        "rss_mb": most_mb,
        **{kind: each.to_json() for kind, each in times.result().items()},
        "after": {kind: each.to_json() for kind, each in after.items()},
    }


async def delays(url: str) -> dict[float, float]:
    """How often the event loop was late by at most so many seconds, since the worker began; empty when it is gone."""
    name = 'metrics_app_event_loop_delay_seconds_bucket{le="'
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as reply:
            lines = (await reply.text()).splitlines()
    except aiohttp.ClientError:
        return {}
    pairs = (line.removeprefix(name).split('"} ') for line in lines if line.startswith(name))
    return {float(limit): float(count) for limit, count in pairs}


def _between(before: dict[float, float], after: dict[float, float]) -> dict[str, Any]:
    """The bucket in which the 99th percentile lies, and that of the greatest delay, in milliseconds."""
    counts = {limit: count - before.get(limit, 0.0) for limit, count in after.items()}
    total = max(counts.values(), default=0.0)
    p99 = next((limit for limit, count in counts.items() if count >= 0.99 * total), math.inf)
    most = next((limit for limit, count in counts.items() if count >= total), math.inf)
    return {"p99_ms": 1000 * p99, "max_ms": 1000 * most}


async def measure(names: list[str], url: str, process: psutil.Process, seconds: float) -> dict[str, Any]:
    """Figures by attack, those of a calm time first."""
    good = GoodClient(url)
    await good.work(2.0)
    calm = await good.work(CALM_S)
    found: dict[str, Any] = {"calm": {"rss_mb": rss_mb(process), **_documents(calm)}}
    for name in names:
        found[name] = await attack(name, url, process, good, seconds)
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return found | {"ended_by": name}
    counted = await good.counted()
    return found | {"accepted": sum(good.accepted.values()), "counted": sum(counted.values())}


def _documents(times: dict[str, Times]) -> dict[str, Any]:
    return {kind: each.to_json() for kind, each in times.items()}


def show(found: dict[str, Any]) -> None:
    """A line for each attack."""
    table = Table("beside", "sent", "RSS MB", *(f"{kind} p50/p99/max ms, failed" for kind in ("post", "question")))
    table.add_column("livez p50/p99/max ms, failed")
    table.add_column("post p99 after")
    table.add_column("loop late p99/max ms <=")
    for name, figures in found.items():
        if isinstance(figures, dict):
            cells = [_cell(figures[kind]) for kind in ("post", "question", "livez")]
            after = str(figures["after"]["post"]["p99_ms"]) if "after" in figures else ""
            late = "{p99_ms:g} / {max_ms:g}".format(**figures["loop"]) if "loop" in figures else ""
            table.add_row(name, str(figures.get("sent", "")), str(figures["rss_mb"]), *cells, after, late)
    Console(width=200).print(table)


def _cell(figures: dict[str, Any]) -> str:
    failed = ", ".join(f"{count} {how}" for how, count in figures["failed"].items())
    return f"{figures['p50_ms']} / {figures['p99_ms']} / {figures['max_ms']}{'; ' + failed if failed else ''}"


def main() -> int:
    """Exit code 0 when every worker lived and counted what it accepted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(ATTACKS)}")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each attack")
    parser.add_argument("--json", action="store_true", help="print a document")
    options = parser.parse_args()
    with Bench() as bench, service(bench, "all", bench.name("attacks")) as ours:
        found = asyncio.run(measure(options.names or list(ATTACKS), ours.url, ours.process, options.seconds))
        if "ended_by" in found:
            print(ours.log.read_text()[-3000:], file=sys.stderr)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)
        print({name: value for name, value in found.items() if not isinstance(value, dict)})
    return int("ended_by" in found or found["accepted"] != found["counted"])


if __name__ == "__main__":
    sys.exit(main())
