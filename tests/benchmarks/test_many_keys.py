"""What is read from the store of a worker that has ended, and that a wrong row is seen."""

from __future__ import annotations

import numpy as np
import pytest
import rocksdict

from benchmarks.many_keys import checked, stored
from benchmarks.samples import Samples
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.local_copies import options
from metrics_app.stats.summary import HourlySummary

HOUR = 498_740
SAMPLES = Samples(keys=30, count=90, in_turn=True)


@pytest.fixture
def folder(tmp_path):
    """Two partitions of a worker that has folded the samples, and a row of another hour."""
    summaries: dict[int, HourlySummary] = {}
    for block in SAMPLES.blocks():
        for index, values in block.by_key():
            summaries.setdefault(index, HourlySummary()).add(values)
    for partition in range(2):
        mine = {SAMPLES.name(index): each for index, each in summaries.items() if index % 2 == partition}
        write(tmp_path, partition, mine, HOUR)
    write(tmp_path, 0, {"of another hour": HourlySummary()}, HOUR + 1)
    return tmp_path


def write(folder, partition, summaries, hour):
    database = rocksdict.Rdict(str(folder / f"hours-{partition}.db"), options())
    for key, summary in summaries.items():
        database[rows.hour_key(hour, key.encode())] = rows.encode_row(rows.Row(summary))
    database[rows.CHECKPOINT_KEY] = rows.encode_checkpoint(rows.NO_CHECKPOINT)
    database.close()


def test_every_row_of_the_hour_is_read_from_every_partition(folder):
    assert sorted(key for key, _ in stored(folder, HOUR)) == [SAMPLES.name(index) for index in range(30)]


def test_the_sizes_are_those_of_the_rows(folder):
    assert sorted(checked(folder, SAMPLES, HOUR)) == sorted(len(value) for _, value in stored(folder, HOUR))


def test_a_missing_row_is_seen(folder):
    database = rocksdict.Rdict(str(folder / "hours-0.db"), options())
    del database[rows.hour_key(HOUR, SAMPLES.name(4).encode())]
    database.close()
    with pytest.raises(RuntimeError, match="1 keys are missing"):
        checked(folder, SAMPLES, HOUR)


def test_a_wrong_row_is_seen(folder):
    once_more = HourlySummary()
    once_more.add(np.array([1.0, 2.0, 3.0]))
    write(folder, 1, {SAMPLES.name(7): once_more}, HOUR)
    with pytest.raises(RuntimeError, match=SAMPLES.name(7)):
        checked(folder, SAMPLES, HOUR)
