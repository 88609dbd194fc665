from __future__ import annotations

import json

import pytest

from metrics_app.errors import InvalidQueryError
from metrics_app.query.answer import FINAL_AFTER_S, Question, caching, document

from .fakes import END_S, HOUR, row

MEMBERS = (
    "key stat date hour value unit count window final exact error_bound lo hi missing duplicates late as_of stale role"
)


def question(stat: str = "average") -> Question:
    return Question("checkout", stat, HOUR)


def test_answer_has_the_documented_members_in_their_order() -> None:
    assert MEMBERS.split() == list(document(question(), row(), "ms"))


def test_answer_says_what_it_is_about() -> None:
    answer = document(question(), row(10.0, 20.0, 60.0), "ms")

    assert (answer["value"], answer["unit"], answer["count"]) == (30.0, "ms", 3)
    assert (answer["date"], answer["hour"]) == ("2025-11-23", 22)
    assert answer["window"] == {"start": "2025-11-23T22:00:00Z", "end": "2025-11-23T23:00:00Z"}
    assert answer["as_of"] == "2025-11-24T00:00:00Z"


@pytest.mark.parametrize(
    ("stat", "value"),
    [("min", 10), ("max", 60), ("median", 20), ("count", 3), ("sum", 90), ("p50", 20), ("p99.9", 59.92)],
)
def test_value_is_that_of_the_statistic(stat: str, value: float) -> None:
    answer = document(question(stat), row(10.0, 20.0, 60.0), "ms")

    assert pytest.approx(value) == answer["value"]
    assert answer["lo"] <= answer["value"] <= answer["hi"]


def test_count_has_a_unit_of_its_own_and_is_a_whole_number() -> None:
    answer = document(question("count"), row(), "ms")

    assert answer["unit"] == "values"
    assert isinstance(answer["value"], int)


def test_quality_of_the_row_is_passed_on() -> None:
    answer = document(question(), row(missing=3, duplicates=2, late=1, stale=True, role="standby"), "ms")

    assert tuple(answer[name] for name in ("missing", "duplicates", "late", "stale", "role")) == (
        3,
        2,
        1,
        True,
        "standby",
    )


def test_estimate_says_so_with_its_bound() -> None:
    answer = document(question("p90"), row(*(1.0 + number / 7 for number in range(3000))), "ms")

    assert answer["exact"] is False
    assert 0 < answer["error_bound"] <= 0.00542
    assert answer["lo"] < answer["hi"]


def test_summary_has_every_statistic_by_its_name() -> None:
    answer = document(question("summary"), row(10.0, 20.0, 60.0), "ms")

    names = ["average", "min", "max", "median", "count", "sum", "stddev", "p90", "p95", "p99", "p99.9"]
    assert set(names) <= set(answer["values"])
    assert set(answer["bounds"]) == set(answer["values"])
    assert answer["bounds"]["average"] == {"lo": 30.0, "hi": 30.0, "exact": True}
    assert not {"value", "lo", "hi"} & set(answer)
    assert "summary" not in answer["values"]


def test_summary_agrees_with_each_statistic_asked_for_alone() -> None:
    found = row(*(1.0 + number / 7 for number in range(3000)))
    answer = document(question("summary"), found, "ms")

    for stat, value in answer["values"].items():
        alone = document(question(stat), found, "ms")
        assert value == alone["value"]
        assert {"lo": alone["lo"], "hi": alone["hi"], "exact": alone["exact"]} == answer["bounds"][stat]
    assert answer["exact"] is False
    assert answer["error_bound"] > 0


def test_unknown_statistic_is_refused() -> None:
    with pytest.raises(InvalidQueryError, match="stat"):
        document(question("mode"), row(), "ms")


def test_answer_is_json() -> None:
    answer = document(question("summary"), row(), "ms")

    assert answer == json.loads(json.dumps(answer, allow_nan=False))


@pytest.mark.parametrize(("as_of", "final"), [(-0.001, False), (0.0, True), (1e6, True)])
def test_hour_is_final_once_all_up_to_its_end_and_the_grace_is_folded(as_of: float, final: bool) -> None:
    answer = document(question(), row(as_of=END_S + FINAL_AFTER_S + as_of), "ms")

    assert final is answer["final"]


def test_open_hour_is_not_cached() -> None:
    assert caching(document(question(), row(as_of=END_S), "ms")) == {"Cache-Control": "no-store"}


def test_stale_answer_is_not_cached() -> None:
    assert caching(document(question(), row(role="standby"), "ms")) == {"Cache-Control": "no-store"}


def test_tag_is_the_same_whoever_answers_and_whenever() -> None:
    mine, theirs = row(offset=7), row(offset=9, as_of=END_S + 7200, role="standby", stale=False)

    assert tag(question(), mine) == tag(question(), theirs)
    assert tag(question(), mine).startswith('"')


def test_late_correction_changes_the_tag() -> None:
    assert tag(question("max"), row(1.0, 2.0)) != tag(question("max"), row(1.0, 2.0, 2.0))
    assert tag(question(), row()) != tag(question(), row(late=1))


def test_each_statistic_and_each_key_has_a_tag_of_its_own() -> None:
    asked = [question("median"), question("p50"), Question("search", "p50", HOUR), Question("search", "p50", HOUR - 1)]

    assert len(asked) == len({tag(each, row(as_of=END_S + 1e4)) for each in asked})


def tag(asked: Question, found: object) -> str:
    assert isinstance(found, tuple)
    return caching(document(asked, found, "ms"))["ETag"]  # type: ignore[arg-type]
