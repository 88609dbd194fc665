"""The counters close: every value that came in is accounted for, once, over all processes."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import aiohttp
import pytest

from metrics_app.verify.plan import Form
from tests.faults.installation import Installation, assert_exact, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

COLLECTED = ("received", "accepted", "rejected", "refused")
FOLDED = ("folded", "duplicate", "expired")


@pytest.mark.slow
@pytest.mark.parametrize(("moves", "form"), [(0, Form.JSON), (2, Form.MSGPACK)])
async def test_what_came_in_is_what_is_counted_left_out_or_refused_to_the_last_value(
    tmp_path: Path, moves: int, form: Form
):
    """With repeated, bad and refused values among them, and while partitions move to a worker that joins."""
    came_in: list[int] = []

    async def disturb(installation: Installation) -> None:
        async with aiohttp.ClientSession() as session:
            for _ in range(20):
                items = [["conserved", 1.0], ["conserved", -1.0], ["conserved", 2.0]]
                headers = {"Idempotency-Key": uuid.uuid4().hex}
                for url in (*installation.tell, installation.tell[0]):
                    async with session.post(f"{url}/samples", json=items, headers=headers) as reply:
                        assert reply.status == 202
                    came_in.append(len(items))
        for _ in range(moves):
            # one that joins and leaves in order: what moves is not flushed by the one that had it
            late = installation.add(f"late-{uuid.uuid4().hex[:4]}", "aggregator")
            late.start()
            await asyncio.to_thread(late.await_ready)
            await installation.grows("metrics_app_folded_values_total", by=10_000, within_s=30)
        await installation.fresh()

    workers = {"c0": "collector", "c1": "collector", "a": "aggregator", "b": "aggregator"}
    with Installation(tmp_path, workers) as installation:
        assert_exact(await installation.under_load(disturb, installation.plan(form=form)))
        await eventually(lambda: installation.count("metrics_app_lag_records") == 0, 20)
        await asyncio.sleep(2)  # the last flush
        of = {name: installation.count(f"metrics_app_{name}_values_total") for name in COLLECTED + FOLDED}
        print({name: f"{value:,.0f}" for name, value in of.items()})
        assert of["received"] == of["accepted"] + of["rejected"] + of["refused"]
        assert of["rejected"] == sum(came_in) / 3
        assert of["duplicate"] >= sum(came_in) * 2 / 3 * 2 / 3
        assert installation.count("metrics_app_dead_lettered_records_total") == 0
        assert of["accepted"] == of["folded"] + of["duplicate"] + of["expired"]
