"""The brief's baseline to the letter: ten apps, 10,000 requests a second, one message in each, all on this machine.

Called by `benchmarks`.

Collector, aggregator, Kafka and the senders share the cores. Each app is a process of h2load, a load generator in C
with a fixed rate (`apt-get install nghttp2-client`), so that the sender's own cost does not bound what is measured.
Every app sends its own key, and the counts and sums of all are compared with what was answered 202. While that goes on
samples of a key of their own are sent and asked for until they are counted: so long is "queryable after".
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import h2load
from benchmarks.bench import Bench
from benchmarks.meter import cpu_s, rss_mb
from benchmarks.services import service

APPS = 10
RATE = 10_000  # requests a second, of all apps
CONNECTIONS = 80  # of each app
FRESH_EVERY_S = 0.25
DRAINED_S = 30.0
HELD_SHARE = 0.99
ACCEPTED = 202


def run(bench: Bench) -> dict[str, Any]:
    """The section `one_message`; empty where h2load is not installed.

    Raises:
        RuntimeError: a value was lost or counted twice.
    """
    if not h2load.available():
        return {}
    seconds = 2 if bench.quick else 60
    bench.expect(1)
    name = bench.name("one-message")
    with service(bench, "aggregator", name) as aggregator, service(bench, "collector", name) as collector:
        bench.step(f"one message a request: {RATE:,}/s for {seconds} s")
        processes = {"collector": collector.process, "aggregator": aggregator.process, "kafka": bench.broker}
        with fresh(collector.url, aggregator.url) as freshness:
            before = {each: cpu_s(process) for each, process in processes.items()}
            began = time.monotonic()
            sent = send(bench.folder, collector.url, seconds)
            took_s = time.monotonic() - began
            used = {each: cpu_s(process) - before[each] for each, process in processes.items()}
        memory = {each: rss_mb(process) for each, process in processes.items()}
        counted = {app: answer(f"{aggregator.url}/{app}/count", sent.accepted[app]) for app in sent.accepted}
    return {"one_message": {**section(sent, counted, used, took_s, freshness), "rss_mb": memory}}


@dataclass
class Sent:
    """What the apps were told: values accepted by app, requests by status, and milliseconds until each reply."""

    accepted: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    reply_ms: list[float] = field(default_factory=list)


def send(folder: Path, url: str, seconds: int) -> Sent:
    """Has all apps send for some seconds, each at its share of the rate."""
    rate = h2load.Rate(RATE / APPS, CONNECTIONS, seconds * RATE // APPS)
    bodies = {f"app-{number}": json.dumps([f"app-{number}", number + 0.5]) for number in range(APPS)}
    apps = {name: h2load.post(folder, name, f"{url}/samples", body, rate) for name, body in bodies.items()}
    sent = Sent()
    for name, app in apps.items():
        replies = app.replies(seconds + 60)
        sent.statuses.update(replies.statuses.tolist())
        sent.accepted[name] += int((replies.statuses == ACCEPTED).sum())
        sent.reply_ms.extend(replies.took_ms.tolist())
    return sent


def answer(url: str, expected: int) -> dict[str, Any]:
    """The last answer for today to a question about a count, asked until it is as expected or has had its time."""
    give_up = time.monotonic() + DRAINED_S
    found: dict[str, Any] = {"value": 0}
    while time.monotonic() < give_up:
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(_today(url), timeout=10) as reply:
            found = json.load(reply)
        if found["value"] >= expected:
            time.sleep(0.5)  # what came twice would still come
            with urllib.request.urlopen(_today(url), timeout=10) as reply:
                return dict(json.load(reply))
        time.sleep(0.2)
    return found


def _today(url: str) -> str:
    return f"{url}/{time.strftime('%Y-%m-%d', time.gmtime())}"


@contextlib.contextmanager
def fresh(collector: str, aggregator: str) -> Iterator[list[float]]:
    """Meanwhile: milliseconds from each 202 until an answer had the sample, one sample every quarter of a second."""
    waits: list[float] = []
    over = threading.Event()
    thread = threading.Thread(target=_probe, args=(collector, aggregator, waits, over), daemon=True)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join(DRAINED_S)


def _probe(collector: str, aggregator: str, waits: list[float], over: threading.Event) -> None:
    for number in range(1, 1_000_000):
        if over.wait(FRESH_EVERY_S):
            return
        request = urllib.request.Request(f"{collector}/samples", b'["fresh",1]', {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=30).close()
        sent = time.monotonic()
        while not _has(aggregator, number):
            if time.monotonic() - sent > DRAINED_S:
                return
            time.sleep(0.01)
        waits.append(1000 * (time.monotonic() - sent))


def _has(aggregator: str, number: int) -> bool:
    try:
        with urllib.request.urlopen(_today(f"{aggregator}/fresh/count"), timeout=30) as reply:
            return bool(json.load(reply)["value"] >= number)
    except urllib.error.HTTPError:
        return False


def section(
    sent: Sent,
    counted: dict[str, dict[str, Any]],
    used_s: dict[str, float],
    seconds: float,
    freshness: list[float],
) -> dict[str, Any]:
    """The figures, JSON-serialisable.

    Raises:
        RuntimeError: a value was lost or counted twice.
    """
    off = {app: counted[app]["value"] - accepted for app, accepted in sent.accepted.items()}
    if any(off.values()):
        raise RuntimeError(f"counted minus accepted: {off}")
    accepted = sent.accepted.total()
    return {
        "asked_per_s": RATE,
        "accepted_per_s": round(accepted / seconds),
        "held": accepted / seconds >= HELD_SHARE * RATE and sent.statuses.keys() == {ACCEPTED},
        "refused": sent.statuses.total() - accepted,
        "lost": sum(max(0, -each) for each in off.values()),
        "double": sum(max(0, each) for each in off.values()),
        "reply_ms": {f"p{q}": round(float(np.percentile(sent.reply_ms, q)), 1) for q in (50, 99)},
        "freshness_ms": {f"p{q}": round(float(np.percentile(freshness, q)), 1) for q in (50, 99)},
        "cpu_us": {each: round(1e6 * spent / accepted, 1) for each, spent in used_s.items()},
        "cores": {each: round(spent / seconds, 2) for each, spent in used_s.items()},
    }
