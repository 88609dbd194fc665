"""How the changelog is read, from a consumer that has everything at hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from faust.types import TP

from metrics_app.aggregator.origin import Reached
from metrics_app.aggregator.replica import Replica
from metrics_app.kafka.identity import ClusterIdentity, TopicIdentity
from tests.turns import Others

READS = 50
CHANGELOG = TP("changelog", 0)


class FetchedAhead:
    """A consumer with so much in memory that it never waits."""

    at = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def assign(self, _tps: list[TP]) -> None: ...

    def seek(self, _tp: TP, offset: int) -> None:
        self.at = offset

    async def getmany(self, **_: Any) -> dict[TP, list[int]]:
        self.at += 1
        return {CHANGELOG: [self.at]}

    async def end_offsets(self, tps: Any) -> dict[TP, int]:
        return dict.fromkeys(tps, READS)

    async def position(self, _tp: TP) -> int:
        return self.at

    def assignment(self) -> set[TP]:
        return {CHANGELOG}


class Store:
    """An empty copy, which notes what it is given."""

    def __init__(self) -> None:
        self.merged: list[int] = []
        self.whole: set[int] = set()

    def merge(self, _tp: TP, records: list[int], _reached: int) -> None:
        self.merged += records

    def reached(self, _tp: TP) -> Reached:
        return Reached(-1, 0)

    def note_whole(self, partition: int) -> None:
        self.whole.add(partition)

    def origin(self, _partition: int) -> None: ...

    def matched(self, _partition: int, _origin: Any) -> None: ...

    def settle_doubts(self, _partition: int) -> None: ...

    def is_detached(self, _partition: int) -> bool:
        return False


async def identity() -> ClusterIdentity:
    return ClusterIdentity("cluster", {CHANGELOG.topic: TopicIdentity("topic", 1)})


async def test_others_have_their_turn_while_what_was_fetched_ahead_is_taken_in() -> None:
    """Megabytes are; without that a loop stands still until the watchdog ends the process, again and again."""
    store, offsets = Store(), []
    table: Any = SimpleNamespace(store=store, rebuild_expired_early=lambda _tps: None)
    replica = Replica(table, cast(Any, FetchedAhead), cast(Any, None), identity)
    async with Others() as others:
        await replica.recover(frozenset({CHANGELOG}), lambda _tp, offset: offsets.append(offset))

    assert store.merged == list(range(1, READS + 1))
    assert store.whole == {0}
    assert offsets[-1] == READS - 1
    assert others.turns >= READS - 1
