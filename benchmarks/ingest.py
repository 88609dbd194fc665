"""The way in by the form of the body: values a second of one collector, and the CPU each costs.

A closed loop over few connections, each request acknowledged by Kafka before its reply. The sender shares the two
cores, so a form that costs the collector little is bounded by what is left: the CPU a value costs is the figure to
plan with.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from benchmarks import backlog
from benchmarks.bench import Bench
from benchmarks.flood import Feed, flood, post
from benchmarks.meter import cpu_s
from benchmarks.samples import Block, Samples
from benchmarks.services import Service, service

KEYS = 10
BATCH = 1_000
DISTINCT = 20  # bodies made beforehand and sent in turn
CONNECTIONS = 16
SINGLE_CONNECTIONS = 256
_ENCODER = msgspec.json.Encoder()
JSON, LINES = "application/json", "application/x-ndjson"


class Form(NamedTuple):
    """A form of body: its name, content type, values a body, connections, and how one is written."""

    name: str
    content_type: str
    batch: int
    connections: int
    write: Callable[[Samples, Block, int], bytes]


def objects(samples: Samples, block: Block, hour: int) -> list[dict[str, Any]]:
    """The samples of a block as objects."""
    rows = zip(block.keys.tolist(), block.values.tolist(), strict=True)
    return [{"key": samples.name(key), "value": value} for key, value in rows]


def _array(samples: Samples, block: Block, hour: int) -> bytes:
    return msgspec.json.encode(objects(samples, block, hour))


def _object(samples: Samples, block: Block, hour: int) -> bytes:
    return msgspec.json.encode(objects(samples, block, hour)[0])


def _pairs(samples: Samples, block: Block, hour: int) -> bytes:
    return msgspec.json.encode([list(each.values()) for each in objects(samples, block, hour)])


def _lines(samples: Samples, block: Block, hour: int) -> bytes:
    return _ENCODER.encode_lines(objects(samples, block, hour))


def _series(samples: Samples, block: Block, hour: int, values: Callable[[Any], Any]) -> dict[str, Any]:
    runs = [{"key": samples.name(key), "hour": hour, "values": values(run)} for key, run in block.by_key()]
    return {"series": runs}


def _json_columns(samples: Samples, block: Block, hour: int) -> bytes:
    return msgspec.json.encode(_series(samples, block, hour, lambda run: run.tolist()))


def _msgpack_columns(samples: Samples, block: Block, hour: int) -> bytes:
    return msgspec.msgpack.encode(_series(samples, block, hour, lambda run: run.astype("<f8").tobytes()))


FORMS = (
    Form("one JSON object", JSON, 1, SINGLE_CONNECTIONS, _object),
    Form("JSON array of objects", JSON, BATCH, CONNECTIONS, _array),
    Form("JSON array of pairs", JSON, BATCH, CONNECTIONS, _pairs),
    Form("NDJSON", LINES, BATCH, CONNECTIONS, _lines),
    Form("JSON columns", JSON, BATCH, CONNECTIONS, _json_columns),
    Form("MessagePack columns", backlog.MSGPACK, BATCH, CONNECTIONS, _msgpack_columns),
    Form("MessagePack columns, large", backlog.MSGPACK, 10 * BATCH, CONNECTIONS, _msgpack_columns),
)


def run(bench: Bench) -> dict[str, Any]:
    """The section `ingest`, a row a form.

    Raises:
        RuntimeError: a request was not accepted, or the counters of the collector say otherwise.
    """
    seconds = 0.7 if bench.quick else 6.0
    bench.expect(len(FORMS))
    with service(bench, "collector", bench.name("ingest"), request_deadline_s=30) as collector:
        return {"ingest": [measure(bench, collector, form, seconds) for form in FORMS]}


def measure(bench: Bench, collector: Service, form: Form, seconds: float) -> dict[str, Any]:
    """One form for so many seconds; raises as `run` does."""
    bench.step(f"ingest: {form.name}")
    bodies = [post(collector.url, body, form.content_type) for body in written(form)]
    before, taken = [cpu_s(each) for each in (collector.process, bench.broker)], accepted(collector)
    done = asyncio.run(flood(collector.url, for_a_while(bodies, seconds), form.connections))
    used = [cpu_s(each) - at for each, at in zip((collector.process, bench.broker), before, strict=True)]
    values = done.accepted * form.batch
    if done.failed or accepted(collector) - taken != values:
        raise RuntimeError(f"{form.name}: {done}, but the collector counts {accepted(collector) - taken:,.0f} values")
    return {
        "form": form.name,
        "batch": form.batch,
        "per_s": round(values / done.seconds),
        "cpu_ns": round(1e9 * used[0] / values),
        "broker_cpu_ns": round(1e9 * used[1] / values),
    }


def accepted(collector: Service) -> float:
    """Values the collector says it has answered 202 for."""
    return collector.metric("metrics_app_accepted_values_total")


def written(form: Form) -> list[bytes]:
    """The bodies of a form, all of the same samples."""
    samples, hour = Samples(KEYS, max(DISTINCT * form.batch, DISTINCT)), backlog.this_hour()
    whole = list(samples.blocks())
    parts = [
        Block(block.keys[at : at + form.batch], block.values[at : at + form.batch])
        for block in whole
        for at in range(0, len(block.values), form.batch)
    ]
    return [form.write(samples, part, hour) for part in parts]


def for_a_while(requests: Sequence[bytes], seconds: float) -> Feed:
    """The requests in turn, until the time is over; it begins with the first one."""
    turn, ends_at = itertools.cycle(requests), 0.0

    def feed(_connection: int) -> bytes | None:
        nonlocal ends_at
        now = time.monotonic()
        ends_at = ends_at or now + seconds
        return next(turn) if now < ends_at else None

    return feed
