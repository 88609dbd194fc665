"""Batches that are small on the wire and large in memory, read by aiokafka's own fetcher."""

from __future__ import annotations

import resource
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from metrics_app.faust_runtime import records
from metrics_app.kafka import connections

CODECS = {name: getattr(DefaultRecordBatch, f"CODEC_{name}") for name in ("NONE", "GZIP", "SNAPPY", "LZ4", "ZSTD")}
COMPRESSED = sorted(set(CODECS) - {"NONE"})
TP = TopicPartition("samples", 0)


def batch(codec: str, *values: bytes, offset: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(2, CODECS[codec], 0, -1, -1, -1, 1 << 30)
    for number, value in enumerate(values):
        builder.append(number, timestamp=7, key=None, value=value, headers=[])
    built = builder.build()
    built[:8] = offset.to_bytes(8, "big")
    return bytes(built)


def read(fetched: bytes) -> list[Any]:
    records = fetcher.MemoryRecords(fetched)
    return list(fetcher.PartitionRecords(TP, records, [], 0, None, None, True, fetcher.READ_UNCOMMITTED))


def test_every_consumer_of_the_product_is_bounded():
    """Who imports what makes consumers has it."""
    assert connections.__dict__["records"] is records
    assert fetcher.MemoryRecords is records.BoundedRecords


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_what_was_written_is_read(codec):
    values = [b"one", b"\0" * 900_000, bytes(range(256)) * 100, b""]
    assert [record.value for record in read(batch(codec, *values))] == values


@pytest.mark.parametrize("codec", COMPRESSED)
def test_a_batch_that_inflates_beyond_the_bound_is_records_without_content_and_its_neighbours_are_read(codec):
    bomb = batch(codec, b"\0" * (40 << 20), b"more", offset=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = read(batch(codec, b"before") + bomb + batch(codec, b"after", offset=3))
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert [(record.offset, record.value) for record in found] == [(0, b"before"), (1, None), (2, None), (3, b"after")]
    assert grown_kib < 4 * records.MAX_BYTES >> 10, "the bomb has gone off"


@pytest.mark.parametrize("codec", COMPRESSED)
def test_a_batch_of_the_greatest_size_is_read(codec):
    values = [b"\0" * (1 << 20)] * 7
    assert [len(record.value) for record in read(batch(codec, *values))] == [1 << 20] * 7
