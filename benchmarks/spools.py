"""What it costs to keep a batch on disk: the client's own files beside SQLite. `python -m benchmarks.spools`.

The question of docs/adr/0012. Both keep a batch and let it go again, 1,000 times, in a fresh folder.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from metrics_app.client.buffer import Batch
from metrics_app.client.segments import Segments

TIMES = 1000
SIZES = {"1 KB": 1 << 10, "30 KB": 30 << 10, "300 KB": 300 << 10}


def own_files(folder: Path, body: bytes, sync: bool) -> None:
    """As the client does it today."""
    segments = Segments(folder, 4 << 20, sync)
    for _ in range(TIMES):
        segments.append(Batch(1, 1, False, body)).let_go()
    segments.close()


def sqlite(folder: Path, body: bytes, sync: bool) -> None:
    """A table of batches in WAL mode; a transaction for each batch kept and each let go."""
    db = sqlite3.connect(folder / "spool.db", isolation_level=None)
    db.execute("pragma journal_mode = wal")
    db.execute(f"pragma synchronous = {'full' if sync else 'normal'}")
    db.execute("create table batches (id integer primary key, body blob)")
    for _ in range(TIMES):
        kept = db.execute("insert into batches (body) values (?)", (body,)).lastrowid
        db.execute("delete from batches where id = ?", (kept,))
    db.close()


def micros(keep: Callable[[Path, bytes, bool], None], body: bytes, sync: bool) -> float:
    """Microseconds a batch."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        keep(Path(folder), body, sync)
        return (time.perf_counter() - started) / TIMES * 1e6


if __name__ == "__main__":
    print("batch    on the disk itself   own files, µs   SQLite, µs   SQLite takes so many times as long")
    for name, size in SIZES.items():
        for sync in (False, True):
            ours, theirs = micros(own_files, os.urandom(size), sync), micros(sqlite, os.urandom(size), sync)
            print(f"{name:8} {'yes' if sync else 'no':18} {ours:15.0f} {theirs:12.0f} {theirs / ours:14.1f}")
