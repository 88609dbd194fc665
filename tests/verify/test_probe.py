from __future__ import annotations

import asyncio

import aiohttp
import pytest

from metrics_app.verify.probe import Probe, ProbedQuestion, availability_of
from tests.cli.fake_service import FakeService

NOBODY = "http://127.0.0.1:1"
HOUR = 500_000
OF = ("checkout", HOUR)


def test_no_question_is_full_availability() -> None:
    assert (availability_of([]).share, availability_of([]).gap_s, availability_of([]).stale_share) == (1.0, 0.0, 0.0)


def test_the_gap_is_the_longest_time_without_an_answer_though_questions_ended_in_disorder() -> None:
    asked = [
        ProbedQuestion(0.0, 0.1),
        ProbedQuestion(1.0, None),
        ProbedQuestion(2.0, 5.0, stale=True),
        ProbedQuestion(3.0, 3.1),
    ]
    found = availability_of(asked)
    assert (found.asked, found.answered, found.stale) == (4, 3, 1)
    assert found.gap_s == pytest.approx(2.0 - 0.1 + 1.0)  # from 0.1 to 3.0, at which somebody asked, and 3.1
    assert found.share == 0.75
    assert found.stale_share == pytest.approx(1 / 3)


def test_a_gap_at_the_end_counts() -> None:
    assert availability_of([ProbedQuestion(0.0, 0.1), ProbedQuestion(9.1, None)]).gap_s == pytest.approx(9.0)


async def test_any_address_that_answers_will_do() -> None:
    service = FakeService()
    service.values[OF] = [1.0, 2.0]
    async with service.running() as url, aiohttp.ClientSession() as session:
        probe = Probe(session, [NOBODY, url])
        assert await probe.counts([OF]) == {OF: 2}
        assert await probe.counts([OF]) == {OF: 2}
    assert probe.wrong == []


async def test_a_count_that_falls_without_a_mark_is_wrong_and_so_is_one_that_vanishes() -> None:
    service = FakeService()
    service.values[OF] = [1.0, 2.0]
    async with service.running() as url, aiohttp.ClientSession() as session:
        probe = Probe(session, [url])
        await probe.counts([OF])
        service.values[OF].pop()
        await probe.counts([OF])
        service.values.clear()
        await probe.counts([OF])
    assert probe.wrong == [
        "checkout: counted 1 after 2, and not marked stale",
        "checkout: counted 0 after 2, and not marked stale",
    ]


async def test_questions_in_vain_are_noted() -> None:
    stop = asyncio.Event()
    async with aiohttp.ClientSession() as session:
        probe = Probe(session, [NOBODY])
        asyncio.get_running_loop().call_later(0.25, stop.set)
        await probe.run(lambda: [OF], stop)
    assert probe.availability().asked >= 2
    assert probe.availability().share == 0.0
