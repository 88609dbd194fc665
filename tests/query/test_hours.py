from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.errors import InvalidQueryError
from metrics_app.query import hours

LAST = hours.of_date("9999-12-31") + 23


@given(st.integers(0, LAST))
def test_parsing_what_was_formatted_gives_the_hour_back(hour: int) -> None:
    start = hours.start(hour)

    assert hour == hours.parse(f"{start:%Y-%m-%d}", str(start.hour))
    assert hour == hours.parse(f"{start:%Y-%m-%d}", f"{start.hour:02}")
    assert hour == hours.of(start.timestamp())


def test_hours_count_from_1970_in_utc() -> None:
    assert hours.parse("1970-01-01", "0") == 0
    assert hours.parse("1970-01-02", "1") == 25
    assert hours.parse("2026-11-23", "20") == 498_740


def test_leap_day_is_a_date() -> None:
    assert hours.of_date("2024-02-29") + 24 == hours.of_date("2024-03-01")


@pytest.mark.parametrize(
    "date",
    [
        *("", "2023-02-29", "2026-13-01", "2026-00-10", "2026-11-31", "1969-12-31", "0000-01-01", "10000-01-01"),
        *("2026-1-01", "20261123", "2026-W47-1", "2026-11-23T00", " 2026-11-23", "2026-11-23\n", "-2026-11-23"),
        *("2026/11/23", "2026-11-23Z", "\u0662\u0660\u0662\u0666-11-23", "today"),
    ],
)
def test_impossible_date_is_refused(date: str) -> None:
    with pytest.raises(InvalidQueryError, match="YYYY-MM-DD") as caught:
        hours.parse(date, "5")

    assert (caught.value.part, caught.value.value) == ("date", date)


@pytest.mark.parametrize("hour", ["", "24", "-1", "+1", "1.0", "001", "99", " 1", "1\n", "1h", "\u0661", "1_0"])
def test_impossible_hour_is_refused(hour: str) -> None:
    with pytest.raises(InvalidQueryError, match="0 to 23") as caught:
        hours.parse("2026-11-23", hour)

    assert (caught.value.part, caught.value.value) == ("hour", hour)


@pytest.mark.parametrize(
    ("epoch_s", "hour"), [(0.0, 0), (3599.999999, 0), (3600.0, 1), (-0.001, -1), (1795464000, 498_740)]
)
def test_hour_holds_its_start_and_not_its_end(epoch_s: float, hour: int) -> None:
    assert hour == hours.of(epoch_s)


def test_hour_ends_where_the_next_starts() -> None:
    assert hours.end(498_740) == hours.start(498_741) == datetime(2026, 11, 23, 21, tzinfo=UTC)


def test_last_hour_of_all_has_an_end() -> None:
    assert hours.start(LAST) < hours.end(LAST) == datetime.max.replace(tzinfo=UTC)
    assert hours.end(LAST - 1) == hours.start(LAST)


def test_moments_are_written_in_utc_and_whole_seconds() -> None:
    moment = datetime(2026, 11, 24, 0, 30, 5, 999_999, tzinfo=timezone(timedelta(hours=2)))

    assert hours.iso(moment) == "2026-11-23T22:30:05Z"


@pytest.mark.parametrize(
    "text",
    [
        "2025-11-23/22",
        "2025-11-23T22:00:00Z",
        "2025-11-23T22:00:00.000Z",
        "2025-11-23T23:00:00+01:00",
        "2025-11-24T03:30:00+05:30",
        "2025-11-23T17:00:00-05:00",
    ],
)
def test_moment_is_a_date_and_hour_or_rfc_3339(text: str) -> None:
    assert hours.of_moment("from", text) == hours.parse("2025-11-23", "22")


def test_moment_of_a_date_is_its_first_hour() -> None:
    assert hours.of_moment("from", "2025-11-23") == hours.parse("2025-11-23", "0")
    assert hours.of_moment("to", "9999-12-31T23:00:00Z") == hours.LAST


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2025-11-23/24",
        "2025-11-23/",
        "2025-02-30",
        "2025-02-30T00:00:00Z",
        "2025-11-23T22:00:00",
        "2025-11-23T22:00Z",
        "2025-11-23T22:30:00Z",
        "2025-11-23T22:00:00.001Z",
        "2025-11-23T22:00:00.0000001Z",
        "2025-11-23T21:59:59.9999999Z",
        "2025-11-23T25:00:00Z",
        "2025-11-23T22:00:00+00:30",
        "1970-01-01T00:00:00+01:00",
        "9999-12-31T23:00:00-01:00",
        "1969-12-31",
        "1763935200",
        "\u0662025-11-23",
    ],
)
def test_other_moments_are_refused_by_the_name_of_their_part(text: str) -> None:
    with pytest.raises(InvalidQueryError) as refused:
        hours.of_moment("from", text)

    assert (refused.value.part, refused.value.value) == ("from", text)
