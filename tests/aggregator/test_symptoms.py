"""What the watchdog is shown, and how Kafka is asked."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from metrics_app.aggregator.watchdog import BUSY_S, ITS_TURN, Symptoms, Watchdog
from metrics_app.kafka import topics
from tests.conftest import MakeSettings


class Parts:
    """The parts of a worker, as far as symptoms look at them: settled, complete, healthy."""

    def __init__(self) -> None:
        compared = asyncio.Event()
        compared.set()
        self.recovering = False
        self.replica = SimpleNamespace(is_recovering=lambda: self.recovering, positions={}, written={})
        self.settings = SimpleNamespace(samples_topic="samples", stall_timeout_s=60.0, session_timeout_s=10)
        self.active = SimpleNamespace(fold=SimpleNamespace(offset=4))
        partitions = SimpleNamespace(all_compared=compared, active={1: self.active}, stopped={}, indexed=0)
        self.folding = SimpleNamespace(partitions=partitions, is_busy=False, taken=0, step_over=self._step_over)
        self.flusher = SimpleNamespace(failing_since=None)
        self.empty = 0  # offsets behind the place that hold no record
        self.sought: list[tuple[int, int]] = []
        log = SimpleNamespace(seek=self._seek)
        self.upkeep = SimpleNamespace(is_settled=True, proofs=3, lags={1: 0}, log_of_samples=log)

    async def _step_over(self, _tp: TP, active: Any) -> bool:
        stepped, active.fold.offset = self.empty > 0, active.fold.offset + self.empty
        return bool(stepped)

    async def _seek(self, partition: int, offset: int) -> None:
        self.sought.append((partition, offset))

    @property
    def symptoms(self) -> Any:
        parts: Any = (self.settings, self.replica, self.folding, self.flusher, self.upkeep)
        return Symptoms(*parts)


@pytest.fixture
async def parts() -> Parts:
    return Parts()


async def test_a_worker_without_work_has_only_to_hear_from_kafka(parts):
    assert list(parts.symptoms.now()) == ["proof"]


async def test_a_lag_is_a_symptom_marked_with_the_offset_folded(parts):
    parts.upkeep.lags = {1: 9}
    assert parts.symptoms.now()["lag 1"].marker == 4


async def test_while_others_are_folded_a_partition_has_longer_before_it_is_asked_for(parts):
    """What only waits its turn would be fetched again and again; what Faust has dropped is asked for all the same."""
    parts.upkeep.lags = {1: 9, 2: 9}
    parts.folding.is_busy = True
    await parts.symptoms.remedy({"lag 1": BUSY_S - 1})
    assert parts.sought == []
    await parts.symptoms.remedy({"lag 1": BUSY_S})
    assert parts.sought == [(1, 5)]


async def test_a_backlog_is_folded_run_by_run_or_stands_still(parts):
    parts.upkeep.lags = {1: 9}
    parts.folding.is_busy = True
    before = parts.symptoms.now()["fold"].marker
    assert parts.symptoms.now()["fold"].marker == before
    parts.folding.taken += 1  # also a run of which everything is known: a replay is progress
    assert parts.symptoms.now()["fold"].marker != before


@pytest.mark.parametrize("busy", [0.1, 0.5, 0.9])
async def test_a_partition_that_stands_still_beside_busy_ones_is_seen(parts, busy):
    """However often the fold is busy at the moment of a look."""
    parts.upkeep.lags = {1: 9}
    now_s: float = 0.0
    ended: list[str] = []
    end: Any = ended.append  # the process would have ended here
    watchdog = Watchdog(parts.symptoms.now, _yes, parts.symptoms.remedy, end, lambda: now_s)
    looks = random.Random(1)
    while not ended and now_s < 1000:
        parts.folding.is_busy = looks.random() < busy
        parts.folding.taken += 1
        parts.upkeep.proofs += 1
        now_s += 1.0
        await watchdog.look()
    assert parts.sought
    assert ended
    assert "partition 1 has records" in ended[0]
    assert now_s < ITS_TURN * 60 + 10


async def _yes() -> bool:
    return True


async def test_a_fold_that_was_stopped_on_purpose_is_not(parts):
    parts.upkeep.lags = {1: 9}
    parts.folding.partitions.stopped[1] = "100 in a row"
    assert list(parts.symptoms.now()) == ["proof"]


async def test_a_copy_that_is_given_its_index_of_ids_does_not_stand_still(parts):
    """Copies of an older release may need minutes: ended for that, a worker would meet the same again."""
    parts.folding.partitions.all_compared.clear()
    before = parts.symptoms.now()["compare"].marker
    assert parts.symptoms.now()["compare"].marker == before
    parts.folding.partitions.indexed += 1
    assert parts.symptoms.now()["compare"].marker != before


async def test_flushes_that_fail_and_checkpoints_that_cannot_be_compared_are(parts):
    parts.flusher.failing_since = 5.0
    parts.folding.partitions.all_compared.clear()
    assert sorted(parts.symptoms.now()) == ["compare", "flush", "proof"]


async def test_a_rebalance_has_longer_than_a_recovery_that_reads_nothing(parts):
    parts.upkeep.is_settled = False
    assert parts.symptoms.now()["rebalance"].limit_s == 90
    parts.recovering = True
    before = parts.symptoms.now()["recovery"]
    assert before.limit_s == 60
    parts.replica.positions[1] = 7
    assert parts.symptoms.now()["recovery"].marker != before.marker


async def test_records_that_do_not_come_are_asked_for_again(parts):
    await parts.symptoms.remedy({"lag 2": 9.0, "flush": 9.0})
    assert parts.sought == []
    await parts.symptoms.remedy({"lag 1": 5.0})
    assert parts.sought == [(1, 5)]


@pytest.mark.kafka
async def test_kafka_answers_when_all_partitions_can_be_written(parts, settings: MakeSettings):
    parts.settings = settings()
    assert not await parts.symptoms.kafka_answers(), "the topics are not there"
    await topics.ensure(parts.settings)
    assert await parts.symptoms.kafka_answers()


async def test_kafka_that_is_away_does_not_answer(parts, make_settings: MakeSettings):
    parts.settings = make_settings()
    assert not await parts.symptoms.kafka_answers()


async def test_offsets_that_hold_no_record_are_stepped_over_instead_of_asked_for_again(parts: Parts) -> None:
    parts.empty = 3
    await parts.symptoms.remedy({"lag 1": 5.0})
    assert (parts.active.fold.offset, parts.sought) == (7, [(1, 8)])
