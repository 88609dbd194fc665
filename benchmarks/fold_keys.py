"""What folding costs when every value belongs to another key, step by step, in one process and without Kafka.

Called by hand: `python -m benchmarks.fold_keys [keys]`.

Every key gets one numbered value a round, in two rounds; rows go to a RocksDB of our options as a flush writes them. In
the second round no row is in memory, so each is read from RocksDB first. Prints the
microseconds of CPU that each step takes a value.
"""

from __future__ import annotations

import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, cast

import rocksdict

from metrics_app.aggregator.fold import FoldLimits, PartitionFold
from metrics_app.aggregator.local_copies import options
from metrics_app.aggregator.row import NO_CHECKPOINT
from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk

HOUR = 491_000
NOW_MS = HOUR * 3_600_000 + 60_000
CHUNKS = 500  # of a record
FLUSH_ROWS = 20_000
ROUNDS = 2
SENDER = bytes(range(16))


def records(keys: int, number: int) -> list[bytes]:
    """The records of one round, with the keys in an order that is not that of RocksDB."""
    values = [struct.pack("<d", 1 + i % 997 + 0.25 * number) for i in range(keys)]
    names = [f"shop/{(i * 7919) % keys:07d}".encode() for i in range(keys)]
    chunks = [Chunk(name, HOUR, value, SENDER, number) for name, value in zip(names, values, strict=True)]
    return [record.encode(chunks[at : at + CHUNKS]) for at in range(0, keys, CHUNKS)]


def measure(keys: int, folder: Path) -> None:
    """Folds all rounds, and prints what each step of each round costs."""
    db = rocksdict.Rdict(str(folder / "rows.db"), options())
    fold = PartitionFold(db.get, FoldLimits(max_clean_rows=100), NO_CHECKPOINT, load_all=cast("Any", db.get))
    offset = 0
    for number in range(ROUNDS):
        spent = Counter[str]()
        for each in records(keys, number):
            offset += 1
            _fold(fold, offset, each, spent)
            if len(fold.dirty) >= FLUSH_ROWS:
                _flush(fold, db, spent)
        _flush(fold, db, spent)
        print(f"round {number}:", ", ".join(f"{what} {1e6 * s / keys:.2f}" for what, s in spent.items()), "us a value")


def _fold(fold: PartitionFold, offset: int, each: bytes, spent: Counter[str]) -> None:
    started = time.thread_time()
    chunks = record.decode(each, record.RecordSource(0, 1))
    decoded = time.thread_time()
    tally = fold.apply(offset, NOW_MS, chunks)
    assert tally.folded == len(chunks)
    _note(spent, decode=decoded - started, fold=time.thread_time() - decoded)


def _flush(fold: PartitionFold, db: rocksdict.Rdict, spent: Counter[str]) -> None:
    started = time.thread_time()
    flush = fold.take(0.0)
    rows = flush.rows
    encoded = time.thread_time()
    batch = rocksdict.WriteBatch(raw_mode=True)
    for row_key, value in rows:
        batch.put(row_key, value)
    db.write(batch)
    written = time.thread_time()
    fold.flushed(flush)
    _note(spent, encode=encoded - started, write=written - encoded, settle=time.thread_time() - written)


def _note(spent: Counter[str], **seconds: float) -> None:
    for what, s in seconds.items():
        spent[what] += s  # type: ignore[assignment]  # seconds


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        measure(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, Path(folder))
