"""The request header in which a client reports values that it could not send.

Called by `client` and `collector.views`.

Metrics-Dropped: overflow=120, value=3
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from metrics_app.errors import InvalidBodyError

HEADER = "Metrics-Dropped"

# reason -> what became of the values
REASONS = {
    "value": "no number from 0 to 2^44",
    "key": "no key: no text, empty, too long or with control characters",
    "keys": "more different keys in an hour than the client takes",
    "overflow": "the oldest, left out to make room for the newest",
    "refused": "in a batch that a collector refused for good",
    "rejected": "in a series that a collector rejected",
    "disk": "the spool could not be written or read",
    "closed": "recorded after the client was closed",
    "bug": "lost to a fault of the client itself",
}

MOST = 10**9  # values of a reason in one header

_ITEM = re.compile(r"([a-z-]{1,20})=([0-9]{1,18})")
_EXPECTED = f"expected reason=number, at most {MOST:,}, separated by commas"


def header_of(dropped: Mapping[str, int]) -> str:
    """The text of the header; empty when nothing was dropped. Of each reason at most `MOST` can be told at once."""
    return ", ".join(f"{reason}={number}" for reason, number in dropped.items() if number)


def read(header: str) -> dict[str, int]:
    """Reads the header as values by reason; a reason of a later version counts as "other".

    Raises:
        InvalidBodyError: not of that form, or more values than anybody has dropped since the last time.
    """
    dropped: dict[str, int] = {}
    for item in header.split(",") if header.strip() else ():
        match = _ITEM.fullmatch(item.strip())
        reason = "" if match is None else match[1] if match[1] in REASONS else "other"
        values = 0 if match is None else dropped.get(reason, 0) + int(match[2])
        if match is None or values > MOST:
            raise InvalidBodyError(f"header {HEADER}: {_EXPECTED}, got {item.strip()[:60]!r}")
        dropped[reason] = values
    return dropped
