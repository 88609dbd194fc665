"""Several keys as if they were one: `GET /merge?prefix=GET%20&stat=p99&last=24h`, from all workers.

Called by `views` and `app`.

Summaries merge without loss, so the answer is as good as that of one key with all the values.
"""

from __future__ import annotations

import time
from functools import reduce
from typing import Any, ClassVar, NamedTuple, Self

from faust.web import View

from metrics_app.errors import MetricsError, NoDataError, OwnerUnavailableError
from metrics_app.holdings import BEST_FIRST
from metrics_app.query.all_workers import COPIES, AllWorkers, numbers_of, prefixes_of
from metrics_app.query.answer import SUMMARY, Document, Measure, document, measure_of
from metrics_app.query.key_choice import TIMES, form_of, part_of_key, window_of
from metrics_app.query.merging import MergedHere, MergedKeys, MergedWhole, whole_of
from metrics_app.query.question import FORMAT, LAST, RANGE, Policy, parameters, range_window
from metrics_app.query.reading import with_row
from metrics_app.query.reply import Sheet, packed, respond
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
        prefix, contains = (part_of_key(part, given.get(part, "")) for part in ("prefix", "contains"))
        in_range = not given.keys().isdisjoint({*RANGE, LAST})
        window = range_window(given, policy, now_s) if in_range else window_of(given, now_s)
        measure = measure_of(given.get(STAT, SUMMARY), policy.unit)
        return cls(MergedKeys(window, prefix, contains), measure, form_of(given, accept))


class MergeView(View):
    """Answers for all workers, and to other workers for this one."""

    workers: ClassVar[AllWorkers]
    policy: ClassVar[Policy]

    async def get(self, request: Any) -> Any:
        """The answer; to another worker, what this one holds."""
        is_worker, partitions = self.workers.router.peers.sent(request), self.workers.held.partitions
        allowed = (*PARAMETERS, COPIES) if is_worker else PARAMETERS
        given = parameters(request.rel_url.raw_query_string, allowed)
        copies = numbers_of(given.pop(COPIES), partitions) if COPIES in given else None
        asked = MergeQuestion.of(given, request.headers.get("Accept", ""), self.policy, time.time())
        if is_worker:
            return await self.workers.local(asked.keys._replace(copies=copies))
        told = [
            whole_of(await self.workers.told(request, asked.keys._replace(prefix=prefix), MergedHere), partitions)
            for prefix in prefixes_of(request, asked.keys.prefix)
        ]
        return packed(request, respond(request, self._sheet(asked, told), asked.form))

    def _sheet(self, asked: MergeQuestion, told: list[MergedWhole]) -> Sheet:
        whole = _joined(told)
        if whole.row is None or len(whole.unanswered) == self.workers.held.partitions:
            raise _nothing(asked.keys, whole)
        row = whole.row._replace(stale=whole.stale)
        answer = document("", asked.measure, asked.keys.window, row)
        of_keys: Document = {"prefix": asked.keys.prefix, "contains": asked.keys.contains, "keys": whole.keys}
        # of a copy that lags and has none of these rows nobody knows how far it is
        is_final = answer["final"] and not whole.unanswered and not whole.stale
        told_of = {"final": is_final, "complete": not whole.unanswered, "unanswered": whole.unanswered}
        answer = of_keys | {name: member for name, member in answer.items() if name != "key"} | told_of
        return Sheet(answer, lambda: table([{**answer, "key": f"{asked.keys.prefix}*"}]), False)


def _joined(told: list[MergedWhole]) -> MergedWhole:
    rows = [each.row for each in told if each.row is not None]
    row = reduce(with_row, rows, None)
    if row is not None:
        row = row._replace(role=max((each.role for each in rows), key=BEST_FIRST.index))
    unanswered = sorted({number for each in told for number in each.unanswered})
    return MergedWhole(row, sum(each.keys for each in told), unanswered, any(each.stale for each in told))


def _nothing(asked: MergedKeys, whole: MergedWhole) -> MetricsError:
    if whole.unanswered or whole.stale:
        return OwnerUnavailableError(f"it cannot be told now; of partitions {whole.unanswered} nothing is known")
    return NoDataError(f"nothing was recorded for keys that begin with {asked.prefix!r} in {asked.window}")
