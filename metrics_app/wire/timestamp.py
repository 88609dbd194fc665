"""The moment of a sample lies in the hour that its text says: no rounding puts it into the next one.

A float64 holds 0.2 us of today's seconds, a datetime 1 us; more digits are rounded. That matters only where the result
is the start of an hour: then the text is looked at.
"""

from __future__ import annotations

import math
from decimal import Decimal

from msgspec import Raw, json

from metrics_app.wire.json_sample import MEMBERS, PAIRED

_PLACE = PAIRED.index("timestamp")
_SECONDS = slice(17, 19)  # of RFC 3339, YYYY-MM-DDTHH:MM:SS


def unrounded(at: float, sample: bytes | Raw) -> float:
    """The start of an hour, or the last float64 before it where the text of the sample says that it was before.

    Args:
        at: epoch seconds of the sample's timestamp, as they were decoded; the start of an hour.
        sample: its JSON.
    """
    # there is no hour before 1970
    return math.nextafter(at, -math.inf) if at > 0.0 and _is_before(at, _written(sample)) else at


def _written(sample: bytes | Raw) -> bytes:
    members = MEMBERS.decode(sample)
    return bytes(members["timestamp"] if isinstance(members, dict) else members[_PLACE])


def _is_before(at: float, written: bytes) -> bool:
    """Whether a timestamp was rounded up to get there."""
    if not written.startswith(b'"'):
        return Decimal(written.decode()) < Decimal(at)
    return json.decode(written, type=str)[_SECONDS] != "00"  # offsets are of whole minutes
