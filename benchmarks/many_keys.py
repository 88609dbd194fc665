"""Few keys and many: what a row costs when every value belongs to another key, and what a lost disk costs to rebuild.

The keys come in turn, so the row of each value is another one than that of the value before, and with a million keys
every value but the first of each key finds its row in RocksDB. After the drain the worker is stopped and every row of
its store is read and compared: a figure of a run that counted wrong is no figure.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import rocksdict

from benchmarks import backlog
from benchmarks.bench import Bench
from benchmarks.samples import Samples
from benchmarks.services import service
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.local_copies import options

SIZES = {10: 80_000_000, 10_000: 1_000_000, 1_000_000: 2_000_000}  # keys, and values in all
QUICK_SIZES = {10: 10_000_000, 20_000: 100_000}
BATCH = 10_000
CONNECTIONS = 3  # more would have more rows waiting than a collector takes
EXACT_DISTINCT = 1000


def run(bench: Bench) -> dict[str, Any]:
    """The sections `many_keys`, a row for each number of keys, and `recovery`, of the largest.

    Raises:
        RuntimeError: a row is missing, too many, or wrong.
    """
    sizes = QUICK_SIZES if bench.quick else SIZES
    bench.expect(2 * len(sizes) + 2)
    hour = backlog.this_hour()
    found = [
        _measure(bench, name := bench.name("keys"), Samples(keys, count, in_turn=True), hour)
        for keys, count in sizes.items()
    ]
    folder = bench.folder / name
    recovery = {"rows": found[-1]["keys"], **_recovered(bench, name, folder)}
    shutil.rmtree(folder)
    return {"many_keys": found, "recovery": recovery}


def _measure(bench: Bench, name: str, samples: Samples, hour: int) -> dict[str, Any]:
    bench.step(f"filling {samples.count:,} values of {samples.keys:,} keys")
    way = backlog.fill(bench, name, backlog.columns(samples, hour, BATCH), connections=CONNECTIONS)
    bench.step(f"folding {samples.keys:,} keys")
    folder = bench.folder / name
    with service(bench, "aggregator", name, data_dir=folder, answers="/livez") as worker:
        drain = backlog.folded(bench, worker, samples.count)
        written = worker.metric("metrics_app_flushed_rows_total")
    sizes = checked(folder, samples, hour)
    return drain.to_json() | {
        "keys": samples.keys,
        "collector_cpu_ns": way.cpu_ns,
        "rows_written": round(written),
        "row_bytes": round(sum(sizes) / len(sizes)),
        "disk_bytes_per_row": round(_bytes_in(folder) / len(sizes)),
    }


def checked(folder: Path, samples: Samples, hour: int) -> list[int]:
    """The sizes of the encoded rows in a store that holds exactly the samples.

    Raises:
        RuntimeError: it does not.
    """
    expected, sizes = samples.totals(), []
    for key, value in stored(folder, hour):
        summary = rows.decode_row(value, EXACT_DISTINCT).summary
        want = expected.pop(key, None)
        if want is None or (summary.count, summary.min, summary.max) != (want.count, want.min, want.max):
            raise RuntimeError(
                f"{key}: expected {want}, got {summary.count} values from {summary.min} to {summary.max}"
            )
        sizes.append(len(value))
    if expected:
        raise RuntimeError(f"{len(expected):,} keys are missing")
    return sizes


def stored(folder: Path, hour: int) -> Iterator[tuple[str, bytes]]:
    """Keys and encoded rows of an hour in the data folder of a worker that does not run."""
    for path in sorted(folder.rglob("*.db")):
        database = rocksdict.Rdict(str(path), options(), access_type=rocksdict.AccessType.read_only())
        for row_key, value in cast("Iterator[tuple[bytes, bytes]]", database.items()):
            if row_key[0] == rows.HOUR and rows.split_hour_key(row_key)[0] == hour:
                yield rows.split_hour_key(row_key)[1].decode(), value
        database.close()


def _recovered(bench: Bench, name: str, folder: Path) -> dict[str, float]:
    """Seconds from the start of a worker to its readiness: with its store, and from the changelog alone."""
    bench.step("a restart with the store in place")
    kept_s = _ready_s(bench, name, folder)
    shutil.rmtree(folder)
    bench.step("a restart from the changelog alone")
    return {"restart_s": round(kept_s, 1), "rebuild_s": round(_ready_s(bench, name, folder), 1)}


def _ready_s(bench: Bench, name: str, folder: Path) -> float:
    started = time.monotonic()
    with service(bench, "aggregator", name, data_dir=folder):
        return time.monotonic() - started


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
