"""Answers with a statistic, all of them, or the share under a threshold, of an hour, a day or a range.

Called by `orders` and `views`.

A day lists its 24 hours, a range its hours page by page; both give the whole beside them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

from metrics_app.errors import InvalidQueryError
from metrics_app.query import hours
from metrics_app.query.answer import Document, Measure, cell, document, measure_of, share_under
from metrics_app.query.question import SHOWN, Policy, Question, whole_number
from metrics_app.query.reading import Rows, WindowReading
from metrics_app.query.reply import Sheet, Table

PAGING = ("limit", "after")
THRESHOLD_MAX = 1e15  # beyond every value there can be

_OF_ALL = ("as_of", "stale", "role")
_OF_EACH = ("start", "end", "value", "unit", "count", "final", "exact", "error_bound", "lo", "hi", "ci95_lo", "ci95_hi")
COLUMNS = ("key", "stat", "threshold", *_OF_EACH, "missing", "lost_records", "duplicates", "late", *_OF_ALL)


class Statistic(NamedTuple):
    """What is to be answered, all of it checked.

    Attributes:
        each: hours that are listed.
        paging: parameters to repeat for the next page.
    """

    question: Question
    measure: Measure
    each: range
    paging: dict[str, str]

    @staticmethod
    def parameters(in_path: bool, policy: Policy) -> tuple[str, ...]:
        """Names of the query parameters that this question allows."""
        return () if in_path else PAGING

    @classmethod
    def of(cls, question: Question, policy: Policy) -> Self:
        """Parses the question.

        Raises:
            InvalidQueryError: naming the part.
        """
        return cls(question, cls.measured(question, policy), _listed(question, policy), question.given)

    @staticmethod
    def measured(question: Question, policy: Policy) -> Measure:
        """The measure that the question asks for."""
        return measure_of(question.asked, policy.unit)

    async def answer(self, rows: Rows) -> Sheet:
        """Makes the answer; raises NoDataError when nothing was recorded."""
        window = self.question.window
        got = await rows.read(window, self.each, lambda hour, found: cell(self.measure, hour, found))
        return self.sheet(got)

    def sheet(self, got: WindowReading) -> Sheet:
        """The answer of what was read."""
        window = self.question.window
        answer = document(self.question.key, self.measure, window, got.whole)
        following = None
        if window.form != "hour":
            left = window.form == "range" and self.each.stop < window.end
            last = hours.iso(hours.start(self.each.stop - 1)) if left else None
            answer |= {"hours": got.cells, "next": last}
            following = urlencode({**self.paging, "after": last}) if last else None
        return Sheet(answer, lambda: table([answer]), answer["final"] and not answer["stale"], following)


class Share(Statistic):
    """The share of values up to a threshold, which is a parameter named after the unit."""

    @staticmethod
    def parameters(in_path: bool, policy: Policy) -> tuple[str, ...]:
        """Names of the query parameters that this question allows."""
        return (_name_of(policy), *Statistic.parameters(in_path, policy))

    @staticmethod
    def measured(question: Question, policy: Policy) -> Measure:
        """The measure that the question asks for."""
        return share_under(_threshold(_name_of(policy), question.given), policy.unit)


def _name_of(policy: Policy) -> str:
    return policy.unit or "value"


def _threshold(name: str, given: dict[str, str]) -> float:
    text = given.get(name, "")
    try:
        threshold = float(text) if text.isascii() and "_" not in text else -1.0
    except ValueError:
        threshold = -1.0
    if not 0.0 <= threshold <= THRESHOLD_MAX:
        raise InvalidQueryError(name, text[:SHOWN], "a number from 0 to 10^15, in the unit of the values")
    return threshold + 0.0  # makes -0.0 a plain zero


def _listed(question: Question, policy: Policy) -> range:
    window, given = question.window, question.given
    if window.form != "range":
        return range(window.first, window.end if window.form == "day" else window.first)
    limit = whole_number("limit", given["limit"], policy.page) if "limit" in given else policy.page
    first = window.first
    if "after" in given:
        first = hours.of_moment("after", given["after"].replace(" ", "+")) + 1
        if not window.first < first < window.end:
            raise InvalidQueryError("after", given["after"][:SHOWN], "an hour of the range, but not its last")
    return range(first, min(first + limit, window.end))


def table(answers: Iterable[Document]) -> Table:
    """The lines of several answers, one an hour and statistic."""
    yield COLUMNS
    for answer in answers:
        yield from _lines(answer)


def _lines(answer: Document) -> Table:
    shared = (answer["key"], answer["stat"], answer.get("threshold"))
    for each in answer.get("hours") or [{**answer, "start": answer["window"]["start"]}]:
        for stat, member in _by_stat(answer, each):
            of_each = (member.get(name) for name in COLUMNS[len(shared) : -len(_OF_ALL)])
            yield (shared[0], stat, shared[2], *of_each, *(answer[name] for name in _OF_ALL))


def _by_stat(answer: Document, each: Document) -> list[tuple[str, dict[str, Any]]]:
    """Lines of one hour by statistic; one, unless all are asked for."""
    shared = {**each, "end": _end(each["start"]) if "window" not in each else each["window"]["end"]}
    if "values" not in each:
        return [(answer["stat"], {**shared, "unit": answer["unit"], **_ends(each.get("ci95"))})]
    lines = []
    for stat, value in (each["values"] or dict.fromkeys(answer["values"])).items():
        bound = each.get("bounds", {}).get(stat, {})
        unit = measure_of(stat, answer["unit"]).unit
        lines.append((stat, {**shared, "value": value, "unit": unit, **bound, **_ends(bound.get("ci95"))}))
    return lines


def _end(start: str) -> str:
    return hours.iso(hours.end(hours.of_moment("start", start)))


def _ends(ci95: Document | None) -> Document:
    return {f"ci95_{name}": member for name, member in (ci95 or {}).items()}
