"""Hostile clients of every kind beside a good one: all of its requests do well, and each of its values counts once.

The times of the good client are measured by `python -m benchmarks.attacks`; here only what must hold on any machine is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from benchmarks.attacks import hostile
from benchmarks.attacks.good import GoodClient
from benchmarks.bench import Bench
from benchmarks.services import Service, service
from tests.faults.pace import stretched

pytestmark = pytest.mark.kafka

MAY_BE_REFUSED = 0.05  # with Retry-After: this machine may be busy with other tests, and Kafka late
AT_ONCE = ["slow-headers", "rejected", "months", "bomb"]


@pytest.fixture(scope="module")
def worker() -> Iterator[Service]:
    with Bench() as bench, service(bench, "all", bench.name("overload")) as running:
        yield running


async def beside(worker: Service, names: list[str], seconds: float) -> None:
    """Attacks in these ways at once, and then looks at what became of the good client."""
    good, attacks = GoodClient(worker.url), [hostile.in_background(name, worker.url, seconds) for name in names]
    sent = asyncio.gather(*attacks)
    times = await good.work(seconds)
    assert all(await sent), "each of them has sent something"
    for kind, each in times.items():
        assert not each.failed.keys() - {"503"}, f"{kind}: {each.failed}"
        assert each.failed.total() <= MAY_BE_REFUSED * len(each.took_s), f"{kind}: {each.failed}"
    assert await good.counted() == good.accepted
    assert worker.process.is_running()


async def test_all_of_them_at_once_cost_a_good_client_no_request_and_no_value(worker):
    await beside(worker, AT_ONCE, stretched(6.0))


@pytest.mark.slow
@pytest.mark.parametrize("name", hostile.ATTACKS)
async def test_a_good_client_loses_no_request_and_no_value_beside(worker, name):
    await beside(worker, [name], stretched(10.0))


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_five_minutes_of_all_of_them(worker):
    await beside(worker, AT_ONCE, 300.0)
