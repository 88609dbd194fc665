"""A worker is ready once it can tell of every key whether it has a row, or when that takes too long."""

from __future__ import annotations

from types import SimpleNamespace

from metrics_app.aggregator.reader import PATIENCE_S, CaughtUp


def test_it_waits_for_the_first_proof_of_every_partition_but_not_for_ever() -> None:
    now, partitions = [0.0], SimpleNamespace(unproven={2, 1})
    check = CaughtUp(partitions, lambda: now[0])  # type: ignore[arg-type]
    assert check.problem() == "folding what was accepted before, of partitions 1, 2"
    now[0] = PATIENCE_S + 0.1
    assert check.problem() is None
    partitions.unproven = set()
    assert check.problem() is None
    partitions.unproven = {1}
    assert check.problem() is not None
