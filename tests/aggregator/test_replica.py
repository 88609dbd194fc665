"""How the changelog is read, from a consumer that has everything at hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from faust.types import TP

from metrics_app.aggregator.replica import Replica
from tests.turns import Others

READS = 50


class FetchedAhead:
    """A consumer with so much in memory that it never waits."""

    tp = TP("changelog", 0)
    at = 0

    async def getmany(self, **_: Any) -> dict[TP, list[int]]:
        self.at += 1
        return {self.tp: [self.at]}

    async def position(self, _tp: TP) -> int:
        return self.at

    def assignment(self) -> set[TP]:
        return {self.tp}


async def test_others_have_their_turn_while_what_was_fetched_ahead_is_taken_in() -> None:
    """Megabytes are; without that a loop stands still until the watchdog ends the process, again and again."""
    merged: list[int] = []
    replica: Any = object.__new__(Replica)
    replica._era = object()
    replica.tables = {
        "hours": SimpleNamespace(store=SimpleNamespace(merge=lambda tp, records, to: merged.extend(records)))
    }
    reader = FetchedAhead()
    async with Others() as others:
        for _ in range(READS):
            await replica._read(reader, replica._era)

    assert merged == list(range(1, READS + 1))
    assert others.turns >= READS - 1
