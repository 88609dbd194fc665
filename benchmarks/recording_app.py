"""A process that does nothing but record, as fast as it can or at a rate, and says what that came to.

python -m benchmarks.recording_app '{"url": ..., "threads": 1, "calls": 2000000, "rate": 0, "histogram_above": 2000}'
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from typing import Any

from metrics_app import MetricsClient, Options

CHUNK = 1000
SAMPLES = 100_000  # calls of which each one's time is taken, apart from the others
FLUSH_S = 60.0
VALUES = [round(random.Random(7).lognormvariate(3.0, 1.2), 3) for _ in range(CHUNK)]


def main() -> None:
    """Records, flushes, and prints one line of JSON."""
    wanted: dict[str, Any] = json.loads(sys.argv[1])
    client = MetricsClient(wanted["url"], Options(histogram_above=wanted["histogram_above"], interval_s=0.5))
    keys = [f"{wanted['name']}-{number}" for number in range(wanted["threads"])]
    for key in keys:
        client.record(key, VALUES[0])
    client.flush(FLUSH_S)
    chunks = wanted["calls"] // CHUNK // wanted["threads"]
    pause_s = CHUNK * wanted["threads"] / wanted["rate"] if wanted["rate"] else 0.0
    threads = [threading.Thread(target=_record, args=(client, key, chunks, pause_s)) for key in keys]
    started, cpu_s = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    all_sent = client.flush(FLUSH_S)
    cpu_s = time.process_time() - cpu_s
    calls = chunks * CHUNK * wanted["threads"]
    stats = client.stats()
    print(
        json.dumps(
            {
                "calls": calls,
                "per_s": round(calls / seconds),
                "cpu_ns": round(cpu_s / calls * 1e9),
                "cores": round(cpu_s / seconds, 2),
                "dropped": sum(stats.dropped.values()),
                "sent": all_sent and stats.sent == stats.recorded,
                "keys": keys,
                "count": 1 + chunks * CHUNK,
                "min": min(VALUES),
                "max": max(VALUES),
                "sum": sum(int(value * 2**64) for value in VALUES) * chunks / 2**64 + VALUES[0],
                "empty_ns": round(_empty_ns()),
                **_percentiles(client, f"{wanted['name']}-timed"),
            }
        )
    )
    client.close()


def _record(client: MetricsClient, key: str, chunks: int, pause_s: float) -> None:
    record, due = client.record, time.perf_counter()
    for _ in range(chunks):
        for value in VALUES:
            record(key, value)
        due += pause_s
        if pause_s and (left := due - time.perf_counter()) > 0:
            time.sleep(left)


def _empty_ns() -> float:
    def nothing(key: str, value: float) -> None:
        pass

    began = time.process_time()
    for _ in range(SAMPLES // CHUNK):
        for value in VALUES:
            nothing("k", value)
    return (time.process_time() - began) / SAMPLES * 1e9


def _percentiles(client: MetricsClient, key: str) -> dict[str, float]:
    """Of the time of single calls, the clock's own included, at some 100,000 calls a second."""
    took, record, clock = [], client.record, time.perf_counter_ns
    for _ in range(SAMPLES // CHUNK):
        for value in VALUES:
            began = clock()
            record(key, value)
            took.append(clock() - began)
        time.sleep(0.01)
    took.sort()
    return {f"p{name}_us": took[int(len(took) * share)] / 1000 for name, share in (("50", 0.5), ("99", 0.99))}


if __name__ == "__main__":
    main()
