"""GET /keys, answered by all workers together."""

from __future__ import annotations

import time
from typing import Any, ClassVar
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from faust.web import View

from metrics_app.errors import OwnerUnavailableError
from metrics_app.holdings import ACTIVE, SummaryReader
from metrics_app.query.keys import Found, Listing, held, joined, read_held
from metrics_app.query.parameters import FORMAT
from metrics_app.query.peers import ROLE
from metrics_app.query.question import Policy
from metrics_app.query.reply import CSV, Sheet, respond
from metrics_app.query.routing import Router
from metrics_app.web import json_reply

PATH = "/keys"


class KeysView(View):
    """The keys of a day."""

    router: ClassVar[Router]
    reader: ClassVar[SummaryReader]
    policy: ClassVar[Policy]
    partitions: ClassVar[int]

    async def get(self, request: Any) -> Any:
        """A page of keys; to another worker, what this one holds."""
        accept = request.headers.get("Accept", "")
        listing = Listing.of(request.rel_url.raw_query_string, accept, self.policy, time.time())

        async def local() -> web.Response:
            here = await held(listing, self.reader, self.partitions)
            return json_reply(msgspec.to_builtins(here, str_keys=True), headers={ROLE: ACTIVE})

        if self.router.peers.sent(request):
            return await local()
        replies = (await self.router.gather(request, local)).values()
        told = [each for reply in replies if (each := read_held(reply, listing)) is not None]
        return self._reply(request, listing, joined(listing, told, self.partitions))

    def _reply(self, request: web.Request, listing: Listing, found: Found) -> web.Response:
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
