"""How many statsd packets a second one collector takes, one timing in each, and what a packet costs it.

Called by `benchmarks`.

A sender keeps to a rate for some seconds, from the lowest to the highest; what the kernel dropped, and what the
collector accepted, is read from /metrics afterwards. A rate is held when nothing was dropped or refused.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from benchmarks.bench import Bench
from benchmarks.meter import cpu_s
from benchmarks.services import Service, service
from metrics_app.kafka.ports import HOST

RATES = (20_000, 50_000, 100_000, 150_000)  # packets a second
KEYS = 10
BURST_S = 0.002
SETTLE_S = 1.0
PORT = 18_125


def run(bench: Bench) -> dict[str, Any]:
    """The section `statsd`, a row a rate."""
    rates, seconds = (RATES[:2], 1.0) if bench.quick else (RATES, 10.0)
    bench.expect(len(rates))
    rows = []
    with service(bench, "collector", bench.name("statsd"), statsd=f"udp://{HOST}:{PORT}") as collector:
        for rate in rates:
            bench.step(f"statsd: {rate:,} packets/s")
            rows.append(_measured(collector, rate, seconds))
    return {"statsd": rows}


def _measured(collector: Service, rate: int, seconds: float) -> dict[str, Any]:
    names = ("statsd_packets", "statsd_dropped_packets", "accepted_values", "refused_values")
    before, used_s = {name: collector.metric(f"metrics_app_{name}_total") for name in names}, cpu_s(collector.process)
    sent, took_s = _send(rate, seconds)
    time.sleep(SETTLE_S)
    used_s = cpu_s(collector.process) - used_s
    now = {name: round(collector.metric(f"metrics_app_{name}_total") - before[name]) for name in names}
    return {
        "asked_per_s": rate,
        "sent_per_s": round(sent / took_s),
        "held": now["accepted_values"] == sent,
        "dropped": sent - now["statsd_packets"],
        "refused": now["refused_values"],
        "cpu_us": round(1e6 * used_s / max(1, now["statsd_packets"]), 2),
    }


def _send(rate: int, seconds: float) -> tuple[int, float]:
    """Sends in bursts of two milliseconds; how many packets, and how long it took."""
    packets = [f"app-{number}:{number}.5|ms".encode() for number in range(KEYS)]
    burst, start, sent = round(rate * BURST_S), time.monotonic(), 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((HOST, PORT))
        while sent < rate * seconds:
            for number in range(burst):
                sender.send(packets[number % KEYS])
            sent += burst
            time.sleep(max(0.0, start + sent / rate - time.monotonic()))
    return sent, time.monotonic() - start
