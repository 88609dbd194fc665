"""Ours and the peers: the same samples, the same broker, one run, one after the other.

Everyone drains a prepared backlog of the product's default of eight partitions. The peers read one message a sample,
which is what they are made for; ours reads the packed records that its collector makes of requests. So what the
collector costs stands beside what the worker costs, and the sum of both is compared as well. Slow ones get fewer
samples, the first of the same sequence, so that each is busy for about as long.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from benchmarks import backlog
from benchmarks.backlog import Way
from benchmarks.bench import Bench
from benchmarks.meter import WARM_UP, Drain
from benchmarks.peers import contender
from benchmarks.peers.contender import CONTENDERS
from benchmarks.results import ratios
from benchmarks.samples import Samples, Total
from benchmarks.services import service

KEYS = 10
SECONDS, QUICK_SECONDS = 15.0, 2.5
ROUNDS = 2
OURS_RATE = 12_000_000
BATCH = 10_000  # values a request
SMALL_BATCHES = {100: 5_000_000, 1_000: 20_000_000}  # values a request, and of how many values the backlog is
JSON_BATCH, JSON_VALUES, QUICK_JSON_VALUES = 1_000, 1_000_000, 200_000
SUM_TOLERANCE = 1e-9  # peers add in float64, in another order than the expectation


def run(bench: Bench) -> dict[str, Any]:
    """The sections of the results document: `peers`, `rates` and `ratios`.

    Raises:
        RuntimeError: somebody did not count exactly, or not in time: then there are no figures at all.
    """
    if not contender.PEERS_PYTHON.exists():
        raise RuntimeError("the others are installed apart, by `make bench-peers`")
    rounds, seconds, small = (1, QUICK_SECONDS, {}) if bench.quick else (ROUNDS, SECONDS, SMALL_BATCHES)
    bench.expect(2 + 3 + rounds * (1 + len(CONTENDERS)) + len(small))
    hour = backlog.this_hour()
    ways, topics = _filled(bench, seconds, hour)
    runs: dict[str, list[Drain]] = {name: [] for name in topics}
    for _ in range(rounds):
        for name, (topic, samples) in topics.items():
            bench.step(f"{name}: {samples.count:,} samples")
            runs[name].append(
                _ours(bench, topic, samples, hour) if name == "ours" else _theirs(bench, name, topic, samples)
            )
    best = {name: max(drains, key=lambda each: each.per_s) for name, drains in runs.items()}
    by_batch = {str(batch): _by_batch(bench, batch, count, hour) for batch, count in small.items()}
    by_batch[str(BATCH)] = best["ours"].to_json()
    return {
        "peers": {
            "keys": KEYS,
            "rounds": rounds,
            "warm_up": WARM_UP,
            "batch": BATCH,
            "runs": {name: drain.to_json() for name, drain in best.items()},
            "all_rates": {name: [each.per_s for each in drains] for name, drains in runs.items()},
            "way_in": {name: way._asdict() for name, way in ways.items()},
            "cpu": costs(best, ways),
            "by_batch": by_batch,
        },
        "rates": {name: drain.per_s for name, drain in best.items()},
        "ratios": ratios({name: float(drain.per_s) for name, drain in best.items()}),
    }


def costs(best: dict[str, Drain], ways: dict[str, Way]) -> dict[str, dict[str, float]]:
    """CPU nanoseconds a value from an app's request, or its producer, to the row; and theirs divided by ours.

    `ratio` leaves out what their producer costs and has our collector in it: a peer has no collector, but would need
    one.
    """
    ours = best["ours"].cpu_ns + ways["collector"].cpu_ns
    found = {"ours": {"way_in_ns": ways["collector"].cpu_ns, "worker_ns": best["ours"].cpu_ns}}
    found["ours_json"] = {"way_in_ns": ways["collector_json"].cpu_ns, "worker_ns": best["ours"].cpu_ns}
    for name, drain in best.items():
        if name != "ours":
            found[name] = {"way_in_ns": ways["producer"].cpu_ns, "worker_ns": drain.cpu_ns}
    theirs = {name: each["worker_ns"] for name, each in found.items() if not name.startswith("ours")}
    return {
        name: each | ({"ratio": round(theirs[name] / ours, 1)} if name in theirs else {})
        for name, each in found.items()
    }


def mismatches(expected: dict[str, Total], found: dict[str, Total]) -> list[str]:
    """What is wrong with a result, a sentence a key; empty when it is exact, but for rounding of the sums."""
    wrong = [f"{key} is not one of the keys" for key in found.keys() - expected.keys()]
    for key, want in expected.items():
        got = found.get(key)
        if (
            got is None
            or got._replace(sum=want.sum) != want
            or not math.isclose(got.sum, want.sum, rel_tol=SUM_TOLERANCE)
        ):
            wrong.append(f"{key}: expected {want}, got {got}")
    return wrong


def json_bodies(samples: Samples, batch: int) -> Iterator[tuple[bytes, int]]:
    """Bodies of `batch` values each, as a JSON array of objects, and their counts."""
    for block in samples.blocks():
        rows = zip(block.keys.tolist(), block.values.tolist(), strict=True)
        while part := [{"key": samples.name(key), "value": value} for key, value in islice(rows, batch)]:
            yield msgspec.json.encode(part), len(part)


def _filled(bench: Bench, seconds: float, hour: int) -> tuple[dict[str, Way], dict[str, tuple[str, Samples]]]:
    """All backlogs: what a value cost on its way in, and for each name its topic and samples."""
    bench.step("filling ours, through a collector")
    samples, name = Samples(KEYS, round(OURS_RATE * seconds)), bench.name("samples")
    topics = {"ours": (name, samples)}
    ways = {"collector": backlog.fill(bench, name, backlog.columns(samples, hour, BATCH))}
    bench.step("the collector with JSON")
    few = Samples(KEYS, QUICK_JSON_VALUES if bench.quick else JSON_VALUES)
    bodies = json_bodies(few, JSON_BATCH)
    ways["collector_json"] = backlog.fill(bench, bench.name("json"), bodies, "application/json")
    for each in CONTENDERS:
        if each.shares and each.shares in topics:
            topics[each.name] = topics[each.shares]
            continue
        bench.step(f"filling for {each.name}")
        theirs, topic = (
            Samples(KEYS, max(each.least, round(each.rate * seconds))),
            bench.name(each.name.replace("_", "-")),
        )
        topics[each.name] = topic, theirs
        way = contender.produce(bench, topic, theirs, hour - 1, each.closing)
        ways["producer"] = min(ways.get("producer", way), way)
    return ways, topics


def _ours(bench: Bench, topic: str, samples: Samples, hour: int) -> Drain:
    with service(bench, "aggregator", bench.name("ours"), samples_topic=topic, answers="/livez") as worker:
        found = backlog.folded(bench, worker, samples.count)
        _check("ours", samples, backlog.rows(worker, samples, hour))
    return found


def _theirs(bench: Bench, name: str, topic: str, samples: Samples) -> Drain:
    found, rows = contender.run(bench, next(each for each in CONTENDERS if each.name == name), topic, samples)
    _check(name, samples, rows)
    return found


def _check(name: str, samples: Samples, found: dict[str, Total]) -> None:
    if wrong := mismatches(samples.totals(), found):
        raise RuntimeError(f"{name} did not count exactly: {'; '.join(wrong[:3])}")


def _by_batch(bench: Bench, batch: int, count: int, hour: int) -> dict[str, Any]:
    bench.step(f"ours, of requests of {batch:,} values")
    samples, name = Samples(KEYS, count), bench.name("batch")
    way = backlog.fill(bench, name, backlog.columns(samples, hour, batch))
    return _ours(bench, name, samples, hour).to_json() | {"collector_cpu_ns": way.cpu_ns}
