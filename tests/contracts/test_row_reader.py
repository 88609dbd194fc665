"""What the query role relies on in a reader of rows: the fake of its tests and the reader of the aggregator agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.aggregator import reader as module
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fold import FoldLimits
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.reader import TableReader
from metrics_app.aggregator.row import NO_CHECKPOINT, Row
from metrics_app.aggregator.table import new_table
from metrics_app.errors import OwnerUnavailableError
from metrics_app.holdings import ACTIVE, SummaryReader
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.partition import partition_of
from tests.query.fakes import PARTITIONS, FakeReader, row

HOUR = 490_000
STRETCH = 3  # rows that are looked at in one go
HERE, ELSEWHERE = 1, 2  # a partition that is held, and one that is not
KEYS = [f"{letter}{number}".encode() for letter in "ab" for number in range(99)]
OURS = [key for key in KEYS if partition_of(key, PARTITIONS) == HERE]
VALUES = {key: 0 if at % 3 == 1 else at for at, key in enumerate(OURS, 1)}  # of each key; a row may count none


def the_fake(_folder: Path) -> SummaryReader:
    found = {(key, HOUR): row(*([1.0] * count)) for key, count in VALUES.items()}
    for (key, _), each in found.items():
        if not VALUES[key]:
            found[key, HOUR] = each._replace(summary=HourlySummary())
    return FakeReader(found, roles={HERE: ACTIVE}, stretch=STRETCH)


def the_real_one(folder: Path) -> SummaryReader:
    app = faust.App("contract", broker="kafka://127.0.0.1:1", datadir=str(folder), autodiscover=False)
    table = new_table(app, PARTITIONS)
    stored = []
    for key, count in VALUES.items():
        one = Row(HourlySummary(), duplicates=1)
        one.summary.add(np.ones(count))
        stored.append((rows.hour_key(HOUR, key), rows.encode_row(one)))
    checkpoint = (rows.CHECKPOINT_KEY, rows.encode_checkpoint(NO_CHECKPOINT))
    table.store.write(table.changelog_tp(HERE), [*stored, checkpoint], 1)
    partitions = Partitions(table, FoldLimits())
    partitions.assign({HERE})
    partitions.of(HERE).completeness.shown_s = 1e12
    settled: Any = SimpleNamespace(rebalancing=False, tables=SimpleNamespace(actives_ready=True))
    return TableReader(settled, table, partitions, SimpleNamespace(current=set(), progress={}))


@pytest.fixture(scope="module", params=[the_fake, the_real_one])
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SummaryReader]:
    make: Callable[[Path], SummaryReader] = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STRETCH_ROWS", STRETCH)
        yield make(tmp_path_factory.mktemp("contract"))


def test_a_partition_is_held_or_not(reader):
    assert [reader.holds(partition) for partition in (HERE, ELSEWHERE)] == [ACTIVE, None]
    assert reader.behind(HERE) is None


def test_a_row_is_found_and_one_that_is_not_there_is_none(reader):
    key = OURS[1]
    assert reader.read(HERE, OURS[2], HOUR).summary.count == VALUES[OURS[2]]
    assert reader.read(HERE, key, HOUR + 1) is None


def test_a_partition_that_is_not_held_cannot_be_asked(reader):
    with pytest.raises(OwnerUnavailableError):
        reader.read(ELSEWHERE, b"key", HOUR)
    with pytest.raises(OwnerUnavailableError):
        reader.stored_keys(ELSEWHERE, HOUR, b"", b"", None, 9)


@given(
    prefix=st.sampled_from([b"", b"a", b"b", b"c"]),
    after=st.sampled_from([b"", *OURS]),
    upto=st.sampled_from([None, *OURS]),
    most=st.integers(1, len(OURS) + 1),
)
def test_stretch_by_stretch_every_wanted_key_comes_once_and_in_order(reader, prefix, after, upto, most):
    wanted = [
        key
        for key in sorted(OURS)
        if VALUES[key] and key.startswith(prefix) and key > after and (upto is None or key <= upto)
    ]
    found: list[bytes] = []
    end: bytes | None = after
    while end is not None and len(found) < most:
        stretch = reader.stored_keys(HERE, HOUR, prefix, end, upto, most - len(found))
        assert len(stretch.keys) <= min(most - len(found), STRETCH)
        found, end = [*found, *stretch.keys], stretch.end
    assert found == wanted[:most]
