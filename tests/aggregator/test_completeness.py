"""How a partition is shown to hold everything there was a moment ago."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from metrics_app.aggregator.agent import prove_completeness
from metrics_app.telemetry import Telemetry


class Samples:
    """A partition of the samples topic that grows, and a fold that follows."""

    def __init__(self) -> None:
        self.end = 0
        self.active: Any = SimpleNamespace(fold=SimpleNamespace(offset=-1), complete_at=0.0, asked=(0, 0.0))
        self.partitions: Any = SimpleNamespace(places={1: None}, of=lambda partition: self.active)

    async def ends(self, partitions: Any) -> dict[int, int]:
        return {1: self.end}

    async def prove(self, at: float, monkeypatch: pytest.MonkeyPatch) -> float:
        monkeypatch.setattr("time.time", lambda: at)
        await prove_completeness(self, self.partitions, Telemetry())  # type: ignore[arg-type]
        return float(self.active.complete_at)


@pytest.fixture
def samples() -> Samples:
    return Samples()


async def test_a_partition_without_lag_is_complete_now(samples, monkeypatch):
    samples.end, samples.active.fold.offset = 5, 4
    assert await samples.prove(100.0, monkeypatch) == 100.0


async def test_under_load_it_is_complete_as_of_the_last_end_that_was_reached(samples, monkeypatch):
    samples.end, samples.active.fold.offset = 5, 2
    assert await samples.prove(100.0, monkeypatch) == 0.0
    samples.end, samples.active.fold.offset = 9, 4
    assert await samples.prove(101.0, monkeypatch) == 100.0
    samples.end, samples.active.fold.offset = 13, 9
    assert await samples.prove(102.0, monkeypatch) == 101.0


async def test_a_fold_that_does_not_get_as_far_is_not_complete(samples, monkeypatch):
    samples.end, samples.active.fold.offset = 5, 2
    await samples.prove(100.0, monkeypatch)
    samples.end, samples.active.fold.offset = 9, 3
    assert await samples.prove(101.0, monkeypatch) == 0.0
    samples.end, samples.active.fold.offset = 10, 4
    assert await samples.prove(102.0, monkeypatch) == 100.0
