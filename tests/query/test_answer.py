from __future__ import annotations

import json

import pytest

from metrics_app.errors import InvalidQueryError
from metrics_app.holdings import FINAL_AFTER_S, FoundRow
from metrics_app.query.answer import Document, document, measure_of
from metrics_app.query.question import Window
from metrics_app.query.reply import JSON, tag_of

from .fakes import END_S, HOUR, row

MEMBERS = """key stat date hour value unit count window final exact error_bound lo hi ci95
             missing lost_records duplicates late as_of stale role"""


def said(stat: str, found: FoundRow, key: str = "checkout", hour: int = HOUR) -> Document:
    return document(key, measure_of(stat, "ms"), Window(hour, hour + 1, "hour"), found)


def test_answer_has_the_documented_members_in_their_order() -> None:
    assert MEMBERS.split() == list(said("average", row()))


def test_answer_says_what_it_is_about() -> None:
    answer = said("average", row(10.0, 20.0, 60.0))

    assert (answer["value"], answer["unit"], answer["count"]) == (30.0, "ms", 3)
    assert (answer["date"], answer["hour"]) == ("2025-11-23", 22)
    assert answer["window"] == {"start": "2025-11-23T22:00:00Z", "end": "2025-11-23T23:00:00Z"}
    assert answer["as_of"] == "2025-11-24T00:00:00Z"


@pytest.mark.parametrize(
    ("stat", "value"),
    [("min", 10), ("max", 60), ("median", 20), ("count", 3), ("sum", 90), ("p50", 20), ("p99.9", 59.92)],
)
def test_value_is_that_of_the_statistic(stat: str, value: float) -> None:
    answer = said(stat, row(10.0, 20.0, 60.0))

    assert pytest.approx(value) == answer["value"]
    assert answer["lo"] <= answer["value"] <= answer["hi"]


def test_count_has_a_unit_of_its_own_and_is_a_whole_number() -> None:
    answer = said("count", row())

    assert answer["unit"] == "values"
    assert isinstance(answer["value"], int)


def test_quality_of_the_row_is_passed_on() -> None:
    answer = said("average", row(missing=3, duplicates=2, late=1, stale=True, role="standby"))

    assert tuple(answer[name] for name in ("missing", "duplicates", "late", "stale", "role")) == (
        3,
        2,
        1,
        True,
        "standby",
    )


def test_estimate_says_so_with_its_bound() -> None:
    answer = said("p90", row(*(1.0 + number / 7 for number in range(3000))))

    assert answer["exact"] is False
    assert 0 < answer["error_bound"] <= 0.00542
    assert answer["lo"] < answer["hi"]


def test_summary_has_every_statistic_by_its_name() -> None:
    answer = said("summary", row(10.0, 20.0, 60.0))

    names = ["average", "min", "max", "median", "count", "sum", "stddev", "p90", "p95", "p99", "p99.9"]
    assert set(names) <= set(answer["values"])
    assert set(answer["bounds"]) == set(answer["values"])
    assert answer["bounds"]["average"] == {"lo": 30.0, "hi": 30.0, "exact": True, "ci95": None}
    assert not {"value", "lo", "hi"} & set(answer)
    assert "summary" not in answer["values"]


def test_summary_agrees_with_each_statistic_asked_for_alone() -> None:
    found = row(*(1.0 + number / 7 for number in range(3000)))
    answer = said("summary", found)

    for stat, value in answer["values"].items():
        alone = said(stat, found)
        assert value == alone["value"]
        assert {"lo": alone["lo"], "hi": alone["hi"], "exact": alone["exact"], "ci95": alone["ci95"]} == answer[
            "bounds"
        ][stat]
    assert answer["exact"] is False
    assert answer["error_bound"] > 0


def test_unknown_statistic_is_refused() -> None:
    with pytest.raises(InvalidQueryError, match="stat"):
        said("mode", row())


def test_answer_is_json() -> None:
    answer = said("summary", row())

    assert answer == json.loads(json.dumps(answer, allow_nan=False))


@pytest.mark.parametrize(("as_of", "final"), [(-0.001, False), (0.0, True), (1e6, True)])
def test_hour_is_final_once_all_up_to_its_end_and_the_grace_is_folded(as_of: float, final: bool) -> None:
    answer = said("average", row(as_of=END_S + FINAL_AFTER_S + as_of))

    assert final is answer["final"]


def test_tag_is_the_same_whoever_answers_and_whenever() -> None:
    mine, theirs = row(offset=7), row(offset=9, as_of=END_S + 7200, role="standby", stale=False)

    assert tag("average", mine) == tag("average", theirs)
    assert tag("average", mine).startswith('"')


def test_late_correction_changes_the_tag() -> None:
    assert tag("max", row(1.0, 2.0)) != tag("max", row(1.0, 2.0, 2.0))
    assert tag("average", row()) != tag("average", row(late=1))


def test_each_statistic_and_each_key_has_a_tag_of_its_own() -> None:
    found = row(as_of=END_S + 1e4)
    tags = {tag("median", found), tag("p50", found), tag("p50", found, "search"), tag("p50", found, "search", HOUR - 1)}

    assert len(tags) == 4


def test_quantile_says_how_far_chance_may_have_moved_it() -> None:
    many = said("p95", row(*(float(number) for number in range(1000))))
    few = said("p95", row())

    assert many["ci95"] == {"lo": 935.0, "hi": 963.0}
    assert (few["ci95"], said("average", row())["ci95"]) == (None, None)


def tag(stat: str, found: FoundRow, key: str = "checkout", hour: int = HOUR) -> str:
    return tag_of(said(stat, found, key, hour), JSON)
