"""Keys in the order of a statistic or of their change, from all workers: `GET /keys?sort=p99`.

Called by `federated`, `keys` and `views`.

Every worker ranks what it owns; partitions that no owner answered for are asked for once more, of any copy. So each
row is looked at once, by its owner, as long as all workers are well.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import NamedTuple, Self
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from metrics_app.errors import UNREADABLE, InvalidQueryError, SlowRankingError
from metrics_app.holdings import ACTIVE
from metrics_app.http.access import caller_of
from metrics_app.http.not_admitted import ForbiddenError
from metrics_app.http.problems import json_reply
from metrics_app.http.proof import ROLE
from metrics_app.query.answer import when
from metrics_app.query.key_choice import check_answered, limit_of, part_of_key, window_of
from metrics_app.query.orders import Order, order_of
from metrics_app.query.question import DAY_HOURS, FORMAT, SHOWN, Policy, Window, one_of
from metrics_app.query.ranking import (
    HeldCopies,
    Place,
    RankedHere,
    RankedPage,
    Sought,
    in_rank,
    joined,
    ranked_here,
    unanswered,
)
from metrics_app.query.reply import FORMATS, Sheet, format_of, packed, respond
from metrics_app.query.routing import Router
from metrics_app.wire.metric_key import key_bytes

SORT = "sort"
CURSOR = "cursor"
STATS = "stats"
RANKING_PARAMETERS = (SORT, CURSOR, STATS)
COPIES = "copies"  # between workers: of which partitions any copy is wanted


class Ranking(NamedTuple):
    """Which keys are asked for, and in which order.

    Attributes:
        window: a day or an hour.
        after: the last place of the page before.
    """

    window: Window
    order: Order
    sort: str
    prefix: str
    contains: str
    limit: int
    after: Place | None
    format: str

    @classmethod
    def of(cls, given: dict[str, str], accept: str, policy: Policy, now_s: float) -> Self:
        """The ranking that parameters ask for, of today unless they say otherwise.

        Raises:
            InvalidQueryError: naming the parameter.
        """
        if "after" in given:
            raise InvalidQueryError(
                "after", given["after"][:SHOWN], f"no `after` beside {SORT}: pages go on by {CURSOR}"
            )
        if FORMAT in given:
            one_of(FORMAT, given[FORMAT], FORMATS)
        window = window_of(given, now_s)
        prefix, contains = (part_of_key(part, given.get(part, "")) for part in ("prefix", "contains"))
        return cls(
            window,
            order_of(given, window, policy.unit),
            given[SORT],
            prefix,
            contains,
            limit_of(given, policy),
            _place_of(given[CURSOR]) if CURSOR in given else None,
            format_of(given, accept),
        )

    def asked(self, copies: list[int] | None) -> Sought:
        """What a worker is asked."""
        return Sought(self.order, self.prefix, self.contains, self.limit + 1, self.after, copies)


def _place_of(text: str) -> Place:
    number, _, key = text.partition(":")
    try:
        place = Place(float(number), key_bytes(key))
        if not math.isfinite(place.value):
            raise ValueError(number)
    except ValueError:
        raise InvalidQueryError(CURSOR, text[:SHOWN], "`next` of the page before, as it was given") from None
    return place


@dataclass(frozen=True)
class RankedKeys:
    """Answers for all workers, and to other workers for this one.

    Attributes:
        deadline_s: longest time for an answer.
    """

    router: Router
    policy: Policy
    held: HeldCopies
    deadline_s: float

    async def get(self, request: web.Request, given: dict[str, str]) -> web.Response:
        """A page of ranked keys; to another worker, what this one holds."""
        accept = request.headers.get("Accept", "")
        copies = numbers_of(given.pop(COPIES), self.held.partitions) if COPIES in given else None
        ranking = Ranking.of(given, accept, self.policy, time.time())
        if self.router.peers.sent(request):
            return await self._local(ranking.asked(copies))
        return self._reply(request, ranking, await self.found(request, ranking))

    async def found(self, request: web.Request, ranking: Ranking) -> RankedPage:
        """A page of those keys that the caller may know of.

        Args:
            request: the ranking as a URL, for other workers.

        Raises:
            ForbiddenError: the caller may know of none.
            SlowRankingError: no worker was done in time.
        """
        prefixes = caller_of(request).within(ranking.prefix)
        if not prefixes:
            raise ForbiddenError("the token is for keys that begin otherwise")
        pages = [await self._page(request, ranking._replace(prefix=prefix)) for prefix in prefixes]
        return in_rank(pages, ranking.limit)

    async def _page(self, request: web.Request, ranking: Ranking) -> RankedPage:
        """The ranking of the keys with a prefix, which need not be the one that was asked for."""
        began_s = time.monotonic()
        told = await self._told(request, ranking, None)
        if not told and time.monotonic() - began_s >= self.deadline_s:
            raise SlowRankingError(self.deadline_s)  # copies are not read faster
        if left := unanswered(told, self.held.partitions):
            told += await self._told(request, ranking, left)
        return joined(told, ranking.limit, self.held.partitions)

    async def _told(self, request: web.Request, ranking: Ranking, copies: list[int] | None) -> list[RankedHere]:
        asked = ranking.asked(copies)
        query = {**request.query, "prefix": ranking.prefix}
        if copies is not None:
            query[COPIES] = ",".join(map(str, copies))
        request = request.clone(rel_url=request.rel_url.with_query(query))
        replies = (await self.router.gather(request, lambda: self._local(asked), self.deadline_s)).values()
        found = [read_ranked(reply) for reply in replies]
        return [each for each in found if each is not None and each.of == asked.identity]

    async def _local(self, asked: Sought) -> web.Response:
        async with self.held.long_questions.admitted(DAY_HOURS):
            here = await ranked_here(asked, self.held)
        return json_reply(msgspec.to_builtins(here, str_keys=True), headers={ROLE: ACTIVE})

    def _reply(self, request: web.Request, ranking: Ranking, found: RankedPage) -> web.Response:
        check_answered(found.unanswered, self.held.partitions, ranking.format)
        last = found.keys[-1] if found.more and found.keys else None
        cursor = None if last is None else f"{last.value!r}:{last.key}"
        answers = [each.answer for each in found.keys]
        document = {
            **when(ranking.window),
            "window": ranking.window.bounds,
            "prefix": ranking.prefix,
            "contains": ranking.contains,
            "sort": ranking.sort,
            "keys": [each.key for each in found.keys],
            "ranked": answers,
            "next": cursor,
            "complete": not found.unanswered,
            "unanswered": found.unanswered,
            "stale": found.stale,
            "lost_records": found.lost,
        }
        following = None if cursor is None else urlencode({**request.query, **when(ranking.window), CURSOR: cursor})
        sheet = Sheet(document, lambda: ranking.order.table(answers), False, following)
        return packed(request, respond(request, sheet, ranking.format))


def read_ranked(reply: web.Response | None) -> RankedHere | None:
    """The reply of a worker; None when it is unusable."""
    if reply is None or not isinstance(reply.body, bytes):
        return None
    try:
        return msgspec.json.decode(reply.body, type=RankedHere)
    except UNREADABLE:
        return None


def numbers_of(text: str, partitions: int) -> list[int]:
    """The partitions that a text of another worker names."""
    known = {str(number): number for number in range(partitions)}
    return [known[each] for each in text.split(",") if each in known]
