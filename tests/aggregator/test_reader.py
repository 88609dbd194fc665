"""When a worker answers for a partition, and in which role."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fold import Limits
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.reader import TableReader
from metrics_app.aggregator.row import NOWHERE, Place
from metrics_app.errors import OwnerUnavailableError


@pytest.fixture
def reader(table: Any) -> TableReader:
    """Of a worker that owns partition 1 and holds a copy of partition 2."""
    app: Any = SimpleNamespace(rebalancing=False, tables=SimpleNamespace(actives_ready=True))
    partitions = Partitions(table, Limits(), log=object())  # type: ignore[arg-type]
    partitions.assign({1})
    for partition in (1, 2):
        place_row = (rows.PLACE_KEY, rows.encode_place(Place(0, 7, 1.0)))
        table.store.write(table.changelog_tp(partition), [place_row], 1)
    return TableReader(app, table, partitions)


def test_an_owned_partition_is_answered_once_its_place_has_been_compared_with_the_log(reader):
    """Until then the rows may be those of another log; and they are not a standby's either."""
    assert reader.holds(1) is None
    with pytest.raises(OwnerUnavailableError):
        reader.read(1, b"k", 1)
    reader.partitions.places[1] = NOWHERE
    assert reader.holds(1) == "active"
    reader.partitions.doubt(1)
    assert reader.holds(1) is None


def test_a_copy_is_a_standby_and_what_is_not_there_is_nothing(reader):
    assert [reader.holds(partition) for partition in (2, 3)] == ["standby", None]


@pytest.mark.parametrize("state", ["rebalancing", "recovering"])
def test_nothing_is_answered_while_partitions_move_or_are_recovered(reader, state):
    reader.partitions.places[1] = NOWHERE
    reader.app.rebalancing = state == "rebalancing"
    reader.app.tables.actives_ready = state != "recovering"
    assert [reader.holds(partition) for partition in (1, 2)] == [None, None]
