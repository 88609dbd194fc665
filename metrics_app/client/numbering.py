"""Running numbers of values: what lets the aggregator tell what is missing from what came twice."""

from __future__ import annotations

import uuid


class Numbering:
    """Numbers per key and hour, from 0 without a hole, under a sender of its own.

    A value gets its number when it leaves the app's threads. One that is dropped later leaves a hole, which answers
    show as `missing`: it was recorded, and it is not counted.

    Attributes:
        sender: names this numbering; no other process, nor this one after a fork, has the same.
    """

    def __init__(self) -> None:
        self.sender = uuid.uuid4()
        self._next: dict[tuple[str, int], int] = {}
        self._horizon = 0

    def take(self, key: str, hour: int, count: int) -> int:
        """The first of `count` numbers for values of a key and hour."""
        first = self._next.get((key, hour), 0)
        self._next[key, hour] = first + count
        return first

    def knows(self, hour: int) -> bool:
        """Whether the numbers of an hour are still known; for any other a numbering of its own must begin."""
        return hour >= self._horizon

    def forget(self, before_hour: int) -> None:
        """Lets go of the numbers of the hours before one."""
        if before_hour > self._horizon:
            self._horizon = before_hour
            self._next = {place: number for place, number in self._next.items() if place[1] >= before_hour}
