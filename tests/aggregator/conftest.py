from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import faust
import pytest

from metrics_app.aggregator.table import HourlyTable, new_table


@pytest.fixture
def table(tmp_path: Path) -> Iterator[HourlyTable]:
    """A table on a real RocksDB, of an app that is never started."""
    app = faust.App("table-test", broker="kafka://127.0.0.1:1", datadir=str(tmp_path), autodiscover=False)
    table = new_table(app, partitions=4)
    yield table
    table.store.revoke_partitions(table, {table.changelog_tp(partition) for partition in range(4)})
