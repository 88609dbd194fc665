"""One message a sample, as every peer expects them: key as text, value as a big-endian float64.

    python -m benchmarks.peers.produce BOOTSTRAP TOPIC KEYS COUNT HOUR [--closing]

Run in the peers' environment: librdkafka is the fastest producer Python has. All timestamps lie in the hour given, in
the order of the samples. `--closing` adds a sample of each key in the hour after, for a peer that says what it counted
only when a window closes. Prints `cost` and the CPU nanoseconds a sample.
"""

from __future__ import annotations

import argparse
import struct
import time

from confluent_kafka import Producer

from benchmarks.samples import Samples

HOUR_MS = 3_600_000


def _refused(error: object, _message: object) -> None:
    raise RuntimeError(f"Kafka did not take a message: {error}")


CONFIG = {
    "enable.idempotence": True,
    "linger.ms": 5,
    "batch.size": 1 << 19,
    "queue.buffering.max.messages": 1_000_000,
    "partitioner": "murmur2",
    "delivery.report.only.error": True,
    "on_delivery": _refused,
}


def main() -> None:
    """Sends all samples and waits until Kafka has acknowledged them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    for name in ("keys", "count", "hour"):
        parser.add_argument(name, type=int)
    parser.add_argument("--closing", action="store_true")
    options = parser.parse_args()
    samples = Samples(options.keys, options.count)
    names = [samples.name(index) for index in range(options.keys)]
    blocks = [(keys.tolist(), values.tolist()) for keys, values in samples.blocks()]
    producer = Producer(CONFIG | {"bootstrap.servers": options.bootstrap})
    pack, start_ms, number = struct.Struct(">d").pack, options.hour * HOUR_MS, 0
    before_s = time.process_time()
    for keys, values in blocks:
        for key, value in zip(keys, values, strict=True):
            at_ms = start_ms + number * HOUR_MS // options.count
            _produce(producer, options.topic, names[key], pack(value), at_ms)
            number += 1
        producer.poll(0)
    producer.flush()
    print("cost", round(1e9 * (time.process_time() - before_s) / options.count), flush=True)
    if options.closing:
        for name in names:
            _produce(producer, options.topic, name, pack(0.0), start_ms + HOUR_MS)
        producer.flush()


def _produce(producer: Producer, topic: str, key: str, value: bytes, at_ms: int) -> None:
    while True:
        try:
            producer.produce(topic, value, key, timestamp=at_ms)
            return
        except BufferError:
            producer.poll(0.1)


if __name__ == "__main__":
    main()
