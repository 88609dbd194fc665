"""The last hour that is over, of each key, in Prometheus' text format: `GET /federate?prefix=&limit=`.

Called by `views` and `app`.

A summary a key: the hour's count, sum and quantiles. Each hour stands for itself, so these do not add up from hour to
hour. Times are told in seconds, as Prometheus has them; values of another unit keep it, in the name of the metric.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

from aiohttp import web
from faust.web import View

from metrics_app.errors import OwnerUnavailableError
from metrics_app.query import hours
from metrics_app.query.answer import COUNT, Document
from metrics_app.query.exported import escaped, name_of
from metrics_app.query.question import parameters
from metrics_app.query.ranked_keys import SORT, STATS, RankedKeys, Ranking
from metrics_app.query.ranking import RankedPage
from metrics_app.query.reply import OPEN, TEXT_TYPE, packed

PATH = "/federate"
PARAMETERS = ("prefix", "limit")
QUANTILES = {"p50": "0.5", "p90": "0.9", "p95": "0.95", "p99": "0.99", "p99.9": "0.999"}
PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "µs": 1e6, "ns": 1e9}


class Family(NamedTuple):
    """A metric.

    Attributes:
        kind: summary or gauge.
    """

    name: str
    kind: str
    help: str

    def lines(self, samples: Iterable[str]) -> Iterator[str]:
        """Its lines in the text format."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        yield from samples


def text_of(found: RankedPage, hour: int, unit: str) -> bytes:
    """The keys that were found, and how complete they are."""
    per_second = PER_SECOND.get(unit, 1.0)
    name = "response_time_seconds" if unit in PER_SECOND else name_of(unit)
    answers = [each.answer for each in found.keys]
    lines = [
        *Family(name, "summary", "Response times of the last hour that is over; each hour stands for itself.").lines(
            line for answer in answers for line in _summary(name, answer, per_second)
        ),
        *_gauges(answers),
        *_single("hour_start_timestamp_seconds", "When the hour began.", hours.start(hour).timestamp()),
        *_single("unanswered_partitions", "Partitions of whose keys nothing is known now.", len(found.unanswered)),
        *_single("keys_truncated", "1 when there are more keys than were asked for.", int(found.more)),
    ]
    return "\n".join([*lines, ""]).encode()


def _summary(name: str, answer: Document, per_second: float) -> Iterator[str]:
    label, values = _label(answer), answer["values"]
    for stat, quantile in QUANTILES.items():
        yield f'{name}{{{label},quantile="{quantile}"}} {values[stat] / per_second!r}'
    yield f"{name}_sum{{{label}}} {values['sum'] / per_second!r}"
    yield f"{name}_count{{{label}}} {answer['count']}"


def _gauges(answers: list[Document]) -> Iterator[str]:
    told: dict[str, tuple[str, Any]] = {
        "missing_values": ("Values of the hour that were sent and have not arrived.", lambda answer: answer["missing"]),
        "final": ("1 when all that was sent in the hour is counted.", lambda answer: int(answer["final"])),
        "stale": ("1 when a newer state may be known to another worker.", lambda answer: int(answer["stale"])),
        "exact_quantiles": (
            "1 when quantiles are the true ones; else they are within 0.55 %.",
            lambda answer: int(all(bound["exact"] for bound in answer["bounds"].values())),
        ),
    }
    for name, (about, value) in told.items():
        full = f"response_time_{name}"
        known = ((answer, value(answer)) for answer in answers)
        yield from Family(full, "gauge", about).lines(
            f"{full}{{{_label(answer)}}} {'NaN' if number is None else number}" for answer, number in known
        )


def _single(name: str, about: str, value: float) -> Iterator[str]:
    full = f"response_time_{name}"
    return Family(full, "gauge", about).lines([f"{full} {value!r}"])


def _label(answer: Document) -> str:
    return f'key="{escaped(answer["key"])}"'


class FederateView(View):
    """The keys with most values in the last hour that is over."""

    ranked: ClassVar[RankedKeys]

    async def get(self, request: Any) -> Any:
        """The text; 503 when nobody can answer for any key."""
        given = parameters(request.rel_url.raw_query_string, PARAMETERS)
        hour = hours.of(time.time()) - 1
        began = hours.start(hour)
        given |= {"date": began.date().isoformat(), "hour": str(began.hour), SORT: COUNT}
        given[STATS] = ",".join((*QUANTILES, "sum"))
        ranking = Ranking.of(given, "", self.ranked.policy, time.time())
        asked = request.clone(rel_url=request.rel_url.with_path("/keys").with_query(given))
        found = await self.ranked.found(asked, ranking)
        if len(found.unanswered) == self.ranked.workers.held.partitions:
            raise OwnerUnavailableError("no worker can answer for any partition now")
        body = text_of(found, hour, self.ranked.policy.unit)
        return packed(request, web.Response(body=body, headers={**OPEN, "Content-Type": TEXT_TYPE}))
