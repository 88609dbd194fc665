"""`POST /samples`: takes a body and answers 202 with what was taken, after Kafka has it.

Called by `app`.

Which body came under which idempotency key, as far as this collector has seen and remembers.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from hashlib import blake2b
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol, cast

import faust
from aiohttp import web
from faust.web.drivers.aiohttp import Web

from metrics_app.collector import body
from metrics_app.collector.body import Parsing, RequestBody
from metrics_app.collector.publisher import Publisher, not_kept
from metrics_app.collector.senders import Admits, SenderAccount, Senders
from metrics_app.errors import (
    ForbiddenSamplesError,
    InvalidBodyError,
    InvalidQueryError,
    KeyReuseError,
    OverloadedError,
)
from metrics_app.faust_runtime.small_requests import MOST_BODY_BYTES, ROUTES, SmallRequest, SmallRoute
from metrics_app.http.access import Access, caller_of
from metrics_app.http.problems import Check, Health, answering, json_reply
from metrics_app.http.tokens import ANYBODY
from metrics_app.settings import Settings
from metrics_app.telemetry import Telemetry
from metrics_app.wire import bodies, dropped
from metrics_app.wire.chunk import Chunk
from metrics_app.wire.ownership import FORBIDDEN, NO_OWNER, Owner

PATH = "/samples"
TOP_SENDERS = "/admin/top-senders"
DAY_S = 86_400
HOUR_S = 3600
JSON = {"Content-Type": "application/json"}
# a value with its id takes 24 bytes of a record; the rest is room for key and header
BYTES_A_VALUE = 48
OUT_OF_BOUNDS = {"timestamp", "hour"}  # rejected for these reasons, a sample may be right by another clock

UNUSUAL = ("Idempotency-Key", dropped.HEADER)  # of the headers that the lane takes, those that mean something here

_IDEMPOTENCY_KEY = re.compile(r'"([ -~]{1,255})"|([!#-~][ -~]{0,254})')


class Collection(NamedTuple):
    """What takes samples in: the publisher has to run for it."""

    publisher: Publisher
    intake: SampleIntake


def register(
    app: faust.App, settings: Settings, telemetry: Telemetry, health: Health, access: Access, topics: Check
) -> Collection:
    """Adds the view to the app.

    Args:
        access: who may come in; the middleware asks it, and the lane for small requests whether it need not be asked.
        topics: why nothing may be put into the topics, though Kafka is there.
    """
    publisher = Publisher(settings, telemetry, topics)
    health.checks["hour"] = publisher.clocks.doubt
    health.warnings["clock of the collector"] = publisher.clocks.warning
    intake = SampleIntake(settings, telemetry, publisher, publisher.doubt)
    add_view(app, intake)
    if settings.small_request_lane:
        web_app = cast(Web, app.web).web_app
        answer = answering(telemetry, PATH, intake.take)
        route = SmallRoute(answer, takes=access.passes, is_dated=lambda: publisher.clocks.is_vouched_for)
        add_lane(web_app, settings, route)

    async def hide_date(_request: web.Request, response: web.StreamResponse) -> None:
        if not publisher.clocks.is_vouched_for:  # clients set their clocks by it
            response.headers.pop("Date", None)

    cast(Web, app.web).web_app.on_response_prepare.append(hide_date)
    return Collection(publisher, intake)


def add_view(app: faust.App, intake: SampleIntake) -> None:
    """Let the app answer `POST /samples` with what the intake says.

    Straight from aiohttp's router: a Faust page makes a view for each request and tells its sensors, which takes longer
    than all else of a small one.
    """
    router = cast(Web, app.web).web_app.router
    router.add_post(PATH, intake.take, expect_handler=body.expect)
    router.add_get(TOP_SENDERS, intake.top_senders)


def add_lane(app: web.Application, settings: Settings, route: SmallRoute) -> None:
    """Let small requests that arrive whole be answered past aiohttp, with the same bytes."""
    if settings.max_body_bytes >= MOST_BODY_BYTES:  # else a body that is not taken could be among them
        app.setdefault(ROUTES, {})["POST", PATH] = route


class Sink(Protocol):
    """Where an intake puts chunks; a `Publisher`."""

    async def publish(self, chunks: Sequence[Chunk]) -> None:
        """Returns when they are durable; raises OverloadedError when they cannot be known to be."""


class SampleIntake:
    """What one collector does with a request. Its counters close: received = accepted + rejected + refused.

    Args:
        doubt: why our clock may be wrong; what it says is out of bounds is then refused for now, not rejected for good.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry, sink: Sink, doubt: Check = lambda: None) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._sink = sink
        self._doubt = doubt
        self._repeats = KnownRequests(settings.max_remembered_keys)
        limits = bodies.BodyLimits(
            max_items=settings.max_items,
            max_rows=settings.max_rows,
            max_ahead_s=settings.max_ahead_s,
            retention_s=settings.retention_days * DAY_S,
            chunk_values=settings.max_record_bytes // BYTES_A_VALUE,
        )
        self._bodies = body.BodyReader(settings.max_body_bytes, settings.body_timeout_s, settings.max_incoming_bytes)
        self._senders = Senders(settings.max_rows_an_hour, settings.max_rows_of_a_client)
        self._parsing = Parsing(limits, settings.max_inflated_bytes, settings.body_timeout_s)

    async def take(self, request: web.Request | SmallRequest) -> web.Response:
        """The reply to one POST.

        Raises:
            InvalidBodyError: nothing in it can be kept, or it is too large, too slow, in a foreign type, or under the
                idempotency key of another one.
            ForbiddenSamplesError: every key in it is somebody else's.
            OverloadedError: it cannot be kept now.
        """
        if isinstance(request, SmallRequest) and (chunk := self._lone(request)) is not None:
            return await self._take_lone(chunk, request)
        parsed = await self.taken(request)
        if parsed.reasons and not parsed.accepted:
            error = ForbiddenSamplesError if parsed.reasons.keys() == {FORBIDDEN} else InvalidBodyError
            raise error(_none_kept(parsed), [asdict(rejection) for rejection in parsed.rejected])
        return _reply(parsed)

    async def taken(self, request: web.Request | SmallRequest, read: body.Reading = body.read_samples) -> bodies.Parsed:
        """What was kept of the body of a request, and what was not; returns when Kafka has it.

        Args:
            read: takes the body apart.

        Raises:
            InvalidBodyError: as `take`, but not when every item is rejected.
            OverloadedError: it cannot be kept now.
        """
        caller = ANYBODY if isinstance(request, SmallRequest) else caller_of(request)
        owner = Owner(caller.name, caller.prefixes) if caller.name else NO_OWNER
        request_id = owner.request_id(idempotency_key(request))
        lost = dropped.read(request.headers.get(dropped.HEADER, ""))
        gzipped, content_type = body.is_gzipped(request), request.headers.get("Content-Type", "")
        sent = request.body if isinstance(request, SmallRequest) else await self._bodies.read(request)
        client, now_s = caller.name or request.remote or "", time.time()
        account, admits = self._senders.account(client), self._senders.admission(client, now_s)
        whole = RequestBody(sent, content_type, gzipped, request_id, client, admits, owner, read)
        inflated, parsed = await self._parsing.parse(whole, now_s)
        self._believe(parsed)
        self._count_in(parsed)
        account.read(len(sent), parsed.reasons.total())
        if not parsed.accepted and parsed.reasons:
            return parsed
        try:
            with self._repeats.under(request_id, inflated):
                await self._keep(parsed.chunks, parsed.accepted, account)
        except KeyReuseError:
            self._telemetry.rejected.labels("key-reuse").inc(parsed.accepted)
            raise
        for reason, values in lost.items():  # only now: a client tells it again until it is answered 202
            self._telemetry.client_dropped.labels(reason).inc(values)
        return parsed

    def admission(self, client: str, now_s: float) -> Admits:
        """Tells of each key and hour whether the client, here or by another way in, may send values for it."""
        return self._senders.admission(client, now_s)

    def _lone(self, request: SmallRequest) -> Chunk | None:
        """The only sample of a body, of now and of anybody, as most requests bring; None: it needs a closer look."""
        headers, now_s = request.headers, time.time()
        if any(name in headers for name in UNUSUAL) or not self._parsing.has_room_for(len(request.body)):
            return None
        sample = bodies.lone_sample(request.body, headers.get("Content-Type", ""))
        if sample is None:
            return None
        key, value = sample
        hour = int(now_s // HOUR_S)
        refused = self._senders.admission(request.remote, now_s)([(key, hour)])
        return None if refused else Chunk(key, hour, value)

    async def _take_lone(self, chunk: Chunk, request: SmallRequest) -> web.Response:
        """The same as for any other request, of which most does not concern this one."""
        account = self._senders.account(request.remote)
        self._telemetry.received.inc()
        account.read(len(request.body), 0)
        await self._keep([chunk], 1, account)
        return ONE_TAKEN

    def _believe(self, parsed: bodies.Parsed) -> None:
        if OUT_OF_BOUNDS & parsed.reasons.keys() and (doubt := self._doubt()) is not None:
            self._telemetry.received.inc(parsed.received)
            self._telemetry.refused.labels("clock").inc(parsed.received)
            raise not_kept(f"it cannot be told whether timestamps are within bounds: {doubt}", "clock")

    def _count_in(self, parsed: bodies.Parsed) -> None:
        self._telemetry.received.inc(parsed.received)
        for reason, values in parsed.reasons.items():
            self._telemetry.rejected.labels(reason).inc(values)

    async def _keep(self, chunks: Sequence[Chunk], values: int, account: SenderAccount) -> None:
        try:
            await self._sink.publish(chunks)
        except BaseException as error:
            account.refused += values
            self._telemetry.refused.labels(_refusal(error)).inc(values)
            raise
        account.accepted += values
        self._telemetry.accepted.inc(values)

    async def top_senders(self, request: web.Request) -> web.Response:
        """The clients with most of what `?by=` names, rows if nothing.

        Raises:
            InvalidQueryError: it names no figure of an account.
        """
        by = request.query.get("by", "rows")
        if by not in SenderAccount.__struct_fields__:
            raise InvalidQueryError("by", by[:100], " or ".join(SenderAccount.__struct_fields__))
        return json_reply(self._senders.top(by), headers={"Cache-Control": "no-store"})


def idempotency_key(request: web.Request | SmallRequest) -> bytes:
    """The text of the Idempotency-Key header, quoted or bare; empty without one.

    Raises:
        InvalidBodyError: it is given twice, or is not 1 to 255 printable ASCII characters.
    """
    given = request.headers.getall("Idempotency-Key", [])
    if not given:
        return b""
    match = _IDEMPOTENCY_KEY.fullmatch(given[0])
    if match is None or len(given) > 1:
        raise InvalidBodyError("Idempotency-Key: expected one text of 1 to 255 printable ASCII characters")
    return (match[1] or match[2]).encode()


def _taken(values: int) -> web.Response:
    body = b'{"accepted":%d,"rejected":[]}\n' % values
    return web.Response(body=body, status=HTTPStatus.ACCEPTED, headers=JSON)


ONE_TAKEN = _taken(1)  # to be written by the lane alone: aiohttp notes in a reply that it was sent


def _reply(parsed: bodies.Parsed) -> web.Response:
    if not parsed.reasons:
        return _taken(parsed.accepted)
    reply: dict[str, Any] = {"accepted": parsed.accepted, "rejected": [asdict(item) for item in parsed.rejected]}
    if parsed.reasons.total() > len(parsed.rejected):
        reply["rejected_count"] = parsed.reasons.total()
    return json_reply(reply, HTTPStatus.ACCEPTED)


def _none_kept(parsed: bodies.Parsed) -> str:
    count = parsed.reasons.total()
    return f"none of {count:,} samples can be kept; the first: {parsed.rejected[0].detail}"


def _refusal(error: BaseException) -> str:
    if isinstance(error, OverloadedError):
        return error.reason
    return "disconnect" if isinstance(error, asyncio.CancelledError) else "bug"


DIGEST_BYTES = 16
_NO_KEY = nullcontext()


class KnownRequests:
    """The digests of the last bodies sent under an idempotency key, the least recently seen forgotten first.

    A key with another body is a mistake of the client: its values would be taken for a repetition and left out. It is
    only found where the same collector has seen the key; every body counts at most once in any case. What is compared
    are the bytes: none are samples in more than one of the forms a body may have, so its content type says nothing new.

    Args:
        limit: keys remembered; each takes about 200 bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._digests: OrderedDict[bytes, bytes] = OrderedDict()

    def under(self, request_id: bytes, body: bytes) -> AbstractContextManager[None]:
        """Within it a usable body is kept under its key, if it has one; what was not is not remembered.

        Raises:
            KeyReuseError: the key came with another body.
        """
        return self._under(request_id, body) if request_id else _NO_KEY

    @contextmanager
    def _under(self, request_id: bytes, body: bytes) -> Iterator[None]:
        name, digest = _digest(request_id), _digest(body)
        before = self._digests.get(name)
        if before not in (None, digest):
            raise KeyReuseError
        self._note(name, digest)
        try:
            yield
        except OverloadedError as error:
            if error.nothing_kept and before is None:
                self._digests.pop(name, None)
            raise
        self._note(name, digest)

    def _note(self, name: bytes, digest: bytes) -> None:
        self._digests[name] = digest
        self._digests.move_to_end(name)
        if len(self._digests) > self._limit:
            self._digests.popitem(last=False)


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=DIGEST_BYTES).digest()
