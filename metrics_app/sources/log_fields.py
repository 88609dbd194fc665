"""What the texts of a log line mean: the hour of a time, the value of a duration, the key of a request.

Called by `log_formats`, `log_lines` and `cli.import_files`.

Logs repeat themselves, so what a text means is remembered; a text that means nothing raises ValueError with a sentence.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from metrics_app.sources.key_template import KeyTemplate
from metrics_app.sources.routes import path_of, route_of
from metrics_app.sources.spans import UNITS
from metrics_app.wire.chunk import VALUE_MAX
from metrics_app.wire.metric_key import key_bytes

HOUR_S = 3600
MILLIS_FROM = 1e11  # a number above it is milliseconds: as seconds it would be in the year 5138
REMEMBERED = 1 << 16
TIME_EXPECTED = "expected a time: RFC 3339, epoch seconds or milliseconds, or 23/Nov/2026:22:10:05 +0000"
MONTHS = {name: at for at, name in enumerate(calendar.month_abbr) if at}

_CLF = re.compile(r"(\d\d?)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d)(?:\.\d+)?(?: ([+-])(\d\d)(\d\d))?", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:[eE]\+?\d+)?", re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)  # 1e999999999 would take all memory
_FINE = re.compile(r"(\.\d{6})\d+")  # digits beyond microseconds


class Units(NamedTuple):
    """Of the durations in the log, and of the values of the service: names of `spans.UNITS`, or the same unit.

    Attributes:
        logged: None when it is the service's.
    """

    logged: str | None
    served: str


class FieldRules:
    """How fields are read.

    Args:
        zone: of times that do not say theirs.
        raw_paths: whether `route` is the path as it is.
    Attributes:
        names: of the fields that the key is made of, `path` for `route`.
    """

    def __init__(self, template: KeyTemplate, units: Units, zone: tzinfo = UTC, raw_paths: bool = False) -> None:
        self._template = template
        self._named = sorted(template.names)
        self.names = template.names - {"route"} | ({"path"} if "route" in template.names else set())
        self._factor = factor_of(units)
        self._route = path_of if raw_paths else route_of
        # of one import, for what texts mean depends on the above
        self._key = lru_cache(REMEMBERED)(self._filled)
        self.hour = lru_cache(REMEMBERED)(lambda text: hour_of(text, zone))
        self.value = lru_cache(REMEMBERED)(lambda text: value_of(text, self._factor))

    def key(self, fields: Mapping[str, str]) -> str:
        """The key of a line's fields; `route` is made of `path`.

        Raises:
            ValueError: a field is not there, or they make no key.
        """
        known = dict(fields)
        if "path" in known:
            known |= {"path": path_of(known["path"]), "route": self._route(known["path"])}
        return self._key(tuple([known.get(name, "") for name in self._named]))

    def _filled(self, texts: tuple[str, ...]) -> str:
        key = self._template.filled(dict(zip(self._named, texts, strict=True)))
        try:
            key_bytes(key)
        except ValueError as error:
            raise ValueError(f"key: {error}") from None
        return key


def factor_of(units: Units) -> Fraction:
    """What a logged duration is multiplied by; 1 when both have one unit.

    Raises:
        ValueError: a unit that is no unit of time.
    """
    if units.logged is None or units.logged == units.served:
        return Fraction(1)
    for unit in (units.logged, units.served):
        if unit not in UNITS:
            raise ValueError(f"unit {unit!r}: expected one of {', '.join(UNITS)}")
    return Fraction(UNITS[units.logged], UNITS[units.served])


def value_of(text: str, factor: Fraction) -> float:
    """A duration, or the sum of several that spaces separate, in the unit of the service, rounded once.

    Raises:
        ValueError: it is none, or out of the range of values.
    """
    parts = text.split()
    if not parts or not all(map(_DURATION.fullmatch, parts)):
        raise ValueError(f"value: expected a number from 0 to 2^44, got {text[:40]!r}")
    total = sum((Fraction(Decimal(part)) for part in parts), Fraction(0)) * factor
    if total > VALUE_MAX:
        raise ValueError(f"value: expected a number from 0 to 2^44, got {text[:40]!r}")
    return float(total)


def hour_of(text: str, zone: tzinfo) -> int:
    """The hour since 1970-01-01T00Z in which a time lies.

    Raises:
        ValueError: it is none, or before 1970.
    """
    try:
        seconds = _seconds(text, zone)
    except (ValueError, OverflowError):
        raise ValueError(f"time: {TIME_EXPECTED}, got {text[:40]!r}") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"time: expected one from 1970 on, got {text[:40]!r}")
    return int(seconds // HOUR_S)


def _seconds(text: str, zone: tzinfo) -> float:
    if _NUMBER.fullmatch(text):
        # the fraction is left out, for as a float64 it could turn out a second later
        number = float(text) if "e" in text.lower() else int(text.partition(".")[0])
        return number / 1000 if number > MILLIS_FROM else number
    if (found := _CLF.fullmatch(text)) is not None:
        day, month, *rest = found.groups()
        if month not in MONTHS:
            raise ValueError(month)
        year, hour, minute, second = map(int, rest[:4])
        sign, hours, minutes = rest[4:]
        local = datetime(year, MONTHS[month], int(day), hour, minute, min(second, 59), tzinfo=UTC if sign else zone)
        ahead = (int(hours) * HOUR_S + int(minutes) * 60) * (-1 if sign == "-" else 1) if sign else 0
        return local.timestamp() - ahead
    moment = datetime.fromisoformat(_FINE.sub(r"\1", text))
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
