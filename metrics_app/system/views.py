"""GET /system: what every worker says of itself, in one document; GET /capacity: what breaks first, made of the same.

Called by `app`.

An aggregator asks all workers of its group. A collector is in no group and speaks of itself alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import faust
import msgspec
from aiohttp import web
from faust.web import View

from metrics_app.errors import UNREADABLE
from metrics_app.holdings import ACTIVE, SummaryReader
from metrics_app.http.problems import Health, json_reply
from metrics_app.http.proof import ROLE
from metrics_app.settings import Settings
from metrics_app.system.capacity import capacity_of
from metrics_app.system.condition import Condition, SystemState, joined
from metrics_app.system.meter import Meter, disk
from metrics_app.telemetry import PREFIX, Telemetry

SYSTEM, CAPACITY = "/system", "/capacity"
PATHS = (SYSTEM, CAPACITY)
STARTED_S = time.time()

_NOW = {"Cache-Control": "no-store"}


class Others(Protocol):
    """Those who ask all workers of the group; `query.routing.Router`."""

    async def gather(
        self, request: web.Request, local: Callable[[], Awaitable[web.Response]]
    ) -> dict[str, web.Response | None]:
        """The answers by base URL, None for one that did not answer in time."""


class Here(NamedTuple):
    """What this process knows of itself.

    Attributes:
        reader: the partitions it holds; None where it folds nothing.
    """

    settings: Settings
    role: str
    version: str
    telemetry: Telemetry
    health: Health
    meter: Meter
    reader: SummaryReader | None


def register(app: faust.App, here: Here, others: Others | None) -> None:
    """Add both views; `others` is None in a process that is in no group."""
    members = {"here": here, "others": others}
    for path, view in ((SYSTEM, SystemView), (CAPACITY, CapacityView)):
        app.page(path)(type(f"Bound{view.__name__}", (view,), members))


class SystemView(View):
    """The system."""

    here: ClassVar[Here]
    others: ClassVar[Others | None]

    async def get(self, request: Any) -> Any:
        """All workers; to another worker, this one alone."""
        return json_reply(await self.system(request), headers={**_NOW, ROLE: ACTIVE})

    async def system(self, request: web.Request) -> SystemState:
        """What all workers say, or this one alone where another one asks or there is no group."""
        if self.others is None:
            return self._of({self.here.settings.url: None})
        return self._of(await self.others.gather(request, self._local))

    async def _local(self) -> web.Response:
        return json_reply(self._of({self.here.settings.url: None}), headers={ROLE: ACTIVE})

    def _of(self, replies: dict[str, web.Response | None]) -> SystemState:
        told = [condition(self.here)]
        unanswered = []
        for url, reply in replies.items():
            if url.rstrip("/") == self.here.settings.url.rstrip("/"):
                continue
            found = _read(reply)
            told += found
            if not found:
                unanswered.append(url)
        partitions = self.here.settings.partitions if self.here.reader is not None else 0
        return joined(told, unanswered, partitions, time.time())


class CapacityView(SystemView):
    """The forecast."""

    async def get(self, request: Any) -> Any:
        """As JSON; the other workers are asked for what they say of themselves."""
        system = await self.system(request.clone(rel_url=request.rel_url.with_path(SYSTEM)))
        return json_reply(capacity_of(system), headers={**_NOW, ROLE: ACTIVE})


def _read(reply: web.Response | None) -> list[Condition]:
    """The workers of a reply; none when it is unusable."""
    if reply is None or not isinstance(reply.body, bytes):
        return []
    try:
        return msgspec.json.decode(reply.body, type=SystemState).workers
    except UNREADABLE:
        return []


def condition(here: Here) -> Condition:
    """What this process says of itself now."""
    settings, reader = here.settings, here.reader
    numbers = range(settings.partitions)
    held = {} if reader is None else _held(reader, numbers)
    told = _Told(here.telemetry)
    space = disk(settings.data_dir)
    return Condition(
        url=settings.url,
        role=here.role,
        version=here.version,
        pid=os.getpid(),
        started=STARTED_S,
        told=time.time(),
        checks=here.health.problems(),
        warnings=here.health.warned(),
        roles=held,
        lags={int(number): int(lag) for number, lag in told.by(f"{PREFIX}lag_records").items()},
        recovering=[] if reader is None else [one for each in numbers for one in reader.unavailable(each).recovering],
        totals=told.totals,
        by=told.by_label,
        load=here.meter.load(),
        memory_bytes=told.whole("process_resident_memory_bytes"),
        descriptors=told.whole("process_open_fds"),
        descriptors_max=told.whole("process_max_fds"),
        disk_free_bytes=space.free,
        disk_bytes=space.total,
        rows=told.whole(f"{PREFIX}rows_in_memory"),
    )


def _held(reader: SummaryReader, partitions: range) -> dict[int, str]:
    return {number: role for number in partitions if (role := reader.holds(number)) is not None}


class _Told:
    """The metrics of this process at one moment."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._samples = [each for family in telemetry.registry.collect() for each in family.samples]
        counters = [one for each in telemetry.lists.values() for one in each.listed if one.kind == "counter"]
        self.totals = {_short(one.name): self._sum(one.name) for one in counters if not one.labels}
        self.by_label = {_short(one.name): self.by(one.name) for one in counters if len(one.labels) == 1}

    def by(self, name: str) -> dict[str, float]:
        """The values of a metric with one label, by its value."""
        return {next(iter(each.labels.values())): each.value for each in self._samples if each.name == name}

    def whole(self, name: str) -> int:
        """A number without a fraction; 0 where nobody tells."""
        return int(self._sum(name))

    def _sum(self, name: str) -> float:
        return sum(each.value for each in self._samples if each.name == name)


def _short(name: str) -> str:
    return name.removeprefix(PREFIX).removesuffix("_total")
