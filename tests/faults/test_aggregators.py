"""Aggregators killed and frozen under load: nothing lost, nothing double, no wrong answer, and back within bounds."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from metrics_app.verify.plan import Form
from metrics_app.verify.run import read_back
from tests.faults.installation import (
    SESSION_S,
    TAKEOVER_S,
    Installation,
    assert_exact,
    assert_none_failed,
    assert_right,
    eventually,
)
from tests.faults.pace import stretched
from tests.faults.probe import Seen

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]

SPLIT = {"c": "collector", "a": "aggregator", "b": "aggregator"}
FOLDED, REPLAYED = "metrics_app_folded_values_total", "metrics_app_replayed_records_total"


@pytest.mark.parametrize(("times", "down_s"), [(1, 4.0), pytest.param(5, 30.0, marks=pytest.mark.slow)])
async def test_a_killed_aggregator_is_answered_for_by_its_standby_and_replaced(
    tmp_path: Path, times: int, down_s: float
):
    """Kill -9 of an active aggregator."""

    async def kill_and_restart(installation: Installation) -> None:
        prober = installation.prober
        assert prober is not None
        await eventually(prober.knows_all, TAKEOVER_S)
        await asyncio.sleep(2)  # as long as a standby may be behind: a row that it never had it cannot answer
        for _ in range(times):
            victim = installation.random.choice("ab")
            other = installation.workers["b" if victim == "a" else "a"]
            killed_s = time.monotonic()
            installation.workers[victim].kill()
            await asyncio.sleep(down_s)
            installation.workers[victim].start()
            while not any(_is_normal(one) and one.url == other.url for one in prober.between(killed_s)):
                assert time.monotonic() - killed_s < stretched(TAKEOVER_S)
                await asyncio.sleep(0.1)
            await installation.grows(FOLDED, by=5000, within_s=TAKEOVER_S)
            await asyncio.to_thread(installation.workers[victim].await_ready)
            await asyncio.sleep(2)
            took_s = prober.normal_after(killed_s)
            share, by_other = prober.answered(killed_s), prober.answered(killed_s, by=other.url)
            print(f"answered {share:.2%}, by the other one {by_other:.2%}; all normal {took_s:.1f} s after kill -9")
            assert by_other >= 0.999
            assert took_s <= stretched(max(TAKEOVER_S, down_s + SESSION_S))
        await installation.fresh()

    with Installation(tmp_path, SPLIT) as installation:
        run = await installation.under_load(kill_and_restart, installation.plan())
        assert_exact(run)
        assert_none_failed(run)
        assert installation.prober is not None
        assert installation.prober.wrong() == []


def _is_normal(one: Seen) -> bool:
    return one.status == 200 and not one.stale and one.role == "active"


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, 10])
async def test_a_worker_frozen_past_its_session_cannot_set_rows_back(tmp_path: Path, times: int):
    """The zombie. Exact afterwards, and exact again from the changelog alone."""

    async def freeze(installation: Installation) -> None:
        for turn in range(times):
            name = "ab"[turn % 2]
            zombie, other = installation.workers[name], installation.workers["ba"[turn % 2]]
            before = (await asyncio.to_thread(installation.counts, FOLDED))["ba"[turn % 2]]
            zombie.pause()
            await asyncio.sleep(SESSION_S + 10)
            taken_over = (await asyncio.to_thread(installation.counts, FOLDED))["ba"[turn % 2]]
            assert taken_over > before, "its partitions moved, and were folded"
            zombie.resume()
            woke_s = time.monotonic()
            await asyncio.sleep(1)
            if not zombie.is_running:
                print(f"{name} ended with {zombie.exit_code}: {zombie.tail(2)}")
                zombie.start()
            print(f"{name} rejoined after {await asyncio.to_thread(zombie.await_ready, 30.0):.1f} s")
            await asyncio.to_thread(other.await_ready, 30.0)
            assert installation.prober is not None
            await asyncio.sleep(3)
            print(f"all normal {installation.prober.normal_after(woke_s):.1f} s after it woke")
        await installation.fresh()

    with Installation(tmp_path, SPLIT) as installation:
        plan = installation.plan()
        run = await installation.under_load(freeze, plan)
        assert_exact(run)
        assert installation.prober is not None
        assert installation.prober.wrong() == []
        await installation.rebuild()
        assert_right(await read_back(plan, run.ledger))


@pytest.mark.slow
async def test_without_any_aggregator_samples_are_taken_and_no_answer_is_wrong(tmp_path: Path):
    """Kill -9 of all aggregators together."""
    down: list[float] = []

    async def kill_all(installation: Installation) -> None:
        both = [installation.workers[name] for name in "ab"]
        down.append(time.monotonic())
        for worker in both:
            worker.kill()
        await installation.grows("metrics_app_accepted_values_total", by=4 * 5000, within_s=5)
        for worker in both:
            worker.start()
        for worker in both:
            await asyncio.to_thread(worker.await_ready)
        await asyncio.sleep(3)
        assert installation.prober is not None
        took_s = installation.prober.normal_after(down[0])
        print(f"all normal {took_s:.1f} s after kill -9 of all")
        assert took_s <= stretched(60)
        down.append(time.monotonic())
        await installation.fresh()

    with Installation(tmp_path, SPLIT) as installation:
        run = await installation.under_load(kill_all, installation.plan())
        assert_exact(run)
        assert_none_failed(run)
        assert installation.prober is not None
        assert installation.prober.wrong(lambda one: one.asked_s + one.took_s > down[0] and one.asked_s < down[1]) == []


@pytest.mark.slow
async def test_a_storm_of_rebalances_loses_and_doubles_nothing(tmp_path: Path):
    """For three minutes a worker comes or goes every five to ten seconds. Reads go on meanwhile."""

    async def storm(installation: Installation) -> None:
        until, collector = time.monotonic() + 180, installation.workers["c"]
        events = 0
        while time.monotonic() < until:
            worker = installation.workers[installation.random.choice("abd")]
            if not worker.is_running:
                worker.start()
            elif any(
                other.is_listening() for other in installation.workers.values() if other not in (worker, collector)
            ):
                await asyncio.to_thread(worker.end if installation.random.random() < 0.5 else worker.stop)
            events += 1
            await asyncio.sleep(installation.random.uniform(5, 10))
        print(f"{events} workers came or went")
        assert events >= 15
        for name in "abd":
            if not installation.workers[name].is_running:
                installation.workers[name].start()
        for name in "abd":
            await asyncio.to_thread(installation.workers[name].await_ready)
        await installation.fresh()

    with Installation(tmp_path, SPLIT | {"d": "aggregator"}) as installation:
        run = await installation.under_load(storm, installation.plan())
        assert_exact(run)
        assert_none_failed(run)
        assert installation.prober is not None
        assert installation.prober.wrong() == []


@pytest.mark.slow
@pytest.mark.parametrize("form", [Form.JSON, Form.MSGPACK])
async def test_counts_never_fall_but_in_stale_answers_while_workers_die(tmp_path: Path, form: Form):
    """The closed hour never changes, the open one never falls."""

    async def kill_in_turn(installation: Installation) -> None:
        for turn in range(6):
            worker = installation.workers["ab"[turn % 2]]
            worker.kill()
            await asyncio.sleep(installation.random.uniform(1, SESSION_S + 5))
            worker.start()
            await asyncio.to_thread(worker.await_ready)
            await asyncio.sleep(installation.random.uniform(1, 10))
        await installation.fresh()

    with Installation(tmp_path, SPLIT) as installation:
        assert_exact(await installation.under_load(kill_in_turn, installation.plan(form=form)))
        assert installation.prober is not None
        assert installation.prober.wrong() == []
        assert any(one.role == "standby" and one.stale for one in installation.prober.seen), "no standby ever answered"
