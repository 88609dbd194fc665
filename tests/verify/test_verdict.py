from __future__ import annotations

import numpy as np
import pytest

from metrics_app.verify.ledger import QUANTILES, Bag, Block, Ledger, Outcome, SentBatch
from metrics_app.verify.verdict import EXACT_STATS, ServiceAnswer, Verdict, verdict_of

HOUR = 498740
KEPT = [1.0, 2.0, 6.0, 10.0]


def answer_of(values: list[float], error_bound: float = 0.0, **instead: float) -> ServiceAnswer:
    """What a right service says that has counted these values; `instead` replaces single statistics."""
    bag = Bag.of([(np.array(values), 1)])
    return ServiceAnswer(
        len(values), {stat: bag.statistic(stat) for stat in (*QUANTILES, *EXACT_STATS)} | instead, error_bound
    )


def judged(answer: ServiceAnswer | None, unknown: tuple[float, ...] = (), refused: tuple[float, ...] = ()) -> Verdict:
    ledger = Ledger()
    for values, outcome in ((KEPT, Outcome.OK), (unknown, Outcome.UNKNOWN), (refused, Outcome.FAIL)):
        if values:
            ledger.record(SentBatch((Block("a", np.array(values)),)), HOUR, outcome)
    return verdict_of(ledger, {("a", HOUR): answer})


def test_a_right_answer_is_right() -> None:
    result = judged(answer_of(KEPT))
    assert result.is_right
    assert (result.sent, result.accepted, result.counted) == (4, 4, 4)
    assert result.worst_error("median") == 0.0


def test_an_accepted_value_that_is_not_counted_is_lost() -> None:
    result = judged(answer_of(KEPT[:3]))
    assert (result.lost, result.double, result.is_right) == (1, 0, False)


def test_no_data_loses_all_that_was_accepted() -> None:
    assert judged(None).lost == 4


def test_a_value_counted_beyond_what_was_sent_is_double() -> None:
    result = judged(answer_of([*KEPT, 10.0]))
    assert (result.lost, result.double, result.is_right) == (0, 1, False)


def test_a_refused_value_that_is_counted_is_double() -> None:
    assert judged(answer_of([*KEPT, 3.0]), refused=(3.0,)).double == 1


@pytest.mark.parametrize("counted", [KEPT, [*KEPT, 3.0], [*KEPT, 3.0, 4.0]])
def test_any_part_of_the_unknown_may_be_counted(counted: list[float]) -> None:
    result = judged(answer_of(counted), unknown=(3.0, 4.0))
    assert result.is_right
    assert result.unknown == 2


def test_more_than_all_of_the_unknown_is_double() -> None:
    assert judged(answer_of([*KEPT, 3.0, 3.0]), unknown=(3.0,)).double == 1


def test_one_lost_and_another_double_shows_in_the_sum() -> None:
    result = judged(answer_of([1.0, 2.0, 6.0, 6.0]))
    assert (result.lost, result.double, result.is_right) == (0, 0, False)
    assert any("sum 15.0: expected 19.0" in sentence for sentence in result.wrong)


@pytest.mark.parametrize("stat", sorted(EXACT_STATS))
def test_each_exact_statistic_must_be_the_very_number(stat: str) -> None:
    right = answer_of(KEPT).values[stat]
    assert [stat in sentence for sentence in judged(answer_of(KEPT, **{stat: right * 1.000001})).wrong] == [True]


@pytest.mark.parametrize("stat", sorted(QUANTILES))
def test_a_quantile_may_be_off_by_the_stated_bound_and_no_more(stat: str) -> None:
    right = answer_of(KEPT).values[stat]
    assert judged(answer_of(KEPT, 0.0054, **{stat: right * 1.0053})).is_right
    beyond = judged(answer_of(KEPT, 0.0054, **{stat: right * 1.0055}))
    assert not beyond.is_right
    assert beyond.worst_error(stat) == pytest.approx(0.0055)


def test_an_answer_that_claims_to_be_exact_must_be() -> None:
    assert not judged(answer_of(KEPT, 0.0, median=4.001)).is_right
