"""/system and /capacity of two real workers: either says the same of both."""

from __future__ import annotations

import time

import msgspec
import pytest
from typer.testing import CliRunner

from metrics_app.cli.main import app
from metrics_app.system.capacity import Capacity
from metrics_app.system.condition import SystemState

from .asking import curl, dated

MEASURED_WITHIN_S = 60.0

pytestmark = pytest.mark.kafka


def system_of(url: str) -> SystemState:
    return msgspec.json.decode(curl(f"curl -s {url}/system"), type=SystemState)


def test_either_worker_tells_of_both_and_each_partition_has_one_owner(asked: list[str]) -> None:
    told = [system_of(url) for url in asked]
    for system in told:
        assert {each.url for each in system.workers} == set(asked)
        assert system.unanswered == []
        assert all(each.owner in asked for each in system.partitions)
        assert {worker.url: worker.checks for worker in system.workers} == {url: {} for url in asked}
    assert told[0].partitions[0].owner == told[1].partitions[0].owner


def test_counters_are_those_of_metrics_summed_over_the_workers(asked: list[str]) -> None:
    system = system_of(asked[0])
    shown = [
        float(line.rpartition(" ")[2])
        for url in asked
        for line in curl(f"curl -s {url}/metrics").splitlines()
        if line.startswith("metrics_app_accepted_values_total ")
    ]
    assert system.totals["accepted_values"] == sum(shown) > 0
    assert all(worker.memory_bytes > 2**20 and worker.disk_free_bytes > 0 for worker in system.workers)


def test_the_busyness_of_every_worker_is_measured(asked: list[str]) -> None:
    end = time.monotonic() + MEASURED_WITHIN_S
    while not is_measured(system_of(asked[1])):
        assert time.monotonic() < end
        time.sleep(0.2)
    capacity = msgspec.json.decode(curl(f"curl -s {asked[1]}/capacity"), type=Capacity)
    assert {each.url for each in capacity.workers} == set(asked)
    assert capacity.forecast
    # which one it is depends on what other tests have recorded there
    assert capacity.hottest in range(len(system_of(asked[0]).partitions))
    assert 1 / len(system_of(asked[0]).partitions) < capacity.hottest_share <= 1.0


def is_measured(system: SystemState) -> bool:
    """Whether the first measurements are there, and what was recorded is flushed and so counted."""
    return system.totals["folded_values"] > 0 and all(worker.load.busy > 0 for worker in system.workers)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["status"], "nothing is wrong"),
        (["capacity"], "first"),
        (["top", "--sort", "max", "--date", dated("2026-11-23"), "--hour", "22"], "checkout"),
        (["top", "--sort", "change", "--date", dated("2026-11-23"), "--hour", "22"], "key"),
        (["tail", "--rounds", "2", "--every", "0.1"], "p95 since"),
        (["query", "checkout", "p99", dated("2026-11-23")], "█"),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)
def test_a_command_shows_what_two_real_workers_say(asked: list[str], command: list[str], shown: str) -> None:
    result = CliRunner().invoke(app, [*command, "--url", asked[0]])
    assert (result.exit_code, result.stderr) == (0, "")
    assert shown in result.stdout
