"""Answers plain questions about one hour in one step, where nothing has to be waited for.

Called by `views`, and through `app` by the server, past aiohttp.

Most questions ask for a statistic of one hour from the worker that owns the key. Their answer is read and written
without an `await`, so no task, no deadline and no other worker is needed. Everything else is None here, and is answered
by `views`: other forms of questions, every error, a key that is not known, and a row that is held by another worker.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from aiohttp import web

from metrics_app.errors import MetricsError
from metrics_app.holdings import ACTIVE, SummaryReader
from metrics_app.http.problems import counting, finished
from metrics_app.http.proof import ROLE
from metrics_app.query import hours
from metrics_app.query.answer import UNDER
from metrics_app.query.compared import COMPARE
from metrics_app.query.exported import HISTOGRAM
from metrics_app.query.question import Policy, question_of
from metrics_app.query.reading import LongQuestions, Rows, WindowReading
from metrics_app.query.reply import format_of, reply_of
from metrics_app.query.statistics import Statistic
from metrics_app.telemetry import Telemetry
from metrics_app.wire.metric_key import key_bytes
from metrics_app.wire.partition import partition_of

ROUTE = "/{key}/{stat}/{date}/{hour}"  # as the requests are counted
REMEMBERED = 4096  # questions that have been taken apart; a dashboard repeats its own
ELSEWHERE = {UNDER, COMPARE, HISTOGRAM}

# what aiohttp's router reads in no other way
_PLAIN = re.compile(r"/(?:[\w.~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+/([\w.]+)/([\w-]+)/(\w+)", re.ASCII)


class HourQuestion(NamedTuple):
    """A question about one hour, and where its answer is."""

    statistic: Statistic
    key: bytes
    partition: int
    form: str


class AnswersAtOnce:
    """The short way to an answer.

    Args:
        passes: whether anybody may ask who sends these headers (`Access.passes`).
    """

    def __init__(
        self,
        reader: SummaryReader,
        policy: Policy,
        partitions: int,
        telemetry: Telemetry,
        passes: Callable[[Mapping[str, str]], bool],
    ) -> None:
        self._reader = reader
        self._passes = passes
        self._count = counting(telemetry)
        self._latency = telemetry.query_latency.labels(ACTIVE, "client")
        self._long_questions = LongQuestions(0.0)  # an hour is never one
        # by the hour of the clock as well, for "today" and "now" mean another one in each
        self._taken_apart = lru_cache(REMEMBERED)(
            lambda path, accept, hour: _question(path, accept, hour, policy, partitions)
        )

    def answer(self, path: str, headers: Mapping[str, str]) -> web.Response | None:
        """The reply to GET of a path, as `views` and its middleware would give it; None: they are to give it."""
        began_s = time.perf_counter()
        asked: HourQuestion | None = self._taken_apart(path, headers.get("Accept", ""), hours.of(time.time()))
        if asked is None or not self._passes(headers):
            return None
        got = self._read(asked)
        if got is None:
            return None
        reply = reply_of(asked.statistic.sheet(got), asked.form)
        reply.headers[ROLE] = ACTIVE
        self._latency.observe(time.perf_counter() - began_s)
        self._count(ROUTE, reply.status)
        finished(reply)
        return reply

    def _read(self, asked: HourQuestion) -> WindowReading | None:
        rows = Rows(self._reader, asked.partition, asked.key, self._long_questions)
        try:
            found = rows.hour(asked.statistic.question.window.first)
        except MetricsError:
            return None
        return None if found is None or rows.role != ACTIVE else WindowReading(found, [])


def _question(path: str, accept: str, this_hour: int, policy: Policy, partitions: int) -> HourQuestion | None:
    found = _PLAIN.fullmatch(path)
    if found is None or found[1] in ELSEWHERE:
        return None
    segments = dict(zip(("stat", "date", "hour"), found.groups(), strict=True))
    try:
        question = question_of(path, "", segments, (), policy, this_hour * hours.HOUR_S)
        statistic = Statistic.of(question, policy)
    except MetricsError:
        return None
    key = key_bytes(question.key)
    return HourQuestion(statistic, key, partition_of(key, partitions), format_of({}, accept))
