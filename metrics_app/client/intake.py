"""Takes values in the app's own threads, where it must never block or raise.

Called by `client`, `engine` and `gathering`.

`record` appends to a list per key and hour, which the interpreter does as one step; nothing is looked at, copied or
locked. The client's own thread takes the lists' contents 20 times a second, checks and numbers them. A list stays the
same object for good, so that an append that comes at any moment lands in it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from numbers import Real
from time import monotonic, time_ns
from typing import NamedTuple

from metrics_app.wire.chunk import VALUE_MAX
from metrics_app.wire.metric_key import key_bytes

HOUR_NS = 3600 * 10**9  # whole nanoseconds, so that an hour is never rounded up
MAX_FAULTS = 100_000  # faults noted between two collections; more are not counted
_LINGER_S = (
    60.0  # how long an hour's lists are still looked at when another one is open: a thread may stop before its append
)
_MOST_HOURS = 64  # looked at; only a clock that jumps about opens so many within that time


class TakenValues(NamedTuple):
    """Values of a key in an hour, in the order they were recorded."""

    key: str
    hour: int
    values: list[float]


class Fault(NamedTuple):
    """A value that was not taken, and in words why; the words may be empty."""

    reason: str
    detail: str = ""


class _OpenHour:
    """The lists of an hour; `appends` has the append of each, which saves the hot path a look-up."""

    __slots__ = ("appends", "ends", "left", "lists", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.ends = (number + 1) * HOUR_NS  # by the clock of this machine
        self.left = 0.0  # moment of the monotonic clock at which another one was opened
        self.lists: dict[str, list[float]] = {}
        self.appends: dict[str, Callable[[float], None]] = {}


_NEVER = _OpenHour(-1)  # has ended long ago


class Intake:
    """Values not yet collected.

    Args:
        max_keys: keys an hour.
        max_waiting: values between two collections from which on `relieve` is called.
        relieve: collects, in whatever thread; may return without having done so.
        clock: nanoseconds since the epoch, by the clock of this machine.
    """

    def __init__(
        self, max_keys: int, max_waiting: int, relieve: Callable[[], None], clock: Callable[[], int] = time_ns
    ) -> None:
        self._max_keys = max_keys
        self._max_waiting = max_waiting
        self._relieve = relieve
        self._clock = clock
        self._ahead = 0
        self.clear()

    def clear(self) -> None:
        """Forgets everything, as the child of a fork must; the next value calls `relieve`."""
        self._closed = False
        self._open = _NEVER
        self._hours: dict[int, _OpenHour] = {}
        self._faults: list[Fault] = []
        self._explained: set[str] = set()
        self._ticket = itertools.count().__next__
        self._room = self._max_waiting

    def record(self, key: str, ms: float) -> None:
        """Takes a value; never raises, never blocks."""
        try:
            hour = self._open
            if self._clock() < hour.ends and self._ticket() < self._room:
                hour.appends[key](ms)
                return
        except Exception:  # mostly a new key
            pass
        self._record_slowly(key, ms)

    def set_ahead(self, nanoseconds: int) -> None:
        """Notes how far this machine's clock is ahead; from now on hours begin by the corrected time."""
        self._ahead = nanoseconds
        self._open = _NEVER if self._closed else self._opened()

    def close(self) -> None:
        """Refuses further values; earlier ones can still be collected."""
        self._closed = True
        self._open = _NEVER

    def collect(self) -> Iterator[TakenValues]:
        """Takes the recorded values, in one thread at a time; what is not a valid value becomes a fault."""
        self._turn()
        self._room = self._ticket() + self._max_waiting
        if not self._closed:  # it may have been let go just when it was opened again
            self._hours.setdefault(self._open.number, self._open)
        for hour in list(self._hours.values()):
            for key, values in list(hour.lists.items()):
                count = len(values)
                if count:
                    taken = values[:count]
                    del values[:count]
                    if usable := self._usable(key, taken):
                        yield TakenValues(key, hour.number, usable)
        self._let_go()

    def _let_go(self) -> None:
        """Forgets hours that were left long ago, and those left first when there are too many."""
        left = sorted((hour for hour in self._hours.values() if hour is not self._open), key=lambda hour: hour.left)
        long_ago = monotonic() - _LINGER_S
        for index, hour in enumerate(left):
            if hour.left < long_ago or index < len(left) - _MOST_HOURS:
                self._hours.pop(hour.number, None)

    def faults(self) -> list[Fault]:
        """Takes the faults noted since the last time."""
        count = len(self._faults)
        taken = self._faults[:count]
        del self._faults[:count]
        return taken

    def _record_slowly(self, key: str, ms: float) -> None:
        try:
            if self._closed:
                self._note("closed", "it was closed before")
                return
            self._turn()
            if self._ticket() >= self._room:
                self._relieve()
            self._append(key, ms)
        except Exception as error:
            self._note("bug", repr(error))

    def _append(self, key: str, ms: float) -> None:
        if not isinstance(key, str):
            self._note("key", f"key {_shown(key)}: expected a text")
            return
        hour = self._open
        values = hour.lists.get(key)
        if values is None:
            try:
                key_bytes(key)
            except ValueError as error:
                self._note("key", f"key {_shown(key)}: {error}")
                return
            if len(hour.lists) >= self._max_keys:
                self._note("keys", f"key {_shown(key)}: {self._max_keys:,} other keys came before in this hour")
                return
            values = hour.lists.setdefault(key, [])
            hour.appends[key] = values.append
        values.append(ms)

    def _turn(self) -> None:
        """Opens the current hour when it has changed, also after the clock was set back."""
        if self._closed:
            return
        if (self._clock() - self._ahead) // HOUR_NS != self._open.number:
            if self._open is _NEVER:
                self._room = 0  # so that the first value of a process has its threads started
            self._open = self._opened()

    def _opened(self) -> _OpenHour:
        number = (self._clock() - self._ahead) // HOUR_NS
        hour = self._hours.setdefault(number, _OpenHour(number))  # one of them, whatever threads come here
        hour.ends = (number + 1) * HOUR_NS + self._ahead
        self._open.left = monotonic()
        return hour

    def _usable(self, key: str, values: list[float]) -> list[float]:
        if set(map(type, values)) <= _PLAIN and _all_in_range(values):
            return values
        usable = []
        for value in values:
            number = _number(value)
            if number is None:
                self._note("value", f"{key}: expected a number from 0 to 2^44, got {_shown(value)}")
            else:
                usable.append(number)
        return usable

    def _note(self, reason: str, detail: str) -> None:
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(Fault(reason, detail))


_PLAIN = {float, int}


def _all_in_range(values: list[float]) -> bool:
    # in this order: the sum is NaN if one of them is, and exists only if none is beyond a float
    return min(values) >= 0 and max(values) <= VALUE_MAX and not math.isnan(sum(values))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError, TypeError):
        return None
    return number if 0 <= number <= VALUE_MAX else None


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:60] + "..."
