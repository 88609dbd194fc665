from __future__ import annotations

import numpy as np
import pytest

from benchmarks.samples import BLOCK, Samples


def all_of(samples):
    blocks = list(samples.blocks())
    return np.concatenate([block.keys for block in blocks]), np.concatenate([block.values for block in blocks])


def test_the_same_samples_come_in_every_run():
    first, second = all_of(Samples(10, 2 * BLOCK)), all_of(Samples(10, 2 * BLOCK))
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_shorter_run_takes_a_prefix():
    count = BLOCK + 17
    keys, values = all_of(Samples(10, count))
    longer_keys, longer_values = all_of(Samples(10, 3 * BLOCK))
    assert len(keys) == count
    assert np.array_equal(keys, longer_keys[:count])
    assert np.array_equal(values, longer_values[:count])


def test_blocks_differ():
    first, second = Samples(10, 2 * BLOCK).blocks()
    assert not np.array_equal(first.values, second.values)


def test_the_tail_is_heavy():
    _, values = all_of(Samples(10, 200_000))
    assert np.median(values) == pytest.approx(20, rel=0.02)
    assert np.quantile(values, 0.999) > 30 * np.median(values)


def test_in_turn_no_key_comes_twice_before_all_have_come():
    keys, _ = all_of(Samples(BLOCK + 5, 2 * (BLOCK + 5), in_turn=True))
    assert np.array_equal(np.unique(keys[: BLOCK + 5]), np.arange(BLOCK + 5))
    assert np.bincount(keys).tolist() == [2] * (BLOCK + 5)


def test_a_block_by_key_has_every_value_once_and_in_order():
    (block,) = Samples(7, BLOCK).blocks()
    found = dict(block.by_key())
    assert list(found) == sorted(found)
    for key, values in found.items():
        assert values.tolist() == block.values[block.keys == key].tolist()


def test_totals_are_those_of_the_samples():
    samples = Samples(3, BLOCK + 1)
    keys, values = all_of(samples)
    totals = samples.totals()
    assert totals.keys() == {samples.name(index) for index in range(3)}
    for index in range(3):
        mine, total = values[keys == index], totals[samples.name(index)]
        assert (total.count, total.min, total.max) == (len(mine), mine.min(), mine.max())
        assert total.sum == pytest.approx(mine.sum(), rel=1e-12)
