"""Finds a worker that holds the partition of a question: this one, else one forward to the owner, a standby, or any
other.

Called by `keys` and `views`.

Promises: an answer or a 503 within the deadline whatever other workers do; a forwarded request is never forwarded
again, so no two workers can play ping-pong with it; only URLs that `Owners` gives are contacted. An answer of the owner
is taken at once, that of a standby when no owner answers, that of a copy which is still catching up when nobody else
does; `?consistency=strong` takes the owner's or none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from metrics_app.errors import InvalidQueryError, OwnerUnavailableError, Progress
from metrics_app.holdings import ACTIVE, RECOVERING, Owners, SummaryReader
from metrics_app.http.proof import ROLE
from metrics_app.query.peers import PeerReply, Peers

CONSISTENCY = "consistency"
ANY, STRONG = "any", "strong"

Local = Callable[[], Awaitable[web.Response]]


def is_strong(request: web.Request) -> bool:
    """Whether only an answer of the owner is wanted.

    Raises:
        InvalidQueryError: naming the part consistency.
    """
    wanted = request.query.get(CONSISTENCY, ANY)
    if wanted not in (ANY, STRONG):
        raise InvalidQueryError(CONSISTENCY, wanted[:100], f"{ANY} or {STRONG}")
    return wanted == STRONG


class Router:
    """Answers through whoever holds the partition.

    Args:
        peers: a service; it must run while questions come.
        deadline_s: longest time for one answer, shared fairly among the workers still to be asked.
    """

    def __init__(self, reader: SummaryReader, owners: Owners, peers: Peers, *, deadline_s: float) -> None:
        self.reader = reader
        self.owners = owners
        self.peers = peers
        self.deadline_s = deadline_s

    async def answer(self, request: web.Request, partition: int, local: Local) -> web.Response:
        """Answers with `local` if this worker owns the key or another worker asks; otherwise asks a holder of the key.

        Args:
            local: gives the answer of the copy held here, its role in the header ROLE, or raises OwnerUnavailableError.
        Raises:
            InvalidQueryError: a consistency that there is not.
            OwnerUnavailableError: nobody who may answer did in time; it says what is being recovered.
        """
        search = _Search(self, request, local, is_strong(request))
        if self.peers.sent(request):
            found = await search.through([self.owners.url], [], self._time_for(request))
        else:
            found = await search.through(*self._candidates(partition), self.deadline_s)
        if found is None:
            raise search.failure()
        return found

    async def gather(
        self, request: web.Request, local: Local, most_s: float | None = None
    ) -> dict[str, web.Response | None]:
        """Asks every worker of the group; the answers by base URL, None for one that did not answer in time.

        For questions about all partitions: every worker is asked at once, this one through `local`, and each reply
        must carry the header ROLE. A request that another worker sent is asked here only.

        Args:
            most_s: longest time, if not that of any answer.
        """
        own = self.owners.url
        urls = {own} if self.peers.sent(request) else {own, *self.owners.members()}
        search = _Search(self, request, local, strong=False)
        within_s = self._time_for(request, most_s)
        replies = await asyncio.gather(*(search.one(url, within_s) for url in urls))
        return dict(zip(urls, replies, strict=True))

    def _time_for(self, request: web.Request, most_s: float | None = None) -> float:
        most_s = self.deadline_s if most_s is None else most_s
        return self.peers.time_for(request, most_s) if self.peers.sent(request) else most_s

    def _candidates(self, partition: int) -> tuple[list[str], list[str]]:
        """The workers that should hold the partition, by the map and by what is held here, and all other workers."""
        held, ours = self.reader.holds(partition), self.owners.url
        listed = self.owners.owners(partition)
        if held == ACTIVE:
            listed = [ours, *listed]
        elif held:
            listed = [*listed, ours]
        # one that failed a moment ago is asked last, not never: it may be the only one that has the key
        holders = sorted(dict.fromkeys(listed), key=self.peers.is_avoided)
        return holders, [url for url in self.owners.members() if url not in {*holders, ours}]


class _Search:
    """The way of one request from worker to worker."""

    def __init__(self, router: Router, request: web.Request, local: Local, strong: bool) -> None:
        self.router = router
        self.request = request
        self.local = local
        self.strong = strong
        self.asked = 0
        self.second_best: web.Response | None = None
        self.recovering: dict[int, Progress] = {}
        self.why_not_here = ""

    async def through(self, holders: list[str], others: list[str], within_s: float) -> web.Response | None:
        """Asks the holders one after another, then the others: one may hold the partition since the map was made."""
        clock = asyncio.get_running_loop().time
        end = clock() + within_s
        for nth, url in enumerate(holders):
            if self.second_best is not None and self.router.peers.is_avoided(url):
                continue
            share = (end - clock()) / (len(holders) - nth + bool(others))
            if found := self._taken(await self.one(url, share)):
                return found
        return self.second_best or await self._first_of(others, end - clock())

    async def _first_of(self, urls: list[str], within_s: float) -> web.Response | None:
        """The first answer of workers that are asked at the same time."""
        asking = [asyncio.ensure_future(self.one(url, within_s)) for url in urls]
        try:
            for each in asyncio.as_completed(asking):
                if found := self._taken(await each):
                    return found
        finally:
            for one in asking:
                one.cancel()
        return self.second_best

    def _taken(self, reply: web.Response | None) -> web.Response | None:
        """The reply if it is good enough that no other worker need be asked."""
        role = None if reply is None else reply.headers[ROLE]
        if role == RECOVERING and not self.strong:
            self.second_best = self.second_best or reply
            return None
        return reply if role == ACTIVE or not self.strong else None

    async def one(self, url: str, within_s: float) -> web.Response | None:
        """Asks one worker, which may be this one, and takes the answer of any role; None when it does not answer.

        A worker for which no time is left is not asked: it would count as one that did not answer.
        """
        if within_s <= 0.0:
            return None
        self.asked += 1
        if url == self.router.owners.url:
            asked = await self._here(within_s)
        else:
            asked = await self.router.peers.ask(url, self.request, within_s)
        self.recovering |= {each.partition: each for each in asked.recovering}
        return asked.reply

    async def _here(self, within_s: float) -> PeerReply:
        try:
            async with asyncio.timeout(within_s):
                return PeerReply(await self.local(), [])
        except TimeoutError:
            self.why_not_here = "; here: it takes too long, other long questions may come before it"
            return PeerReply(None, [])
        except OwnerUnavailableError as error:
            self.why_not_here = f"; here: {error.detail}"
            return PeerReply(None, error.recovering)

    def failure(self) -> OwnerUnavailableError:
        """The error that says why no worker answered."""
        who = "the owner of this key cannot" if self.strong else "nobody who holds this key can"
        return OwnerUnavailableError(
            f"{who} answer now; asked {self.asked}{self.why_not_here}", [*self.recovering.values()]
        )
