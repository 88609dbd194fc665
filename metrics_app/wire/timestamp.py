"""The moment of a sample in epoch seconds, in the hour that its text says: no rounding puts it into the next one."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

from msgspec import Raw, json

from metrics_app.stats.hour import HOUR_S
from metrics_app.wire.json_sample import MEMBERS, PAIRED

Text = Callable[[], bytes | Raw]

_PLACE = PAIRED.index("timestamp")
_SECONDS = slice(17, 19)  # of RFC 3339, YYYY-MM-DDTHH:MM:SS


def seconds(timestamp: float | datetime, text: Text) -> float:
    """Epoch seconds as a float64, which lies in the hour that the moment lies in.

    A float64 holds 0.2 us of today's seconds, a datetime 1 us; more digits are rounded. That matters where the result
    is the start of an hour: then the text is looked at, and a moment before it becomes the last float64 before it.

    Args:
        text: gives the JSON of the sample.
    """
    at = timestamp.timestamp() if isinstance(timestamp, datetime) else timestamp
    if at <= 0.0 or at % HOUR_S or not _is_before(at, _written(text())):  # there is no hour before 1970
        return at
    return math.nextafter(at, -math.inf)


def _written(sample: bytes | Raw) -> bytes:
    members = MEMBERS.decode(sample)
    return bytes(members["timestamp"] if isinstance(members, dict) else members[_PLACE])


@lru_cache(maxsize=1 << 10)  # where one moment is on the hour, others of the body are often the same
def _is_before(at: float, written: bytes) -> bool:
    """Whether a timestamp was rounded up to get there."""
    if not written.startswith(b'"'):
        return Decimal(written.decode()) < Decimal(at)
    return json.decode(written, type=str)[_SECONDS] != "00"  # offsets are of whole minutes
