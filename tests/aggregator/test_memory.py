"""What a row takes in memory (docs/DESIGN.md, Memory): a million of them must be something one can plan for."""

from __future__ import annotations

import struct
import tracemalloc

from metrics_app.aggregator.fold import HOUR_MS, FoldLimits, PartitionFold
from metrics_app.aggregator.row import NO_CHECKPOINT
from metrics_app.wire.chunk import Chunk

HOUR = 498_740
ROWS = 20_000
MOST_BYTES = 512


def test_a_row_of_one_value_takes_under_half_a_kilobyte_with_its_key_and_its_checkpoint_in_the_overlay():
    chunks = [Chunk(b"key-%08d" % number, HOUR, struct.pack("<d", number + 0.5)) for number in range(ROWS)]
    fold = PartitionFold(lambda _row_key: None, FoldLimits(), NO_CHECKPOINT)
    tracemalloc.start()
    try:
        fold.apply(0, HOUR * HOUR_MS, chunks)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(fold.cache) == ROWS
    assert taken / ROWS < MOST_BYTES
