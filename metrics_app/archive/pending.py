"""Rows that were read from one partition of the changelog and are not archived yet, and which of their hours are over.

Called by `following`, which reads, and by `keeping`, which archives them.

An hour is ready when a checkpoint says that it is sealed: each of its rows is in the changelog before that checkpoint.
What comes later for such an hour is a correction. Of two states of a row the greater version holds everything that the
other does (`aggregator/row.py`), so it does not matter in which order, or how often, records are read.
"""

from __future__ import annotations

from collections.abc import Callable

from metrics_app.aggregator import changelog
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.changelog import Bad
from metrics_app.aggregator.row import NO_CHECKPOINT, Checkpoint

MOST_BYTES = 512 << 20
Rows = dict[bytes, bytes]  # metric key -> encoded row


class Pending:
    """Rows of one partition that wait to be archived.

    Args:
        belongs: whether a metric key is one of this partition.
        position: changelog offset to read from.
        most_bytes: of rows that are held, beyond which the latest hour is left to be read once more.
    Attributes:
        checkpoint: the newest that was read.
        bad: records that were not taken in.
    """

    def __init__(self, belongs: Callable[[bytes], bool], position: int = 0, most_bytes: int = MOST_BYTES) -> None:
        self.position = position
        self.checkpoint: Checkpoint = NO_CHECKPOINT
        self.bad = 0
        self._belongs = belongs
        self._most_bytes = most_bytes
        self._hours: dict[int, Rows] = {}
        self._first: dict[int, int] = {}  # offset of the first record of each hour that waits
        self._bytes = 0
        self._left_from: int | None = None  # hours from this one on are read another time
        self._taken = (0, 0)  # hours before the first have been taken from records before the second

    @property
    def resume(self) -> int:
        """The offset from which a new process has to read, so that nothing that waits is missed."""
        return min(self._first.values(), default=self.position)

    def take(self, offset: int, row_key: bytes | None, value: bytes | None) -> None:
        """Takes in one record.

        Raises:
            NewerFormatError: a newer release has written it.
        """
        self.position = offset + 1
        found = changelog.check(row_key, value, self._belongs)
        if isinstance(found, Bad):
            self.bad += 1
            self._doubt(offset, found)
        elif found.row_key == rows.CHECKPOINT_KEY:
            self.checkpoint = max(
                self.checkpoint, rows.decode_checkpoint(found.value), key=lambda each: (each.version, each.sealed)
            )
        elif found.row_key[0] == rows.HOUR:
            self._note(offset, *rows.split_hour_key(found.row_key), found.value)

    def _doubt(self, offset: int, bad: Bad) -> None:
        """Of a damaged row that may have been the newest one, what is known goes on as incomplete."""
        if bad.row_key[:1] != bytes([rows.HOUR]):
            return
        hour, key = rows.split_hour_key(bad.row_key)
        known = self._hours.get(hour, {}).get(key)
        if known is None or not changelog.is_older(bad.claimed, known):
            self._note(offset, hour, key, changelog.rewritten(known, incomplete=True))

    def _note(self, offset: int, hour: int, key: bytes, value: bytes) -> None:
        if hour < self._taken[0] and offset < self._taken[1]:
            return
        self._first.setdefault(hour, offset)
        if self._left_from is not None and hour >= self._left_from:
            return
        held = self._hours.setdefault(hour, {})
        known = held.get(key)
        if known is not None and rows.version_of(known) > rows.version_of(value):
            return
        held[key] = value
        self._bytes += len(value) - len(known or b"")
        while self._bytes > self._most_bytes and len(self._hours) > 1:
            self._leave(max(self._hours))

    def _leave(self, hour: int) -> None:
        self._left_from = hour
        self._forget(hour)

    def _forget(self, hour: int) -> None:
        self._bytes -= sum(map(len, self._hours.pop(hour).values()))

    def ready(self) -> dict[int, Rows]:
        """Rows of the hours that are sealed, and held whole, the earliest first."""
        return {hour: self._hours[hour] for hour in sorted(self._hours) if hour < self.checkpoint.sealed}

    def archived(self, hour: int) -> None:
        """Lets go of an hour whose rows are durable."""
        self._forget(hour)
        del self._first[hour]

    def read_again(self) -> bool:
        """Goes back for the hours that were left, if there are any; whether it does."""
        if self._left_from is None:
            return False
        self._taken = self._left_from, self.position
        self._left_from, self.position = None, self.resume
        return True
