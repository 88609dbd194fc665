"""A small service in this process that counts exactly, or on purpose does not. It keeps every value it is sent."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from aiohttp import web
from aiohttp.test_utils import TestServer

from metrics_app.verify.ledger import QUANTILES, Bag

Item = tuple[str, int, list[float]]
Fault = Callable[["FakeService", list[Item]], list[Item]]


class FakeService:
    """Takes samples in every form of a body and answers for them.

    Args:
        keep: what is kept of the items of a request; a fault drops or repeats some.
        statuses: status of each reply in turn, then 202; 0 drops the connection after keeping.
        off: factor on every quantile.
        forgets: takes a request with an idempotency key seen before for a new one.
        hides: never answers for keys that contain this.
    """

    def __init__(
        self,
        keep: Fault | None = None,
        statuses: tuple[int, ...] = (),
        off: float = 1.0,
        forgets: bool = False,
        hides: str = " ",
    ) -> None:
        self.values: dict[tuple[str, int], list[float]] = defaultdict(list)
        self.requests = 0
        self._keep = keep or (lambda _, items: items)
        self._statuses = statuses
        self._off = off
        self._forgets = forgets
        self._hides = hides
        self._seen: set[str] = set()

    @asynccontextmanager
    async def running(self, role: str = "all") -> AsyncIterator[str]:
        """The base URL, while it serves what a worker of that role does."""
        app = web.Application(client_max_size=16 << 20)
        app.router.add_get("/readyz", self.ready)
        if role != "aggregator":
            app.router.add_post("/samples", self.take)
        if role != "collector":
            app.router.add_get("/keys", self.ready)
            app.router.add_get("/{key}/{stat}/{date}/{hour}", self.answer)
        async with TestServer(app) as server:
            yield str(server.make_url("")).rstrip("/")

    async def ready(self, _request: web.Request) -> web.Response:
        """200, always."""
        return web.Response()

    async def take(self, request: web.Request) -> web.Response:
        """Keeps the samples of a request; one with an idempotency key seen before is not kept again."""
        if not await request.read():
            return web.json_response({"detail": "no samples"}, status=400)
        items = list(items_of(await request.read(), request.content_type))
        is_probe = "probe" in items[0][0]
        status = 202
        if not is_probe:
            self.requests += 1
            status = self._statuses[self.requests - 1] if self.requests <= len(self._statuses) else 202
        again = request.headers.get("Idempotency-Key", "")
        if status in (0, 202, 503) and again not in self._seen:
            for key, hour, values in items if is_probe else self._keep(self, items):
                self.values[key, hour] += values
            self._seen |= set() if self._forgets else {again} - {""}
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"accepted": sum(len(values) for _, _, values in items)}, status=status or 500)

    async def answer(self, request: web.Request) -> web.Response:
        """The summary, or the count, of one key and hour."""
        match = request.match_info
        hour = int(datetime.fromisoformat(f"{match['date']}T{int(match['hour']):02}").replace(tzinfo=UTC).timestamp())
        values = self.values.get((match["key"], hour // 3600))
        if not values or self._hides in match["key"]:
            return web.json_response({"detail": "nothing recorded"}, status=404)
        bag = Bag.of([(np.array(values), 1)])
        exact = {stat: bag.statistic(stat) for stat in ("sum", "min", "max", "average", "stddev")}
        found = exact | {stat: self._off * bag.statistic(stat) for stat in QUANTILES}
        document: dict[str, Any] = {"count": bag.count, "values": found, "value": bag.count, "error_bound": 0.005}
        document["stale"] = False
        return web.json_response(document)


def items_of(body: bytes, content_type: str) -> Iterator[Item]:
    """(key, hour, values) of a body of any form."""
    document = (msgspec.msgpack if content_type == "application/msgpack" else msgspec.json).decode(body)
    if isinstance(document, dict):
        for of in document["series"]:
            values = of["values"]
            yield of["key"], of["hour"], np.frombuffer(values, "<f8").tolist() if isinstance(values, bytes) else values
        return
    for item in document:
        key, value, at = (item["key"], item["value"], item["timestamp"]) if isinstance(item, dict) else item
        yield key, math.floor(at / 3600), [value]
