"""Running numbers of values: what lets the aggregator tell what is missing from what came twice."""

from __future__ import annotations

import uuid
from collections import Counter, OrderedDict
from typing import NamedTuple
from uuid import UUID

KEPT_HOURS = 4  # whose numbers are remembered: those used last


class Place(NamedTuple):
    """The number of a value: a sender's, and which one it is of a key and hour."""

    sender: UUID
    first: int


class _Hour:
    """The numbers given out in an hour: by key, the next one."""

    __slots__ = ("next", "sender")

    def __init__(self, sender: UUID) -> None:
        self.sender = sender
        self.next: Counter[str] = Counter()


class Numbering:
    """Numbers per key and hour, from 0 without a hole, under a sender of its own.

    A value gets its number when it leaves the app's threads. One that is dropped later leaves a hole, which answers
    show as `missing`: it was recorded, and it is not counted.

    Only the hours used last are remembered. An hour that comes back after it was forgotten, because the clock was set
    back, is numbered from 0 under a sender of its own: no number is given out twice.

    Attributes:
        sender: names this numbering; no other process, nor this one after a fork, has the same.
    """

    def __init__(self) -> None:
        self.sender = uuid.uuid4()
        self._hours: OrderedDict[int, _Hour] = OrderedDict()
        self._newest_forgotten = -1
        self._void: set[int] = set()

    def take(self, key: str, hour: int, count: int) -> Place:
        """The first of `count` numbers for values of a key and hour."""
        numbers = self._hour(hour)
        first = numbers.next[key]
        numbers.next[key] = first + count
        return Place(numbers.sender, first)

    def void(self, hour: int) -> None:
        """The numbers of an hour went with values that belong to another one; from any thread."""
        self._void.add(hour)

    def _hour(self, number: int) -> _Hour:
        is_void = number in self._void
        hour = None if is_void else self._hours.get(number)
        if hour is None:
            self._void.discard(number)
            may_be_known = is_void or number <= self._newest_forgotten
            hour = self._hours[number] = _Hour(uuid.uuid4() if may_be_known else self.sender)
        self._hours.move_to_end(number)
        if len(self._hours) > KEPT_HOURS:
            forgotten, _ = self._hours.popitem(last=False)
            self._newest_forgotten = max(self._newest_forgotten, forgotten)
        return hour
