"""What a row costs to read from RocksDB with our options, where it is there and where it is not.

Called by hand: `python -m benchmarks.store_reads`.

As a worker does with a million keys in turn: reads of a record's rows together, ascending, in one of eight partitions,
and a batch of rows written after each 2,500. In the first round no row is there, in the second each is. Prints the
microseconds of CPU a read, without and with the filter in front of write buffers; what RocksDB does in its own threads
is in them too.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import rocksdict

from metrics_app.aggregator.local_copies import options
from metrics_app.aggregator.row import hour_key

ROWS = 125_000
TOGETHER = 500
FLUSHED = 2_500
VALUE = bytes(range(90))
HOUR = 491_000


def main() -> None:
    """Prints a line for each, twice: what the machine does meanwhile matters."""
    for _ in range(2):
        for name, opts in (("without", _without_filter()), ("with", options())):
            with tempfile.TemporaryDirectory() as folder:
                absent, present = _measure(rocksdict.Rdict(str(Path(folder) / "rows.db"), opts))
            print(f"{name} the filter: {absent:.2f} us for a row that is not there, {present:.2f} us for one that is")


def _without_filter() -> rocksdict.Options:
    opts = options()
    opts.set_memtable_whole_key_filtering(False)
    opts.set_memtable_prefix_bloom_ratio(0.0)
    return opts


def _measure(db: rocksdict.Rdict) -> list[float]:
    names = [hour_key(HOUR, f"key-{8 * number:07d}".encode()) for number in range(ROWS)]
    random.Random(1).shuffle(names)  # no secret
    return [_round(db, names) for _ in range(2)]


def _round(db: rocksdict.Rdict, names: list[bytes]) -> float:
    spent = 0.0
    for at in range(0, ROWS, FLUSHED):
        for start in range(at, at + FLUSHED, TOGETHER):
            row_keys = sorted(names[start : start + TOGETHER])
            begun = time.process_time()
            db.get(cast("Any", row_keys))
            spent += time.process_time() - begun
        batch = rocksdict.WriteBatch(raw_mode=True)
        for name in names[at : at + FLUSHED]:
            batch.put(name, VALUE)
        db.write(batch)
    return 1e6 * spent / ROWS


if __name__ == "__main__":
    main()
