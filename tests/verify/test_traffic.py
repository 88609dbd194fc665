from __future__ import annotations

import numpy as np
import pytest

from metrics_app.verify.plan import Form
from metrics_app.verify.traffic import HOUR_S, POOL_VALUES, Encoder, TrafficLane, batches
from tests.cli.fake_service import items_of

KEYS = ["a", "b", "c"]
AT_S = 498740 * HOUR_S + 3599.9


@pytest.mark.parametrize("form", Form)
def test_a_body_carries_the_values_of_its_batch_in_the_hour_of_its_sending(form: Form) -> None:
    (batch,) = batches(KEYS, 50, 1, seed=1)
    encoder = Encoder(form)
    sent: dict[str, list[float]] = {}
    for key, hour, values in items_of(encoder.encode(batch, AT_S, TrafficLane()), encoder.content_type):
        assert hour == 498740
        sent.setdefault(key, []).extend(values)
    assert sent == {block.key: block.values.tolist() for block in batch.blocks}


@pytest.mark.parametrize("form", Form)
def test_a_batch_sent_again_in_the_next_hour_belongs_to_that_hour(form: Form) -> None:
    (batch,) = batches(KEYS, 10, 1, seed=1)
    encoder, lane = Encoder(form), TrafficLane()
    bodies = [encoder.encode(batch, at_s, lane) for at_s in (AT_S, AT_S + 1)]
    assert [{hour for _, hour, _ in items_of(body, encoder.content_type)} for body in bodies] == [{498740}, {498741}]


def test_numbers_of_a_lane_continue_within_a_key_and_hour_and_start_at_zero_in_the_next() -> None:
    lane = TrafficLane()
    taken = [lane.first(*each) for each in (("a", 1, 5), ("a", 1, 3), ("b", 1, 2), ("a", 2, 1), ("a", 1, 1))]
    assert taken == [0, 5, 0, 0, 8]


def test_the_same_seed_makes_the_same_values() -> None:
    one, two, other = (batches(KEYS, 100, 3, seed)[2].blocks[0].values.tolist() for seed in (1, 1, 2))
    assert one == two != other


def test_values_are_positive_rounded_and_have_a_heavy_tail() -> None:
    values = np.concatenate([block.values for batch in batches(["a"], 1000, 100, seed=1) for block in batch.blocks])
    assert len(values) == 100_000
    assert values.min() >= 0.01
    assert values.max() <= 60_000
    assert np.array_equal(np.round(values, 2), values)
    assert values.max() > 50 * np.median(values)


def test_a_long_run_takes_no_more_memory_than_a_short_one() -> None:
    assert len(batches(KEYS, POOL_VALUES // 2, 1000, seed=1)) == 2
