"""Keys in the order of a statistic or of their change, from all workers: `GET /keys?sort=p99`.

Called by `federated`, `keys` and `views`.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import NamedTuple, Self
from urllib.parse import urlencode

from aiohttp import web

from metrics_app.errors import InvalidQueryError
from metrics_app.query.all_workers import COPIES, AllWorkers, numbers_of, prefixes_of
from metrics_app.query.answer import when
from metrics_app.query.key_choice import check_answered, form_of, limit_of, part_of_key, window_of
from metrics_app.query.orders import Order, order_of
from metrics_app.query.question import SHOWN, Policy, Window
from metrics_app.query.ranking import (
    Place,
    RankedHere,
    RankedPage,
    Sought,
    in_rank,
    joined,
)
from metrics_app.query.reply import Sheet, packed, respond
from metrics_app.wire.metric_key import key_bytes

SORT = "sort"
CURSOR = "cursor"
STATS = "stats"
RANKING_PARAMETERS = (SORT, CURSOR, STATS)


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
            form_of(given, accept),
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
    """Answers for all workers, and to other workers for this one."""

    workers: AllWorkers
    policy: Policy

    async def get(self, request: web.Request, given: dict[str, str]) -> web.Response:
        """A page of ranked keys; to another worker, what this one holds."""
        accept = request.headers.get("Accept", "")
        partitions = self.workers.held.partitions
        copies = numbers_of(given.pop(COPIES), partitions) if COPIES in given else None
        ranking = Ranking.of(given, accept, self.policy, time.time())
        if self.workers.router.peers.sent(request):
            return await self.workers.local(ranking.asked(copies))
        return self._reply(request, ranking, await self.found(request, ranking))

    async def found(self, request: web.Request, ranking: Ranking) -> RankedPage:
        """A page of those keys that the caller may know of.

        Args:
            request: the ranking as a URL, for other workers.

        Raises:
            ForbiddenError: the caller may know of none.
            SlowRankingError: no worker was done in time.
        """
        prefixes = prefixes_of(request, ranking.prefix)
        pages = [await self._page(request, ranking._replace(prefix=prefix)) for prefix in prefixes]
        return in_rank(pages, ranking.limit)

    async def _page(self, request: web.Request, ranking: Ranking) -> RankedPage:
        """The ranking of the keys with a prefix, which need not be the one that was asked for."""
        told = await self.workers.told(request, ranking.asked(None), RankedHere)
        return joined(told, ranking.limit, self.workers.held.partitions)

    def _reply(self, request: web.Request, ranking: Ranking, found: RankedPage) -> web.Response:
        check_answered(found.unanswered, self.workers.held.partitions, ranking.format)
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
