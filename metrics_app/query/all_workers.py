"""Asks all workers about keys that any of them may hold, and once more for any copy of what no owner answered for.

Called by `merged`, `ranked_keys` and `views`.

Every worker answers for the partitions that it owns, so each row is looked at once as long as all workers are well.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import msgspec
from aiohttp import web

from metrics_app.errors import UNREADABLE, FormatError, SlowRankingError
from metrics_app.holdings import ACTIVE
from metrics_app.http.access import caller_of
from metrics_app.http.not_admitted import ForbiddenError
from metrics_app.http.problems import json_reply
from metrics_app.http.proof import ROLE
from metrics_app.query.question import DAY_HOURS
from metrics_app.query.ranking import HeldCopies
from metrics_app.query.routing import Router

PREFIX = "prefix"
COPIES = "copies"  # between workers: of which partitions any copy is wanted


class ToldHere(Protocol):
    """What one worker says; a Struct that goes as JSON."""

    @property
    def of(self) -> str:
        """What it was asked, as it understood it."""

    @property
    def answered(self) -> Iterable[int]:
        """The partitions that it has answered for."""


Told = TypeVar("Told", bound=ToldHere, covariant=True)


class AskedOfAll(Protocol[Told]):
    """A question about many keys."""

    @property
    def prefix(self) -> str:
        """What the keys begin with."""

    @property
    def copies(self) -> list[int] | None:
        """Partitions of which any copy is wanted; None: all that are owned here."""

    @property
    def identity(self) -> str:
        """What tells it from another question, on every worker alike."""

    def of_copies(self, copies: list[int]) -> Self:
        """The same question of any copies."""

    async def here(self, held: HeldCopies) -> Told:
        """The answer of this worker; raises OwnerUnavailableError."""


@dataclass(frozen=True)
class AllWorkers:
    """All workers, of which this is one.

    Attributes:
        deadline_s: longest time for an answer.
    """

    router: Router
    held: HeldCopies
    deadline_s: float

    async def told(self, request: web.Request, asked: AskedOfAll[Told], kind: type[Told]) -> list[Told]:
        """What they say, of every partition that anybody answers for.

        Args:
            request: the question as a URL, for the others.

        Raises:
            SlowRankingError: none was done in time.
        """
        began_s = time.monotonic()
        found = await self._once(request, asked, kind)
        if not found and time.monotonic() - began_s >= self.deadline_s:
            raise SlowRankingError(self.deadline_s)  # copies are not read faster
        if left := unanswered(found, self.held.partitions):
            found += await self._once(request, asked.of_copies(left), kind)
        return found

    async def local(self, asked: AskedOfAll[Any]) -> web.Response:
        """The reply of this worker to another one."""
        async with self.held.long_questions.admitted(DAY_HOURS):
            here = await asked.here(self.held)
        return json_reply(msgspec.to_builtins(here, str_keys=True), headers={ROLE: ACTIVE})

    async def _once(self, request: web.Request, asked: AskedOfAll[Told], kind: type[Told]) -> list[Told]:
        query = {**request.query, PREFIX: asked.prefix}
        if asked.copies is not None:
            query[COPIES] = ",".join(map(str, asked.copies))
        request = request.clone(rel_url=request.rel_url.with_query(query))
        replies = (await self.router.gather(request, lambda: self.local(asked), self.deadline_s)).values()
        return [each for reply in replies if (each := read(reply, kind)) is not None and each.of == asked.identity]


def read(reply: web.Response | None, kind: type[Told]) -> Told | None:
    """The reply of a worker; None when it is unusable."""
    if reply is None or not isinstance(reply.body, bytes):
        return None
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except (*UNREADABLE, FormatError):
        return None


def unanswered(told: Iterable[ToldHere], partitions: int) -> list[int]:
    """The partitions that nobody has answered for."""
    answered = {number for each in told for number in each.answered}
    return [number for number in range(partitions) if number not in answered]


def prefixes_of(request: web.Request, prefix: str) -> list[str]:
    """The prefixes of the keys that are asked for and that the caller may know of.

    Raises:
        ForbiddenError: there is none.
    """
    prefixes = caller_of(request).within(prefix)
    if not prefixes:
        raise ForbiddenError("the token is for keys that begin otherwise")
    return prefixes


def numbers_of(text: str, partitions: int) -> list[int]:
    """The partitions that a text of another worker names."""
    known = {str(number): number for number in range(partitions)}
    return [known[each] for each in text.split(",") if each in known]
