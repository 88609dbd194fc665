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

from metrics_app.errors import UNREADABLE, InvalidQueryError, OwnerUnavailableError
from metrics_app.holdings import ACTIVE, BEST_FIRST, SummaryReader, loss_of
from metrics_app.http.access import caller_of
from metrics_app.http.not_admitted import ForbiddenError
from metrics_app.http.problems import json_reply
from metrics_app.http.proof import ROLE
from metrics_app.query import hours
from metrics_app.query.question import DAY_HOURS, FORMAT, SHOWN, Policy, one_of, parameters, whole_number
from metrics_app.query.reading import LongQuestions
from metrics_app.query.reply import CSV, FORMATS, Sheet, format_of, respond
from metrics_app.query.routing import Router
from metrics_app.turns import turn
from metrics_app.wire.metric_key import key_bytes

PARAMETERS = ("prefix", "date", "limit", "after", FORMAT)
USUAL_LIMIT = 100


class Listing(NamedTuple):
    """Which keys are asked for.

    Attributes:
        first: the first hour of the day.
        after: the last key of the page before; empty for the first page.
    """

    first: int
    prefix: str
    after: str
    limit: int
    format: str

    @classmethod
    def of(cls, raw_query: str, accept: str, policy: Policy, now_s: float) -> Self:
        """The listing of a query string, of today unless it says otherwise.

        Raises:
            InvalidQueryError: naming the parameter.
        """
        given = parameters(raw_query, PARAMETERS)
        first = hours.of_date(given["date"]) if "date" in given else hours.of(now_s) // DAY_HOURS * DAY_HOURS
        limit = (
            whole_number("limit", given["limit"], policy.page) if "limit" in given else min(USUAL_LIMIT, policy.page)
        )
        if FORMAT in given:
            one_of(FORMAT, given[FORMAT], FORMATS)
        prefix, after = (_part_of_key(part, given.get(part, "")) for part in ("prefix", "after"))
        return cls(first, prefix, after, limit, format_of(given, accept))

    @property
    def date(self) -> str:
        """The day, YYYY-MM-DD."""
        return hours.start(self.first).date().isoformat()


class Held(msgspec.Struct):
    """What one worker holds.

    Attributes:
        date: as it understood the question.
        roles: of each partition it can answer for.
        keys: by partition the least keys, up to one more than a page of all of them together.
        behind: partitions of whose keys some may still be on their way into the copy.
        lost: partitions with records that may have held keys of the day and are gone: how many; 0 when nobody knows.
    """

    date: str
    roles: dict[int, str]
    keys: dict[int, list[str]]
    behind: list[int] = []
    lost: dict[int, int] = {}


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
    day = range(listing.first, listing.first + DAY_HOURS)
    least: dict[bytes, int] = {}
    for partition in roles:
        recent = {key for key in reader.recent_keys(partition, day, prefix) if key > after}
        least = _least({**least, **dict.fromkeys(recent, partition)}, most)
        for hour in day:
            at: bytes | None = after
            while at is not None:
                upto = max(least) if len(least) == most else None
                stored, at = reader.stored_keys(partition, hour, prefix, at, upto, most)
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
    return Held(listing.date, roles, by_partition, behind, lost)


def _least(keys: dict[bytes, int], most: int) -> dict[bytes, int]:
    return keys if len(keys) <= most else dict(sorted(keys.items())[:most])


def read_held(reply: web.Response | None, listing: Listing) -> Held | None:
    """Decodes the reply of another worker; None when the reply is unusable."""
    if reply is None or not isinstance(reply.body, bytes):
        return None
    try:
        found = msgspec.json.decode(reply.body, type=Held)
    except UNREADABLE:
        return None
    return found if found.date == listing.date else None  # at midnight two workers may differ in what today is


def joined(listing: Listing, told: list[Held], partitions: int) -> FoundKeys:
    """Joins the lists of all workers into one page, with the best copy of each partition."""
    best = {partition: found for partition in range(partitions) if (found := _best(told, partition)) is not None}
    keys = sorted((key for at, (_, copy) in best.items() for key in copy.keys.get(at, [])), key=str.encode)
    return FoundKeys(
        keys[: listing.limit],
        more=len(keys) > listing.limit,
        unanswered=[partition for partition in range(partitions) if partition not in best],
        stale=any(role != ACTIVE or at in copy.behind for at, (role, copy) in best.items()),
        lost=_sum_known([copy.lost[at] for at, (_, copy) in best.items() if at in copy.lost]),
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


def _sum_known(lost: list[int]) -> int | None:
    """How many records are lost; None when it is not known of one loss, which counts as 0."""
    return sum(lost) if all(lost) else None


def _part_of_key(part: str, text: str) -> str:
    try:
        if text:
            key_bytes(text)
    except ValueError as error:
        raise InvalidQueryError(part, text[:SHOWN], str(error).removeprefix("expected ")) from None
    return text


PATH = "/keys"


class KeysView(View):
    """The keys of a day."""

    router: ClassVar[Router]
    reader: ClassVar[SummaryReader]
    policy: ClassVar[Policy]
    long_questions: ClassVar[LongQuestions]
    partitions: ClassVar[int]

    async def get(self, request: Any) -> Any:
        """A page of keys; to another worker, what this one holds."""
        accept = request.headers.get("Accept", "")
        listing = Listing.of(request.rel_url.raw_query_string, accept, self.policy, time.time())
        if self.router.peers.sent(request):
            return await self._local(listing)
        prefixes = caller_of(request).within(listing.prefix)
        if not prefixes:
            raise ForbiddenError("the token is for keys that begin otherwise")
        pages = []
        for prefix in prefixes:
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
        if len(found.unanswered) == self.partitions:
            raise OwnerUnavailableError("no worker can answer for any partition now")
        if found.unanswered and listing.format == CSV:
            raise OwnerUnavailableError(
                f"no worker can answer for partitions {found.unanswered}, and a table of keys cannot say so; JSON can"
            )
        last = found.keys[-1] if found.more else None
        page = {
            "date": listing.date,
            "limit": listing.limit,
            "prefix": listing.prefix,
            "after": last,
            FORMAT: listing.format,
        }
        document = {
            "date": listing.date,
            "prefix": listing.prefix,
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
        return respond(request, sheet, listing.format)
