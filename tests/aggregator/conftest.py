from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import faust
import pytest
from faust.types import TP

from metrics_app.aggregator.active import ActivePartition
from metrics_app.aggregator.fencing import Fence
from metrics_app.aggregator.fold import PartitionFold
from metrics_app.aggregator.table import HourlyTable, new_table


def active_of(fold: PartitionFold) -> ActivePartition:
    """Partition 1 with this fold, for a test in which nothing is written."""
    return ActivePartition(1, fold, Fence(cast(Any, None), TP("changelog", 1)))


@pytest.fixture
def table(tmp_path: Path) -> Iterator[HourlyTable]:
    """A table on a real RocksDB, of an app that is never started."""
    app = faust.App("table-test", broker="kafka://127.0.0.1:1", datadir=str(tmp_path), autodiscover=False)
    table = new_table(app, partitions=4)
    yield table
    table.store.revoke_partitions(table, {table.changelog_tp(partition) for partition in range(4)})
