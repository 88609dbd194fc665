"""The two logs of a partition as a broker keeps them: the samples, and the changelog with its compaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from faust.types import TP

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.row import Version


class Sample(NamedTuple):
    """A record of the samples topic."""

    value: bytes
    timestamp_ms: int


class Change(NamedTuple):
    """A record of the changelog."""

    offset: int
    key: bytes
    value: bytes
    at_s: float

    @property
    def timestamp(self) -> int:
        """As Kafka has it."""
        return int(self.at_s * 1000)


class Changelog:
    """One changelog partition.

    Attributes:
        durable: the highest offset any place row in it has ever said to be folded.
    """

    def __init__(self, tp: TP) -> None:
        self.tp = tp
        self.changes: list[Change] = []
        self.end = 0
        self.durable = rows.NO_STAMP

    def append(self, key: bytes, value: bytes, at_s: float) -> int:
        """The offset the record got."""
        offset, self.end = self.end, self.end + 1
        self.changes.append(Change(offset, key, value, at_s))
        if key == rows.CHECKPOINT_KEY:
            self.durable = max(self.durable, rows.decode_checkpoint(value).offset)
        return offset

    def compact(self, before_s: float) -> bool:
        """Keeps the last record of each key among those older than a moment.

        False, and nothing done, if a row would lose its newest state by that: a stale write landed last and nothing
        has been written over it since. See tests/sim/test_stories.py.
        """
        old = [change for change in self.changes if change.at_s < before_s]
        last = {change.key: change for change in old}
        kept = sorted(last.values()) + self.changes[len(old) :]
        if newest_versions(self.changes) != newest_versions(kept):
            return False
        self.changes = kept
        return True

    def after(self, offset: int) -> list[Change]:
        """Records beyond an offset."""
        return [change for change in self.changes if change.offset > offset]


def newest_versions(changes: Iterable[Change]) -> dict[bytes, Version]:
    """The greatest version of each row; a place that goes back costs a replay and nothing else, so it is left out."""
    newest: dict[bytes, Version] = {}
    for change in changes:
        if change.key != rows.CHECKPOINT_KEY:
            newest[change.key] = max(rows.version_of(change.value), newest.get(change.key, Version(-1, -1)))
    return newest
