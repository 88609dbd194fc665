"""What a value costs the collector when every value belongs to another key, by the form of the body that brings it.

Called by hand: `python -m benchmarks.many_key_bodies [keys]`.

The same samples go through a collector of its own into one Kafka, form after form, each in two rounds; CPU is that of
the collector's process, with HTTP and Kafka's protocol. Ratios within one run say more than the figures.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from uuid import UUID

import msgspec
import numpy as np
import pyarrow as pa

from benchmarks import backlog
from benchmarks.bench import Bench
from benchmarks.many_keys import BATCH, CONNECTIONS
from benchmarks.samples import Samples
from metrics_app.wire.bodies import ARROW, JSON, MSGPACK

ROUNDS = 2
SENDER = UUID(int=7)

Bodies = Iterator[tuple[bytes, int]]


def pairs(samples: Samples, _hour: int) -> Bodies:
    """JSON, an array of pairs."""
    for keys, values in samples.blocks():
        named = zip(map(samples.name, keys.tolist()), values.tolist(), strict=True)
        yield msgspec.json.encode(list(named)), len(keys)


def series(samples: Samples, hour: int) -> Bodies:
    """MessagePack, a series a key."""
    return backlog.columns(samples, hour, BATCH)


def tables(samples: Samples, _hour: int) -> Bodies:
    """MessagePack, a table."""
    for keys, values in samples.blocks():
        names = [samples.name(key) for key in keys.tolist()]
        yield msgspec.msgpack.encode({"keys": names, "values": values.astype("<f8").tobytes()}), len(keys)


def numbered(samples: Samples, hour: int) -> Bodies:
    """The same with timestamps, and numbers of a sender."""
    seen = Counter[int]()
    for keys, values in samples.blocks():
        numbers = np.array([seen[key] for key in keys.tolist()], "<u8")
        seen.update(keys.tolist())
        body = {
            "keys": [samples.name(key) for key in keys.tolist()],
            "values": values.astype("<f8").tobytes(),
            "timestamps": np.full(len(keys), hour * 3600.0, "<f8").tobytes(),
            "sender": SENDER,
            "numbers": numbers.tobytes(),
        }
        yield msgspec.msgpack.encode(body), len(keys)


def streams(samples: Samples, _hour: int) -> Bodies:
    """An Arrow IPC stream."""
    for keys, values in samples.blocks():
        table = pa.table({"key": [samples.name(key) for key in keys.tolist()], "value": values})
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table)
        yield out.getvalue().to_pybytes(), len(keys)


FORMS: dict[str, tuple[Callable[[Samples, int], Bodies], str]] = {
    "JSON pairs": (pairs, JSON),
    "msgpack series": (series, MSGPACK),
    "msgpack table": (tables, MSGPACK),
    "msgpack table, numbered": (numbered, MSGPACK),
    "Arrow stream": (streams, ARROW),
}


def main() -> None:
    """Prints a line a form."""
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    samples, hour = Samples(keys, ROUNDS * keys, in_turn=True), backlog.this_hour()
    with Bench() as bench:
        for name, (form, content_type) in FORMS.items():
            bodies = list(form(samples, hour))
            sent = sum(len(body) for body, _ in bodies) / samples.count
            way = backlog.fill(bench, bench.name("bodies"), iter(bodies), content_type, CONNECTIONS)
            print(f"{name}: {way.cpu_ns / 1000:.2f} us a value in the collector, {sent:.0f} bytes", flush=True)


if __name__ == "__main__":
    main()
