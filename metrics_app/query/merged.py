"""Several keys as if they were one: `GET /merge?prefix=GET%20&stat=p99&last=24h`, from all workers.

Called by `views` and `app`.

Every worker merges the rows of the partitions that it owns; partitions that no owner answered for are asked for once
more, of any copy. Summaries merge without loss, so the answer is as good as that of one key with all the values.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, NamedTuple, Self

import msgspec
from aiohttp import web
from faust.web import View

from metrics_app.errors import (
    UNREADABLE,
    FormatError,
    MetricsError,
    NoDataError,
    OwnerUnavailableError,
    SlowRankingError,
)
from metrics_app.holdings import ACTIVE
from metrics_app.http.access import caller_of
from metrics_app.http.not_admitted import ForbiddenError
from metrics_app.http.problems import json_reply
from metrics_app.http.proof import ROLE
from metrics_app.query.answer import SUMMARY, Document, Measure, document, measure_of
from metrics_app.query.key_choice import TIMES, part_of_key, window_of
from metrics_app.query.merging import MergedHere, MergedKeys, MergedWhole, merged_here, whole_of
from metrics_app.query.question import (
    DAY_HOURS,
    FORMAT,
    LAST,
    RANGE,
    Policy,
    one_of,
    parameters,
    range_window,
)
from metrics_app.query.ranked_keys import COPIES, numbers_of
from metrics_app.query.ranking import HeldCopies
from metrics_app.query.reading import with_row
from metrics_app.query.reply import FORMATS, Sheet, format_of, packed, respond
from metrics_app.query.routing import Router
from metrics_app.query.statistics import table

PATH = "/merge"
STAT = "stat"
PARAMETERS = ("prefix", "contains", STAT, *TIMES, *RANGE, LAST, FORMAT)


class MergeQuestion(NamedTuple):
    """What is asked, all of it checked."""

    keys: MergedKeys
    measure: Measure
    form: str

    @classmethod
    def of(cls, given: dict[str, str], accept: str, policy: Policy, now_s: float) -> Self:
        """The question of parameters: of today, and all statistics, unless they say otherwise.

        Raises:
            InvalidQueryError: naming the parameter.
        """
        if FORMAT in given:
            one_of(FORMAT, given[FORMAT], FORMATS)
        prefix, contains = (part_of_key(part, given.get(part, "")) for part in ("prefix", "contains"))
        in_range = not given.keys().isdisjoint({*RANGE, LAST})
        window = range_window(given, policy, now_s) if in_range else window_of(given, now_s)
        measure = measure_of(given.get(STAT, SUMMARY), policy.unit)
        return cls(MergedKeys(window, prefix, contains), measure, format_of(given, accept))


class MergeView(View):
    """Answers for all workers, and to other workers for this one."""

    router: ClassVar[Router]
    policy: ClassVar[Policy]
    held: ClassVar[HeldCopies]
    deadline_s: ClassVar[float]

    async def get(self, request: Any) -> Any:
        """The answer; to another worker, what this one holds."""
        is_worker = self.router.peers.sent(request)
        allowed = (*PARAMETERS, COPIES) if is_worker else PARAMETERS
        given = parameters(request.rel_url.raw_query_string, allowed)
        copies = numbers_of(given.pop(COPIES), self.held.partitions) if COPIES in given else None
        asked = MergeQuestion.of(given, request.headers.get("Accept", ""), self.policy, time.time())
        if is_worker:
            return await self._local(asked.keys._replace(copies=copies))
        prefixes = caller_of(request).within(asked.keys.prefix)
        if not prefixes:
            raise ForbiddenError("the token is for keys that begin otherwise")
        told = [await self._told(request, asked.keys._replace(prefix=prefix)) for prefix in prefixes]
        return packed(request, respond(request, self._sheet(asked, told), asked.form))

    async def _told(self, request: web.Request, asked: MergedKeys) -> MergedWhole:
        began_s = time.monotonic()
        told = await self._asked(request, asked)
        if not told and time.monotonic() - began_s >= self.deadline_s:
            raise SlowRankingError(self.deadline_s)  # copies are not read faster
        if left := whole_of(told, self.held.partitions).unanswered:
            told += await self._asked(request, asked._replace(copies=left))
        return whole_of(told, self.held.partitions)

    async def _asked(self, request: web.Request, asked: MergedKeys) -> list[MergedHere]:
        query = {**request.query, "prefix": asked.prefix}
        if asked.copies is not None:
            query[COPIES] = ",".join(map(str, asked.copies))
        request = request.clone(rel_url=request.rel_url.with_query(query))
        replies = (await self.router.gather(request, lambda: self._local(asked), self.deadline_s)).values()
        return [each for each in map(read_merged, replies) if each is not None and each.of == asked.identity]

    async def _local(self, asked: MergedKeys) -> web.Response:
        async with self.held.long_questions.admitted(DAY_HOURS):
            here = await merged_here(asked, self.held)
        return json_reply(msgspec.to_builtins(here, str_keys=True), headers={ROLE: ACTIVE})

    def _sheet(self, asked: MergeQuestion, told: list[MergedWhole]) -> Sheet:
        whole = _joined(told)
        if whole.row is None or len(whole.unanswered) == self.held.partitions:
            raise _nothing(asked.keys, whole)
        row = whole.row._replace(stale=whole.stale)
        answer = document("", asked.measure, asked.keys.window, row)
        of_keys: Document = {"prefix": asked.keys.prefix, "contains": asked.keys.contains, "keys": whole.keys}
        is_final = answer["final"] and not whole.unanswered
        told_of = {"final": is_final, "complete": not whole.unanswered, "unanswered": whole.unanswered}
        answer = of_keys | {name: member for name, member in answer.items() if name != "key"} | told_of
        return Sheet(answer, lambda: table([{**answer, "key": f"{asked.keys.prefix}*"}]), False)


def _joined(told: list[MergedWhole]) -> MergedWhole:
    row = None
    for each in told:
        row = with_row(row, each.row) if each.row is not None else row
    unanswered = sorted({number for each in told for number in each.unanswered})
    return MergedWhole(row, sum(each.keys for each in told), unanswered, any(each.stale for each in told))


def _nothing(asked: MergedKeys, whole: MergedWhole) -> MetricsError:
    if whole.unanswered or whole.stale:
        return OwnerUnavailableError(f"it cannot be told now; of partitions {whole.unanswered} nothing is known")
    return NoDataError(f"nothing was recorded for keys that begin with {asked.prefix!r} in {asked.window}")


def read_merged(reply: web.Response | None) -> MergedHere | None:
    """The reply of a worker; None when it is unusable."""
    if reply is None or not isinstance(reply.body, bytes):
        return None
    try:
        found = msgspec.json.decode(reply.body, type=MergedHere)
        for each in found.partitions.values():
            _ = each.row  # damaged summaries are as good as none
    except (*UNREADABLE, FormatError):
        return None
    return found
