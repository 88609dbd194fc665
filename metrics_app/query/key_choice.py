"""What lists of keys have in common: the time and the keys they are about, and that a list is never silently short.

Called by `keys`, `merged` and `ranked_keys`.
"""

from __future__ import annotations

from metrics_app.errors import InvalidQueryError, OwnerUnavailableError
from metrics_app.query.question import FORMAT, SHOWN, Policy, Window, named_window, one_of, whole_number
from metrics_app.query.reply import CSV, FORMATS, format_of
from metrics_app.wire.metric_key import key_bytes

TIMES = ("date", "hour")
USUAL_LIMIT = 100


def window_of(given: dict[str, str], now_s: float) -> Window:
    """The day, or the hour of it, that parameters name; today, when they name none.

    Raises:
        InvalidQueryError: part "date" or "hour".
    """
    return named_window({"date": "today", **given}, now_s)


def limit_of(given: dict[str, str], policy: Policy) -> int:
    """How many keys a page has.

    Raises:
        InvalidQueryError: part "limit".
    """
    return whole_number("limit", given["limit"], policy.page) if "limit" in given else min(USUAL_LIMIT, policy.page)


def form_of(given: dict[str, str], accept: str) -> str:
    """The format that is asked for.

    Raises:
        InvalidQueryError: part "format".
    """
    if FORMAT in given:
        one_of(FORMAT, given[FORMAT], FORMATS)
    return format_of(given, accept)


def part_of_key(part: str, text: str) -> str:
    """The text, if a key may begin with it or have it in it.

    Raises:
        InvalidQueryError: the part named.
    """
    try:
        if text:
            key_bytes(text)
    except ValueError as error:
        raise InvalidQueryError(part, text[:SHOWN], str(error).removeprefix("expected ")) from None
    return text


def check_answered(unanswered: list[int], partitions: int, form: str) -> None:
    """Raises OwnerUnavailableError for a list that has gaps and cannot say so, or nothing else than gaps."""
    if len(unanswered) == partitions:
        raise OwnerUnavailableError("no worker can answer for any partition now")
    if unanswered and form == CSV:
        raise OwnerUnavailableError(
            f"no worker can answer for partitions {unanswered}, and a table of keys cannot say so; JSON can"
        )
