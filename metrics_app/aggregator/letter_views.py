"""`/admin/dead-letters`: what could not be folded, and bringing it back, for the page and whoever may.

Called by `app`.

    GET /admin/dead-letters                     the newest letters, with why and what is in them
    POST /admin/dead-letters/replay?only=fold   those of that reason, or all, to the samples topic again

Both need the scope admin, and a token that is for all keys. One is answered at a time, within bounds: this process
folds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import faust
from aiohttp import web
from aiokafka.errors import KafkaError
from faust.web.drivers.aiohttp import Web

from metrics_app.aggregator import letter_box
from metrics_app.aggregator.dead_letters import Letter
from metrics_app.errors import FormatError, MetricsError
from metrics_app.http.access import caller_of
from metrics_app.http.not_admitted import ForbiddenError
from metrics_app.http.problems import json_reply
from metrics_app.settings import Settings
from metrics_app.wire import record

PATH = "/admin/dead-letters"
REPLAY = f"{PATH}/replay"
MOST_BYTES = 32 << 20  # of all letters; the command has no such bound
PATIENCE_S = 30.0
LISTED = 100
KEYS_SHOWN, BYTES_SHOWN = 5, 64

_NOW = {"Cache-Control": "no-store"}


class LettersUnreadError(MetricsError):
    """Kafka did not answer in time, or another one is served."""

    status = 503
    title = "Dead letters cannot be read now"
    retriable = True


def register(app: faust.App, settings: Settings) -> None:
    """Lets the app serve both."""
    router = cast(Web, app.web).web_app.router
    views = LetterViews(settings)
    router.add_get(PATH, views.listed)
    router.add_post(REPLAY, views.replayed)


class LetterViews:
    """Both views of one process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turn = asyncio.Lock()

    async def listed(self, request: web.Request) -> web.Response:
        """The newest letters, and how many there are.

        Raises:
            ForbiddenError: the token is for some keys.
            LargeTopicError, LettersUnreadError: they cannot be read here, or now.
        """
        async with self._alone(request):
            found = await letter_box.read(self._settings, MOST_BYTES)
        letters = [described(each) for each in found.waiting[: -LISTED - 1 : -1]]
        return json_reply(
            {"count": len(found.waiting), "no_letters": len(found.left_out), "letters": letters}, headers=_NOW
        )

    async def replayed(self, request: web.Request) -> web.Response:
        """Brings letters back; says how many, and how many stay.

        Raises:
            ForbiddenError, LargeTopicError, LettersUnreadError: as of `listed`. What was sent before is counted once
                when it is sent again.
        """
        async with self._alone(request):
            found = await letter_box.read(self._settings, MOST_BYTES)
            done: Counter[str] = await letter_box.replay(self._settings, found.waiting, request.query.get("only"))
        return json_reply({name: done[name] for name in ("replayed", "unreadable", "other")}, headers=_NOW)

    @asynccontextmanager
    async def _alone(self, request: web.Request) -> AsyncIterator[None]:
        if caller_of(request).prefixes:
            raise ForbiddenError("letters have any key in them, and the token is for some keys only")
        if self._turn.locked():
            raise LettersUnreadError("somebody else reads or replays them now")
        async with self._turn:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    yield
            except (KafkaError, OSError, TimeoutError) as error:
                raise LettersUnreadError(f"Kafka did not answer: {error!r}") from error


def described(letter: Letter) -> dict[str, Any]:
    """A letter as JSON: where it came from, why it is one, and the first of its keys or bytes."""
    try:
        chunks = record.decode(letter.value)
    except FormatError:
        text, readable = letter.value[:BYTES_SHOWN].hex(" "), False
    else:
        shown = [f"{each.key.decode(errors='replace')}: {each.count}" for each in chunks[:KEYS_SHOWN]]
        text, readable = ", ".join(shown) + (", ..." if len(chunks) > KEYS_SHOWN else ""), True
    facts = {"reason": letter.reason, "timestamp_ms": letter.timestamp_ms, "bytes": len(letter.value)}
    return {**letter.origin._asdict(), **facts, "readable": readable, "text": text}
