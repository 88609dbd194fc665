"""Questions about a key, over HTTP, answered by any worker: `question.py` has the forms of their URLs.

Called by `app`.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import faust
from aiohttp import web
from faust.web import View

from metrics_app.errors import BusyError, NoDataError
from metrics_app.holdings import Owners, SummaryReader
from metrics_app.http import tls
from metrics_app.http.access import Access, caller_of
from metrics_app.http.problems import problem_of
from metrics_app.http.proof import ROLE, ClusterSecret
from metrics_app.query.all_workers import AllWorkers
from metrics_app.query.answer import UNDER
from metrics_app.query.at_once import AnswersAtOnce
from metrics_app.query.compared import COMPARE, Compared
from metrics_app.query.exported import FORMATS as EXPORT_FORMATS
from metrics_app.query.exported import HISTOGRAM, Exported
from metrics_app.query.federated import PATH as FEDERATE_PATH
from metrics_app.query.federated import FederateView
from metrics_app.query.keys import PATH as KEYS_PATH
from metrics_app.query.keys import KeysView
from metrics_app.query.members import Members
from metrics_app.query.merged import PATH as MERGE_PATH
from metrics_app.query.merged import MergeView
from metrics_app.query.peers import Peers, most_bytes
from metrics_app.query.question import FORMAT, Policy, Question, one_of, question_of
from metrics_app.query.ranked_keys import RankedKeys
from metrics_app.query.ranking import HeldCopies
from metrics_app.query.reading import RANKINGS_AT_ONCE, LongQuestions, Rows
from metrics_app.query.reply import FORMATS, Sheet, format_of, packed, respond
from metrics_app.query.routing import CONSISTENCY, Router
from metrics_app.query.statistics import Share, Statistic
from metrics_app.settings import Settings
from metrics_app.telemetry import Telemetry
from metrics_app.wire.metric_key import key_bytes
from metrics_app.wire.partition import partition_of

# aiohttp's own `{key}` takes no braces, not even encoded ones
RANGE_PATH = "/{key:[^/]+}/{stat}"
PATHS = (RANGE_PATH, RANGE_PATH + "/{date}", RANGE_PATH + "/{date}/{hour}")

ALWAYS = (FORMAT, CONSISTENCY)


class KeyQuestion(Protocol):
    """Something that can be answered from the rows of one key."""

    @property
    def question(self) -> Question:
        """What was asked."""

    @staticmethod
    def parameters(in_path: bool, policy: Policy) -> tuple[str, ...]:
        """Names of the query parameters that this question allows; `in_path` says whether the path names the time."""

    @classmethod
    def of(cls, question: Question, policy: Policy) -> Self:
        """Parses the question; raises InvalidQueryError that names the malformed part."""

    async def answer(self, rows: Rows) -> Sheet:
        """Makes the answer; raises NoDataError when nothing was recorded."""


# what else than a statistic may be asked
WORDS: dict[str, type[KeyQuestion]] = {UNDER: Share, COMPARE: Compared, HISTOGRAM: Exported}


class Understood(NamedTuple):
    """A request whose every part has been checked."""

    asked: KeyQuestion
    format: str

    @property
    def is_short(self) -> bool:
        """Whether it is a statistic of one hour, which is never packed: `at_once` gives the same bytes."""
        return isinstance(self.asked, Statistic) and self.asked.question.window.form == "hour"


def understood(request: web.Request, segments: dict[str, str], policy: Policy) -> Understood:
    """Parses the question of a request, before any other worker is asked.

    Raises:
        InvalidQueryError: naming the part.
    """
    kind: type[KeyQuestion] = WORDS.get(segments["stat"], Statistic)
    allowed = (*ALWAYS, *kind.parameters("date" in segments, policy))
    raw_path, raw_query = request.rel_url.raw_path, request.rel_url.raw_query_string
    question = question_of(raw_path, raw_query, segments, allowed, policy, time.time())
    if FORMAT in question.given:
        one_of(FORMAT, question.given[FORMAT], EXPORT_FORMATS if kind is Exported else FORMATS)
    return Understood(kind.of(question, policy), format_of(question.given, request.headers.get("Accept", "")))


def at_once(settings: Settings, telemetry: Telemetry, reader: SummaryReader, access: Access) -> AnswersAtOnce:
    """What answers plain questions past aiohttp."""
    return AnswersAtOnce(reader, Policy.of(settings), settings.partitions, telemetry, access.passes)


def register(app: faust.App, settings: Settings, telemetry: Telemetry, reader: SummaryReader, owners: Owners) -> Router:
    """Add the query views, and the connections to other workers, which start before the HTTP server."""
    policy = Policy.of(settings)
    peers = Peers(
        telemetry,
        connect_s=settings.connect_timeout_s,
        most_bytes=most_bytes(policy.page),
        secret=ClusterSecret(settings.cluster_token.get_secret_value(), settings.clock_tolerance_s),
        accept_old=settings.cluster_token_accept_old,
        members=Members(settings.peers),
        tls=tls.client_side(settings),
    )
    app.web.add_dependency(peers)
    router = Router(reader, owners, peers, deadline_s=settings.query_deadline_s)
    members: dict[str, Any] = {"router": router, "reader": reader, "policy": policy, "partitions": settings.partitions}
    members["long_questions"] = LongQuestions(settings.query_deadline_s)
    members["telemetry"] = telemetry
    rankings = LongQuestions(settings.query_deadline_s, RANKINGS_AT_ONCE, BusyError)
    held = HeldCopies(reader, settings.partitions, rankings)
    workers = AllWorkers(router, held, settings.ranking_deadline_s)
    ranked = RankedKeys(workers, policy)
    app.page(KEYS_PATH)(type("BoundKeysView", (KeysView,), {**members, "ranked": ranked}))
    app.page(FEDERATE_PATH)(type("BoundFederateView", (FederateView,), {"ranked": ranked}))
    app.page(MERGE_PATH)(type("BoundMergeView", (MergeView,), {"workers": workers, "policy": policy}))
    for path in PATHS:
        app.page(path)(type("BoundKeyView", (KeyView,), members))
    return router


class KeyView(View):
    """Questions about one key."""

    router: ClassVar[Router]
    telemetry: ClassVar[Telemetry]
    reader: ClassVar[SummaryReader]
    policy: ClassVar[Policy]
    partitions: ClassVar[int]
    long_questions: ClassVar[LongQuestions]

    async def get(self, request: Any, **segments: str) -> Any:
        """The answer, from here or from the worker that holds the key; 304 for a known ETag."""
        what = understood(request, segments, self.policy)
        caller_of(request).check_key(what.asked.question.key)
        partition = partition_of(key_bytes(what.asked.question.key), self.partitions)
        began_s = time.perf_counter()
        reply = await self.router.answer(request, partition, lambda: self.local(request, what, partition))
        is_for_worker = self.router.peers.sent(request)
        asker = "worker" if is_for_worker else "client"
        self.telemetry.query_latency.labels(reply.headers[ROLE], asker).observe(time.perf_counter() - began_s)
        return reply if is_for_worker or what.is_short else packed(request, reply)

    async def local(self, request: web.Request, what: Understood, partition: int) -> web.Response:
        """Answers from the copy that this worker holds.

        Raises:
            OwnerUnavailableError: none is, or it is a standby without the rows, which the owner may have.
        """
        if self.reader.holds(partition) is None:
            raise self.reader.unavailable(partition)
        rows = Rows(self.reader, partition, key_bytes(what.asked.question.key), self.long_questions)
        try:
            sheet = await what.asked.answer(rows)
            reply = respond(request, sheet, what.format)
        except NoDataError as error:  # an answer like any other: it goes back to the worker that asked
            reply = problem_of(error)
        reply.headers[ROLE] = rows.role  # in which it was read: it may have waited, and partitions move meanwhile
        return reply
