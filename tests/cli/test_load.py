from __future__ import annotations

import dataclasses

import pytest

from metrics_app.errors import ClientError
from metrics_app.verify.load_report import report
from metrics_app.verify.plan import Form, Plan
from metrics_app.verify.run import Run, perform
from tests.cli.fake_service import FakeService, Item

SMALL = Plan(rate=20_000, keys=3, duration_s=0.2, batch=100, form=Form.PAIRS, urls=(), drain_s=0.5)


async def run_against(service: FakeService, plan: Plan = SMALL) -> Run:
    async with service.running() as url:
        return await perform(dataclasses.replace(plan, urls=(url,)))


@pytest.mark.parametrize("form", Form)
async def test_a_service_that_counts_exactly_is_found_right_in_every_form(form: Form) -> None:
    run = await run_against(FakeService(), dataclasses.replace(SMALL, form=form))
    facts = report(SMALL, run)
    assert (facts["ok"], facts["sent"], facts["accepted"], facts["counted"]) == (True, 4000, 4000, 4000)
    assert (facts["lost"], facts["double"], facts["wrong"], facts["unknown"]) == (0, 0, [], 0)
    assert facts["error"] == {"median": 0.0, "p99": 0.0}
    assert facts["probes"]["seen"] >= 1


def loses_one(service: FakeService, items: list[Item]) -> list[Item]:
    return items[1:] if service.requests == 7 else items


def doubles_one(service: FakeService, items: list[Item]) -> list[Item]:
    return [*items, items[0]] if service.requests == 7 else items


def swaps_one(service: FakeService, items: list[Item]) -> list[Item]:
    if service.requests != 7:
        return items
    key, hour, values = items[0]
    return [(key, hour, [values[0] + 1.0]), *items[1:]]


async def test_one_lost_value_is_found() -> None:
    run = await run_against(FakeService(loses_one))
    assert (run.verdict.lost, run.verdict.double, run.is_right) == (1, 0, False)


async def test_one_doubled_value_is_found() -> None:
    run = await run_against(FakeService(doubles_one))
    assert (run.verdict.lost, run.verdict.double, run.is_right) == (0, 1, False)


async def test_one_changed_value_is_found_though_the_count_is_right() -> None:
    run = await run_against(FakeService(swaps_one))
    assert (run.verdict.lost, run.verdict.double, run.is_right) == (0, 0, False)
    assert any("sum" in sentence for sentence in run.verdict.wrong)


async def test_quantiles_within_the_stated_bound_pass_and_the_worst_is_reported() -> None:
    run = await run_against(FakeService(off=1.004))
    assert run.is_right
    assert run.verdict.worst_error("median") == pytest.approx(0.004)
    assert run.verdict.error_bound == 0.005


async def test_quantiles_beyond_the_stated_bound_are_found() -> None:
    run = await run_against(FakeService(off=1.006))
    assert not run.is_right
    assert any("median" in sentence for sentence in run.verdict.wrong)


async def test_replies_that_leave_it_open_are_a_class_of_their_own() -> None:
    """503 and a broken connection may have been kept; 429 surely was not."""
    run = await run_against(FakeService(statuses=(503, 0, 429)))
    verdict = run.verdict
    assert (verdict.accepted, verdict.unknown, verdict.refused) == (3700, 200, 100)
    assert (verdict.counted, run.is_right) == (3900, True)
    assert run.reasons == {"status 503": 1, "ServerDisconnectedError": 1, "status 429": 1}


async def test_requests_are_sent_again_as_the_same_until_they_are_kept() -> None:
    run = await run_against(FakeService(statuses=(503, 0, 429)), dataclasses.replace(SMALL, until_kept_s=10))
    verdict = run.verdict
    assert (verdict.accepted, verdict.counted, verdict.unknown, verdict.refused) == (4000, 4000, 0, 0)
    assert run.is_right


async def test_a_service_that_forgets_idempotency_keys_is_found_double() -> None:
    run = await run_against(FakeService(statuses=(0,), forgets=True), dataclasses.replace(SMALL, until_kept_s=10))
    assert (run.verdict.lost, run.verdict.double) == (0, 100)


async def test_a_value_that_never_shows_is_found_by_the_freshness_probe() -> None:
    run = await run_against(FakeService(hides="probe"), dataclasses.replace(SMALL, patience_s=0.2))
    assert run.freshness.never >= 1
    assert not run.is_right


async def test_nobody_there_is_said_at_once() -> None:
    with pytest.raises(ClientError, match=r"no answer from http://127\.0\.0\.1:1: Connect"):
        await perform(dataclasses.replace(SMALL, urls=("http://127.0.0.1:1",)))


async def test_samples_and_questions_may_go_to_different_roles() -> None:
    service = FakeService()
    async with service.running("collector") as collector, service.running("aggregator") as aggregator:
        run = await perform(dataclasses.replace(SMALL, urls=(collector,), query_urls=(aggregator,)))
    assert run.is_right


async def test_a_collector_that_is_asked_for_answers_is_named_before_anything_is_sent() -> None:
    service = FakeService()
    async with service.running("collector") as url:
        with pytest.raises(ClientError, match=rf"{url} answers no questions: name an aggregator with --query-url"):
            await perform(dataclasses.replace(SMALL, urls=(url,)))
    assert service.requests == 0


async def test_an_aggregator_that_is_sent_samples_is_named_before_anything_is_sent() -> None:
    async with FakeService().running("aggregator") as url:
        with pytest.raises(ClientError, match=rf"{url} takes no samples: name a collector with --url"):
            await perform(dataclasses.replace(SMALL, urls=(url,)))
