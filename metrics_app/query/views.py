"""GET /<key>/<stat>/<YYYY-MM-DD>/<hour>, answered by any worker."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

import faust
from aiohttp import web
from faust.web import View

from metrics_app import tls
from metrics_app.errors import InvalidQueryError, NoDataError, OwnerUnavailableError
from metrics_app.holdings import ACTIVE, Found, Owners, SummaryReader
from metrics_app.query.answer import SUMMARY, Question, caching, document
from metrics_app.query.peers import ROLE, Peers
from metrics_app.query.routing import Router
from metrics_app.settings import Settings
from metrics_app.stats import hour as hours
from metrics_app.stats.summary import parse_stat
from metrics_app.telemetry import Telemetry
from metrics_app.web import json_reply, problem_of
from metrics_app.wire.keys import key_bytes, partition_of

# aiohttp's own `{key}` takes no braces, not even encoded ones
HOUR_PATH = "/{key:[^/]+}/{stat}/{date}/{hour}"

_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_SHOWN = 100


def register(app: faust.App, settings: Settings, telemetry: Telemetry, reader: SummaryReader, owners: Owners) -> Router:
    """Add the query view, and the connections to other workers, which start before the HTTP server."""
    token = settings.cluster_token.get_secret_value()
    peers = Peers(telemetry, connect_s=settings.connect_timeout_s, token=token, tls=tls.client_side(settings))
    app.web.add_dependency(peers)
    router = Router(reader, owners, peers, deadline_s=settings.query_deadline_s)
    members = {"router": router, "reader": reader, "unit": settings.unit, "partitions": settings.partitions}
    app.page(HOUR_PATH)(type("BoundHourView", (HourView,), members))
    return router


def key_of(raw_path: str) -> str:
    """The key in the first segment of a path as it was received.

    Raises:
        InvalidQueryError: naming the part "key".
    """
    # not the framework's decoding: it takes %zz and %ff as they stand, and the row of another key would answer
    segment = raw_path.split("/")[1]
    try:
        if _BAD_ESCAPE.search(segment):
            raise ValueError("expected percent-encoding: % and two hexadecimal digits, %25 for % itself")
        key = unquote_to_bytes(segment.encode("utf-8", "surrogateescape")).decode()
        key_bytes(key)
    except UnicodeDecodeError:
        raise InvalidQueryError("key", segment[:_SHOWN], "percent-encoded UTF-8") from None
    except ValueError as error:
        raise InvalidQueryError("key", segment[:_SHOWN], str(error).removeprefix("expected ")) from None
    return key


def question_of(raw_path: str, stat: str, date: str, hour: str) -> Question:
    """What is asked; every part is checked here, before anybody else is.

    Raises:
        InvalidQueryError: naming the part key, stat, date or hour.
    """
    key = key_of(raw_path)
    if stat != SUMMARY:
        parse_stat(stat)
    return Question(key, stat, hours.parse(date, hour))


class HourView(View):
    """One statistic, or all, of one key in one hour."""

    router: ClassVar[Router]
    reader: ClassVar[SummaryReader]
    unit: ClassVar[str]
    partitions: ClassVar[int]

    async def get(self, request: Any, stat: str, date: str, hour: str, **_: str) -> Any:
        """The JSON document, from here or from the worker that holds the key; 304 for a known ETag."""
        question = question_of(request.rel_url.raw_path, stat, date, hour)
        partition = partition_of(key_bytes(question.key), self.partitions)
        return await self.router.answer(request, partition, lambda: self.local(request, question, partition))

    async def local(self, request: web.Request, question: Question, partition: int) -> web.Response:
        """The answer of the copy held here.

        Raises:
            OwnerUnavailableError: none is, or it is a standby without the row, which the owner may have.
        """
        role = self.reader.holds(partition)
        if role is None:
            raise OwnerUnavailableError(f"partition {partition} is not held here, or not completely yet")
        found = self.reader.read(partition, key_bytes(question.key), question.hour)
        if found is None or not found.summary.count:
            reply = self._nothing(question, role)
        else:
            reply = self._something(request, question, found)
        reply.headers[ROLE] = role
        return reply

    def _nothing(self, question: Question, role: str) -> web.Response:
        if role != ACTIVE:
            raise OwnerUnavailableError("the owner of this key cannot be asked, and its standby does not have it yet")
        start = hours.iso(hours.start(question.hour))
        return problem_of(NoDataError(f"nothing was recorded for key {question.key!r} in the hour from {start}"))

    def _something(self, request: web.Request, question: Question, found: Found) -> web.Response:
        answer = document(question, found, self.unit)
        headers = caching(answer)
        known = {tag.value for tag in request.if_none_match or ()}
        if "ETag" in headers and known & {"*", headers["ETag"].strip('"')}:
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        return json_reply(answer, headers=headers)
