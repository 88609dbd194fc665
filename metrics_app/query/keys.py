"""Which keys were recorded on a day: every worker is asked for the partitions it holds, and a gap is never silent.

Called by `views` and `app`.

Keys come in the order of their UTF-8 bytes, page by page. A worker looks through memory and, hour by hour, through the
store for the least keys after the last page; once it has a page it looks no further than its greatest key. So the work
of a request is bounded by the page, not by the number of keys, and done in steps between which others are served.

GET /keys, answered by all workers together.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, NamedTuple, Self
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from faust.web import View

from metrics_app.errors import InvalidQueryError, OwnerUnavailableError
from metrics_app.holdings import ACTIVE, BEST_FIRST, SummaryReader, loss_of, sum_known
from metrics_app.http.problems import json_reply
from metrics_app.http.proof import ROLE
from metrics_app.query.all_workers import COPIES, prefixes_of, read
from metrics_app.query.answer import when
from metrics_app.query.key_choice import TIMES, check_answered, form_of, limit_of, part_of_key, window_of
from metrics_app.query.question import DAY_HOURS, FORMAT, SHOWN, Policy, Window, parameters
from metrics_app.query.ranked_keys import RANKING_PARAMETERS, SORT, RankedKeys
from metrics_app.query.reading import LongQuestions
from metrics_app.query.reply import Sheet, packed, respond
from metrics_app.query.routing import Router
from metrics_app.turns import turn

PARAMETERS = ("prefix", "contains", *TIMES, "limit", "after", FORMAT)


class Listing(NamedTuple):
    """Which keys are asked for.

    Attributes:
        window: a day or an hour.
        contains: what a key has in it.
        after: the last key of the page before; empty for the first page.
    """

    window: Window
    prefix: str
    contains: str
    after: str
    limit: int
    format: str

    @classmethod
    def of(cls, given: dict[str, str], accept: str, policy: Policy, now_s: float) -> Self:
        """The listing that parameters ask for, of today unless they say otherwise.

        Raises:
            InvalidQueryError: naming the parameter.
        """
        prefix, contains, after = (part_of_key(part, given.get(part, "")) for part in ("prefix", "contains", "after"))
        window, limit = window_of(given, now_s), limit_of(given, policy)
        return cls(window, prefix, contains, after, limit, form_of(given, accept))

    @property
    def times(self) -> dict[str, Any]:
        """The day, YYYY-MM-DD, and the hour if it is about one."""
        return when(self.window)

    @property
    def identity(self) -> str:
        """What tells it from a listing of another time, on every worker alike."""
        return str(self.window)


class Held(msgspec.Struct):
    """What one worker holds.

    Attributes:
        of: the time, as it understood the question.
        roles: of each partition it can answer for.
        keys: by partition the least keys, up to one more than a page of all of them together.
        behind: partitions of whose keys some may still be on their way into the copy.
        lost: partitions with records that may have held keys of the day and are gone: how many; 0 when nobody knows.
    """

    of: str
    roles: dict[int, str]
    keys: dict[int, list[str]]
    behind: list[int] = []
    lost: dict[int, int] = {}

    @property
    def answered(self) -> dict[int, str]:
        """The partitions that it can answer for."""
        return self.roles


class FoundKeys(NamedTuple):
    """A page of keys.

    Attributes:
        more: whether there are greater ones.
        unanswered: partitions that nobody answered for; their keys are not among these.
        stale: whether a copy answered that may lag behind the owner, or an owner that is behind itself.
        lost: records that may have held further keys and are gone; None when nobody knows how many they were.
    """

    keys: list[str]
    more: bool
    unanswered: list[int]
    stale: bool
    lost: int | None


async def held(listing: Listing, reader: SummaryReader, partitions: int) -> Held:
    """The keys of the partitions held here.

    Raises:
        OwnerUnavailableError: a partition came or went meanwhile; its keys may have left no room for those of others.
    """
    roles = {number: role for number in range(partitions) if (role := reader.holds(number)) is not None}
    after, prefix, most = listing.after.encode(), listing.prefix.encode(), listing.limit + 1
    day, contains = range(listing.window.first, listing.window.end), listing.contains.encode()
    least: dict[bytes, int] = {}
    for partition in roles:
        recent = {key for key in reader.recent_keys(partition, day, prefix) if key > after and contains in key}
        least = _least({**least, **dict.fromkeys(recent, partition)}, most)
        for hour in day:
            at: bytes | None = after
            while at is not None:
                upto = max(least) if len(least) == most else None
                stored, at = reader.stored_keys(partition, hour, prefix, at, upto, most, contains)
                least = _least({**least, **dict.fromkeys(stored, partition)}, most)
                await turn()
    if any(reader.holds(partition) != role for partition, role in roles.items()):
        raise OwnerUnavailableError("partitions are being reassigned")
    by_partition: dict[int, list[str]] = {}
    for key, partition in sorted(least.items()):
        by_partition.setdefault(partition, []).append(key.decode())
    behind = [partition for partition in roles if reader.behind(partition)]
    losses = {partition: loss_of(reader.losses(partition), day.start, day.stop) for partition in roles}
    lost = {partition: loss.records for partition, loss in losses.items() if loss is not None}
    return Held(listing.identity, roles, by_partition, behind, lost)


def _least(keys: dict[bytes, int], most: int) -> dict[bytes, int]:
    return keys if len(keys) <= most else dict(sorted(keys.items())[:most])


def read_held(reply: web.Response | None, listing: Listing) -> Held | None:
    """Decodes the reply of another worker; None when the reply is unusable."""
    found = read(reply, Held)
    # at midnight two workers may differ in what today is
    return found if found is not None and found.of == listing.identity else None


def joined(listing: Listing, told: list[Held], partitions: int) -> FoundKeys:
    """Joins the lists of all workers into one page, with the best copy of each partition."""
    best = {partition: found for partition in range(partitions) if (found := _best(told, partition)) is not None}
    keys = sorted((key for at, (_, copy) in best.items() for key in copy.keys.get(at, [])), key=str.encode)
    return FoundKeys(
        keys[: listing.limit],
        more=len(keys) > listing.limit,
        unanswered=[partition for partition in range(partitions) if partition not in best],
        stale=any(role != ACTIVE or at in copy.behind for at, (role, copy) in best.items()),
        lost=sum_known([copy.lost[at] for at, (_, copy) in best.items() if at in copy.lost]),
    )


def in_a_row(listing: Listing, pages: list[FoundKeys]) -> FoundKeys:
    """Chains several sorted pages into one."""
    keys = [key for page in pages for key in page.keys]
    return FoundKeys(
        keys[: listing.limit],
        more=pages[-1].more or len(keys) > listing.limit,
        unanswered=sorted({partition for page in pages for partition in page.unanswered}),
        stale=any(page.stale for page in pages),
        lost=pages[-1].lost,  # of the day, whatever the prefix
    )


def _best(told: list[Held], partition: int) -> tuple[str, Held] | None:
    """The best copy of a partition and its role; None when no worker holds the partition."""
    copies = {each.roles[partition]: each for each in told if partition in each.roles}
    return next(((role, copies[role]) for role in BEST_FIRST if role in copies), None)


PATH = "/keys"


class KeysView(View):
    """The keys of a day."""

    router: ClassVar[Router]
    reader: ClassVar[SummaryReader]
    policy: ClassVar[Policy]
    long_questions: ClassVar[LongQuestions]
    partitions: ClassVar[int]
    ranked: ClassVar[RankedKeys]

    async def get(self, request: Any) -> Any:
        """A page of keys; to another worker, what this one holds."""
        between = (COPIES,) if self.router.peers.sent(request) else ()
        allowed = (*PARAMETERS, *RANKING_PARAMETERS, *between)
        given = parameters(request.rel_url.raw_query_string, allowed)
        if SORT in given:
            return await self.ranked.get(request, given)
        if surplus := [name for name in given if name in RANKING_PARAMETERS]:
            raise InvalidQueryError(surplus[0], given[surplus[0]][:SHOWN], f"{SORT} beside it")
        listing = Listing.of(given, request.headers.get("Accept", ""), self.policy, time.time())
        if self.router.peers.sent(request):
            return await self._local(listing)
        pages = []
        for prefix in prefixes_of(request, listing.prefix):
            pages.append(await self._page(request, listing._replace(prefix=prefix)))
            if pages[-1].more:
                break
        return self._reply(request, listing, in_a_row(listing, pages))

    async def _page(self, request: web.Request, listing: Listing) -> FoundKeys:
        """The keys that all workers have for a listing, which need not be the one that was asked for."""
        url = request.rel_url.update_query(prefix=listing.prefix)
        asked = request if request.query.get("prefix", "") == listing.prefix else request.clone(rel_url=url)
        replies = (await self.router.gather(asked, lambda: self._local(listing))).values()
        told = [each for reply in replies if (each := read_held(reply, listing)) is not None]
        return joined(listing, told, self.partitions)

    async def _local(self, listing: Listing) -> web.Response:
        async with self.long_questions.admitted(DAY_HOURS):
            here = await held(listing, self.reader, self.partitions)
        return json_reply(msgspec.to_builtins(here, str_keys=True), headers={ROLE: ACTIVE})

    def _reply(self, request: web.Request, listing: Listing, found: FoundKeys) -> web.Response:
        check_answered(found.unanswered, self.partitions, listing.format)
        last = found.keys[-1] if found.more else None
        page = {
            **listing.times,
            "limit": listing.limit,
            "prefix": listing.prefix,
            "contains": listing.contains,
            "after": last,
            FORMAT: listing.format,
        }
        document = {
            **listing.times,
            "prefix": listing.prefix,
            "contains": listing.contains,
            "keys": found.keys,
            "next": last,
            "complete": not found.unanswered,
            "unanswered": found.unanswered,
            "stale": found.stale,
            "lost_records": found.lost,
        }
        sheet = Sheet(
            document,
            lambda: [("key",), *((key,) for key in found.keys)],
            lasting=False,  # a late sample may bring a key to any day
            next=urlencode(page) if found.more else None,
        )
        return packed(request, respond(request, sheet, listing.format))
