"""How a partition is shown to hold everything there was a moment ago."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from metrics_app import clocks as module
from metrics_app.aggregator.fold import FoldLimits, PartitionFold
from metrics_app.aggregator.row import NO_CHECKPOINT
from metrics_app.aggregator.upkeep import prove_completeness
from metrics_app.clocks import Clocks
from metrics_app.telemetry import Telemetry
from tests.aggregator.conftest import active_of


class Samples:
    """A partition of the samples topic that grows, a fold that follows, and two clocks that say when."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.end = 0
        self.own_s = 100.0
        self.active = active_of(PartitionFold(lambda _: None, FoldLimits(), NO_CHECKPOINT))
        time = SimpleNamespace(time=lambda: self.own_s, monotonic=lambda: self.own_s)
        monkeypatch.setattr(module, "time", time)
        clocks = Clocks(10.0, Telemetry())
        clocks.appended(1, 100_000, clocks.now())
        self.partitions: Any = SimpleNamespace(checkpoints={1: None}, of=lambda partition: self.active, clocks=clocks)

    async def ends(self, partitions: Any) -> dict[int, int]:
        return {1: self.end}

    async def prove(self, at: float, end: int, folded: int) -> float:
        self.own_s, self.end, self.active.fold.offset = at, end, folded
        await prove_completeness(self, self.partitions, Telemetry())  # type: ignore[arg-type]
        return self.active.completeness.complete_at


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> Samples:
    return Samples(monkeypatch)


async def test_a_partition_without_lag_is_complete_now(samples):
    assert await samples.prove(100.0, end=5, folded=4) == 100.0
    assert samples.active.completeness.shown_s == 100.0


async def test_under_load_it_is_complete_as_of_the_last_end_that_was_reached(samples):
    assert await samples.prove(100.0, end=5, folded=2) == 0.0
    assert samples.active.completeness.shown_s is None
    assert await samples.prove(101.0, end=9, folded=4) == 100.0
    assert await samples.prove(102.0, end=13, folded=9) == 101.0


async def test_a_fold_that_does_not_get_as_far_is_not_complete(samples):
    await samples.prove(100.0, end=5, folded=2)
    assert await samples.prove(101.0, end=9, folded=3) == 0.0
    assert await samples.prove(102.0, end=10, folded=4) == 100.0
