"""Is this hour slower than that one? `/<key>/compare/<date>/<hour>?with=<date>/<hour>`, and so for days and ranges.

Called by `orders` and `views`.

The window of the path is judged, the one that `with` names is its baseline: as long, and of the same key, so that one
worker has both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from metrics_app.errors import InvalidQueryError
from metrics_app.holdings import FoundRow
from metrics_app.query import hours
from metrics_app.query.answer import Document, answering, counts, is_final, when
from metrics_app.query.question import SHOWN, Policy, Question, Window
from metrics_app.query.reading import Rows
from metrics_app.query.reply import Sheet, Table
from metrics_app.stats.comparison import FALSE_ALARM, MARGIN, Comparison, Shift, compare
from metrics_app.stats.intervals import Interval

COMPARE = "compare"
WITH = "with"
HOUR_EXPECTED = "the hour to compare with, YYYY-MM-DD/H or RFC 3339, YYYY-MM-DDTHH:00:00Z"

COLUMNS = (
    *("key", "start", "end", "baseline_start", "baseline_end", "stat", "value", "baseline", "unit", "shift"),
    *("shift_lo", "shift_hi", "ratio", "ratio_lo", "ratio_hi", "count", "baseline_count", "verdict", "reason"),
    *("false_alarm_rate", "final", "as_of", "stale", "role"),
)


class Compared(NamedTuple):
    """What is to be compared, all of it checked."""

    question: Question
    baseline: Window
    unit: str

    @staticmethod
    def parameters(in_path: bool, policy: Policy) -> tuple[str, ...]:
        """Names of the query parameters that this question allows."""
        return (WITH,)

    @classmethod
    def of(cls, question: Question, policy: Policy) -> Self:
        """Parses the question.

        Raises:
            InvalidQueryError: part "with".
        """
        return cls(question, _baseline(question), policy.unit)

    async def answer(self, rows: Rows) -> Sheet:
        """Makes the comparison; raises NoDataError also when the baseline has no values."""
        window = self.question.window
        base, found = (await rows.read(self.baseline)).whole, (await rows.read(window)).whole
        sides = Sides(window, found, self.baseline, base)
        judged = compare(found.summary, base.summary)
        answer = comparison(self.question.key, COMPARE, self.unit, sides, judged_of(judged))
        return Sheet(answer, lambda: table([answer]), answer["final"] and not answer["stale"])


class Sides(NamedTuple):
    """What is compared, and what is known of both."""

    window: Window
    found: FoundRow
    baseline: Window
    base: FoundRow


def comparison(key: str, stat: str, unit: str, sides: Sides, judged: Document) -> Document:
    """The answer with what has been judged of two times of a key."""
    window, found, baseline, base = sides
    return {
        "key": key,
        "stat": stat,
        **when(window),
        **judged,
        "unit": unit,
        "count": found.summary.count,
        "window": window.bounds,
        "baseline": {"count": base.summary.count, "window": baseline.bounds, **counts(base)},
        "final": is_final(found, window) and is_final(base, baseline),
        "exact": found.summary.exact and base.summary.exact,
        **counts(found),
        **answering(found._replace(as_of=min(found.as_of, base.as_of), stale=found.stale or base.stale)),
    }


def _baseline(question: Question) -> Window:
    text, window = question.given.get(WITH, "").replace(" ", "+"), question.window
    if window.form == "day":
        first = hours.of_moment(WITH, text)
        if len(text) != len("YYYY-MM-DD"):
            raise InvalidQueryError(WITH, text[:SHOWN], "the day to compare with, YYYY-MM-DD")
    elif window.form == "hour" and len(text) <= len("YYYY-MM-DD"):  # a date alone would be its midnight, unasked
        raise InvalidQueryError(WITH, text[:SHOWN], HOUR_EXPECTED)
    else:
        first = hours.of_moment(WITH, text)
    if first + window.end - window.first > hours.LAST:
        raise InvalidQueryError(WITH, text[:SHOWN], hours.MOMENT_EXPECTED)
    return Window(first, first + window.end - window.first, window.form)


def judged_of(found: Comparison) -> Document:
    """What a comparison says."""
    return {
        "verdict": found.verdict,
        "reason": found.reason,
        "false_alarm_rate": FALSE_ALARM,
        "margin": MARGIN,
        "shifts": [_shift(each) for each in found.shifts],
        "ks": found.distance._asdict(),
    }


def _shift(shift: Shift) -> Document:
    return {
        "stat": shift.stat,
        "value": shift.value,
        "baseline": shift.baseline,
        "shift": shift.shift,
        "shift_ci95": _interval(shift.shift_interval),
        "ratio": shift.ratio,
        "ratio_ci95": _interval(shift.ratio_interval),
    }


def _interval(interval: Interval | None) -> Document | None:
    return None if interval is None else interval._asdict()


def table(answers: Iterable[Document]) -> Table:
    """The lines of several comparisons, one a quantile."""
    yield COLUMNS
    for answer, each in ((one, shift) for one in answers for shift in one["shifts"]):
        window, base = answer["window"], answer["baseline"]
        line: dict[str, Any] = {**answer, **window, **each, "baseline_count": base["count"]}
        line |= {f"baseline_{name}": moment for name, moment in base["window"].items()}
        for name in ("shift", "ratio"):
            line |= {f"{name}_{end}": member for end, member in (each[f"{name}_ci95"] or {}).items()}
        yield [line.get(name) for name in COLUMNS]
