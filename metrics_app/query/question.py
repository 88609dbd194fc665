"""Makes a question of a URL: which key, which statistic, which hours. Pure; every part is checked here.

Called by `answer`, `compared`, `exported`, `keys`, `reading` and others.

    /<key>/<stat>/<date>/<hour>        an hour
    /<key>/<stat>/<date>               a day, 24 hours UTC
    /<key>/<stat>?from=&to=            whole hours, `from` inclusive, `to` exclusive
    /<key>/<stat>?last=24h             so many hours, of which the last one runs now

A date may be `today` or `yesterday`, in UTC, and `now` is the hour that runs.

Where it stands for a statistic, `under`, `compare` or `histogram` asks something else of the same hours. Paths of one
segment belong to the service (/samples, /keys, /metrics), those of two to four to keys, so no key hides or is hidden.

The query string as named texts. Nothing in it is passed over: a typo must not silently change the question.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from metrics_app.errors import InvalidQueryError
from metrics_app.query import hours
from metrics_app.settings import Settings
from metrics_app.wire.metric_key import key_bytes

DAY_HOURS = 24
RANGE = ("from", "to")
LAST = "last"
NOW = "now"
DAYS_BACK = {"today": 0, "yesterday": 1}

Form = Literal["hour", "day", "range"]


class Window(NamedTuple):
    """Whole hours, `end` not among them; hours since 1970-01-01T00Z."""

    first: int
    end: int
    form: Form

    def __str__(self) -> str:
        """For a sentence: "the hour from 2026-11-23T22:00:00Z"."""
        start = hours.iso(hours.start(self.first))
        return f"the hours from {start} to {self.end_text}" if self.form == "range" else f"the {self.form} from {start}"

    @property
    def bounds(self) -> dict[str, str]:
        """The member `window` of an answer."""
        return {"start": hours.iso(hours.start(self.first)), "end": self.end_text}

    @property
    def end_text(self) -> str:
        """The first moment after it, RFC 3339."""
        return hours.iso(hours.end(self.end - 1))

    @property
    def end_s(self) -> float:
        """The first moment after it, in epoch seconds."""
        return hours.end(self.end - 1).timestamp()


class Policy(NamedTuple):
    """What a service makes of questions.

    Attributes:
        unit: of the values.
        range_hours: most hours in one question.
        page: most items in one answer.
    """

    unit: str
    range_hours: int
    page: int

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """As set."""
        return cls(settings.unit, settings.max_range_hours, settings.max_page)


class Question(NamedTuple):
    """What a path asks, and the parameters beside it.

    Attributes:
        key: 1-256 bytes of UTF-8.
        asked: the second segment, not looked at yet.
    """

    key: str
    asked: str
    window: Window
    given: dict[str, str]


def question_of(
    raw_path: str, raw_query: str, segments: Mapping[str, str], allowed: Collection[str], policy: Policy, now_s: float
) -> Question:
    """The question of a path.

    Args:
        segments: stat and, where the path has them, date and hour, decoded.
        allowed: parameters that belong to what is asked, besides those of a range.
        now_s: epoch seconds, for times that are named from now.

    Raises:
        InvalidQueryError: naming the part: key, date, hour or a parameter.
    """
    key = key_of(raw_path)
    in_path = "date" in segments
    given = parameters(raw_query, {*allowed} if in_path else {*allowed, *RANGE, LAST})
    if LAST in given:
        given = _from_now(given, policy, now_s)
    window = named_window(segments, now_s) if in_path else _of_range(given, policy)
    return Question(key, segments["stat"], window, given)


def key_of(raw_path: str) -> str:
    """The key in the first segment of a path as it was received.

    Raises:
        InvalidQueryError: naming the part "key".
    """
    segment = raw_path.split("/")[1]
    key = decode("key", segment)
    try:
        key_bytes(key)
    except ValueError as error:
        raise InvalidQueryError("key", segment[:SHOWN], str(error).removeprefix("expected ")) from None
    return key


def named_window(named: Mapping[str, str], now_s: float) -> Window:
    """The day of a date, or its hour where that is named too; dates may be named from now.

    Raises:
        InvalidQueryError: part "date" or "hour".
    """
    date, this_hour = named["date"], hours.of(now_s)
    if date == NOW and "hour" not in named:
        return Window(this_hour, this_hour + 1, "hour")
    if date in DAYS_BACK:
        date = hours.start(this_hour - DAY_HOURS * DAYS_BACK[date]).date().isoformat()
    if "hour" in named:
        hour = hours.parse(date, named["hour"])
        return Window(hour, hour + 1, "hour")
    first = hours.of_date(date)
    return Window(first, first + DAY_HOURS, "day")


def range_window(given: dict[str, str], policy: Policy, now_s: float) -> Window:
    """The hours that `from` and `to`, or `last`, name.

    Raises:
        InvalidQueryError: naming the parameter; also a date or an hour beside them.
    """
    for name in sorted(given.keys() & {"date", "hour"}):
        raise InvalidQueryError(name, given[name][:SHOWN], "no date or hour beside a range")
    return _of_range(_from_now(given, policy, now_s) if LAST in given else given, policy)


def _from_now(given: dict[str, str], policy: Policy, now_s: float) -> dict[str, str]:
    """The parameters with `from` and `to` in the place of `last`: so many hours, of which the last one runs now."""
    found, end = _LAST.fullmatch(given[LAST]), hours.of(now_s) + 1
    number = int(found[1]) * (DAY_HOURS if found[2] == "d" else 1) if found else 0
    if set(given) & set(RANGE) or not 0 < number <= min(end, policy.range_hours):
        limit = f"hours or days up to now, at most {policy.range_hours:,} h: 1h, 24h, 7d; no from, no to"
        raise InvalidQueryError(LAST, given[LAST][:SHOWN], limit)
    times = {"from": hours.iso(hours.start(end - number)), "to": hours.iso(hours.start(end))}
    return {name: text for name, text in given.items() if name != LAST} | times


def _of_range(given: Mapping[str, str], policy: Policy) -> Window:
    # a + that stood for itself, as in +01:00, has come out as a space
    first, end = (_moment(part, given.get(part, "").replace(" ", "+")) for part in RANGE)
    if not 0 < end - first <= policy.range_hours:
        limit = f"a moment after from, at most {policy.range_hours:,} hours after it"
        raise InvalidQueryError("to", given["to"], limit)
    return Window(first, end, "range")


def _moment(part: str, text: str) -> int:
    """The hour at a moment; milliseconds, as Grafana has them, may lie within an hour, all of which is then taken."""
    if not _MILLISECONDS.fullmatch(text):
        return hours.of_moment(part, text)
    hour, within = divmod(int(text), hours.HOUR_S * 1000)
    return hour + 1 if within and part == "to" else hour


FORMAT = "format"
SHOWN = 100  # characters of what was sent that an error repeats
ENCODED = "percent-encoding: % and two hexadecimal digits, %25 for % itself"
UTF_8 = "percent-encoded UTF-8"

_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_WHOLE = re.compile("[0-9]{1,9}")
_LAST = re.compile("([0-9]{1,6})([hd])")
_MILLISECONDS = re.compile("[0-9]{11,14}")  # since 1970-01-01T00Z, up to the year 5138


def decode(part: str, raw: str) -> str:
    """The text of a percent-encoded piece of a URL.

    Raises:
        InvalidQueryError: naming the part.
    """
    # not the framework's decoding: it takes %zz and %ff as they stand, and the row of another key would answer
    if _BAD_ESCAPE.search(raw):
        raise InvalidQueryError(part, raw[:SHOWN], ENCODED)
    try:
        return unquote_to_bytes(raw.encode("utf-8", "surrogateescape")).decode()
    except UnicodeError:
        raise InvalidQueryError(part, raw[:SHOWN], UTF_8) from None


def parameters(raw_query: str, allowed: Collection[str]) -> dict[str, str]:
    """The parameters of a query string as it was received, each at most once; + is a space, as forms have it.

    Raises:
        InvalidQueryError: naming the parameter that is not known here, comes twice, or is not UTF-8.
    """
    found: dict[str, str] = {}
    for pair in filter(None, raw_query.split("&")):
        raw_name, _, raw_value = pair.replace("+", " ").partition("=")
        name = decode("query", raw_name)
        if name not in allowed:
            raise InvalidQueryError(name[:SHOWN], raw_value[:SHOWN], _known(allowed))
        if name in found:
            raise InvalidQueryError(name, raw_value[:SHOWN], "the parameter only once")
        found[name] = decode(name, raw_value)
    return found


def _known(allowed: Collection[str]) -> str:
    return f"one of the parameters {', '.join(sorted(allowed))}" if allowed else "no parameters here"


def whole_number(part: str, text: str, most: int) -> int:
    """A number from 1 to `most`.

    Raises:
        InvalidQueryError: naming the part.
    """
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= most:
        raise InvalidQueryError(part, text[:SHOWN], f"a whole number 1 to {most:,}")
    return int(text)


def one_of(part: str, text: str, choices: Collection[str]) -> str:
    """The text, if it is one of the choices.

    Raises:
        InvalidQueryError: naming the part.
    """
    if text not in choices:
        raise InvalidQueryError(part, text[:SHOWN], " or ".join(choices))
    return text
