"""UTC hours as integers: whole hours since 1970-01-01T00Z.

Called by `question`, `keys`, `statistics`, `compared`, `exported` and `answer`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from metrics_app.errors import InvalidQueryError

HOUR_S = 3600
DATE_EXPECTED = "a date YYYY-MM-DD, from 1970-01-01 to 9999-12-31, or today, yesterday, now (without an hour)"
HOUR_EXPECTED = "an hour 0 to 23, UTC"
MOMENT_EXPECTED = (
    "the start of an hour from 1970 to 9999: YYYY-MM-DD, YYYY-MM-DD/H, or RFC 3339 with an offset, YYYY-MM-DDTHH:00:00Z"
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)
LAST = int((_LATEST - _EPOCH) // timedelta(hours=1))  # the hour from 9999-12-31T23:00Z

_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_HOUR = re.compile("[01]?[0-9]|2[0-3]")
# the start of a second: Python cuts further digits off, and a nanosecond past the hour is not its start
_RFC_3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.0+)?(?:Z|[+-][0-9]{2}:[0-9]{2})")


def parse(date: str, hour: str) -> int:
    """The hour of a date and an hour of the day, "0" or "00" to "23".

    Raises:
        InvalidQueryError: part "date" or "hour"; the date is checked first.
    """
    first = of_date(date)
    if not _HOUR.fullmatch(hour):
        raise InvalidQueryError("hour", hour, HOUR_EXPECTED)
    return first + int(hour)


def of_date(date: str) -> int:
    """The first hour of a date, which is exactly YYYY-MM-DD.

    Raises:
        InvalidQueryError: part "date": other text, no real date, or before 1970.
    """
    try:
        day = datetime.fromisoformat(date).replace(tzinfo=UTC) if _DATE.fullmatch(date) else None
    except ValueError:
        day = None
    if day is None or day < _EPOCH:
        raise InvalidQueryError("date", date, DATE_EXPECTED)
    return of(day.timestamp())


def of_moment(part: str, text: str) -> int:
    """The hour that begins at a moment: a date, a date and an hour as in a path, or RFC 3339, which has an offset.

    Raises:
        InvalidQueryError: the part named; other text, or not the start of an hour from 1970 to 9999.
    """
    date, slash, hour = text.partition("/")
    try:
        if slash:
            return parse(date, hour)
        return _of_rfc_3339(text) if _RFC_3339.fullmatch(text) else of_date(date)
    except (InvalidQueryError, ValueError):
        raise InvalidQueryError(part, text, MOMENT_EXPECTED) from None


def _of_rfc_3339(text: str) -> int:
    hour, rest = divmod(datetime.fromisoformat(text) - _EPOCH, timedelta(hours=1))
    if rest or not 0 <= hour <= LAST:
        raise ValueError(text)
    return hour


def of(epoch_s: float) -> int:
    """The hour that a moment, in seconds since 1970-01-01T00Z, lies in."""
    return int(epoch_s // HOUR_S)


def start(hour: int) -> datetime:
    """The first moment of an hour, aware, in UTC."""
    return _EPOCH + timedelta(hours=hour)


def end(hour: int) -> datetime:
    """The first moment after an hour, aware, in UTC; for the last hour of 9999 the last moment a datetime can hold."""
    first = start(hour)
    return _LATEST if _LATEST - first < timedelta(hours=1) else first + timedelta(hours=1)


@lru_cache(maxsize=4096)
def iso(moment: datetime) -> str:
    """RFC 3339 in UTC, cut to whole seconds: "2026-11-23T22:00:00Z".

    Args:
        moment: an aware datetime.
    """
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
