"""Samples as columns, for bodies of many different keys: each key once, then a value a row and what is known of it.

Called by `arrow_table`, `msgpack_table` and `table_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics_app.errors import InvalidBodyError
from metrics_app.wire.chunk import FIRST_MAX
from metrics_app.wire.gathering import HOUR_S, shown

Column = NDArray[Any]
_SANE_S = 1e12  # epoch seconds that an int64 holds whatever is done to them; none beyond is kept


class Times(NamedTuple):
    """When the rows were measured.

    Attributes:
        seconds: float64, epoch seconds.
        hours: int64, the UTC hours they lie in, counted from 1970.
        given: bool, whether a row has a time; without one the others say nothing.
    """

    seconds: Column
    hours: Column
    given: Column

    @classmethod
    def of_seconds(cls, seconds: Column, given: Column) -> Times:
        """Those of float64 epoch seconds."""
        sane = np.where(np.abs(seconds) < _SANE_S, seconds, 0.0)  # NaN is not
        return cls(seconds, (sane // HOUR_S).astype(np.int64), given)


class SampleTable(NamedTuple):
    """The columns of a body. All but the keys have a member a row.

    Attributes:
        keys: each key once.
        values: float64.
        places: int64, which key a row has: the index of a body; None: the first row has the first key, and so on.
        times: None: all rows are of now.
        ids: of samples; None where a row has none.
        sender: 16 bytes, who numbers the rows, or empty.
        numbers: of rows within (sender, key, hour); None without a sender.
    """

    keys: Sequence[str]
    values: Column
    places: Column | None = None
    times: Times | None = None
    ids: Sequence[str | None] | None = None
    sender: bytes = b""
    numbers: Column | None = None

    @property
    def key_of(self) -> Column:
        """The place of each row's key among the keys."""
        return np.arange(len(self.values)) if self.places is None else self.places

    def check(self) -> None:
        """See to it that the columns fit each other.

        Raises:
            InvalidBodyError: they do not; the sentence says which, and what was expected.
        """
        rows, keys = len(self.values), len(self.keys)
        columns = {"timestamps": self.times and self.times.seconds, "ids": self.ids, "numbers": self.numbers}
        if self.places is None and keys != rows:
            raise InvalidBodyError(f"index: expected one, for there are {keys:,} keys and {rows:,} values")
        for name, column in {"index": self.places, **columns}.items():
            if column is not None and len(column) != rows:
                raise InvalidBodyError(f"{name}: expected {rows:,}, one for each value, got {len(column):,}")
        _check_range("index", self.places, keys - 1)
        if len(set(self.keys)) != keys:
            raise InvalidBodyError(f"keys: expected each once, got {shown(_twice(self.keys))!r} again")
        self._check_numbers()

    def _check_numbers(self) -> None:
        if (self.numbers is None) != (not self.sender):
            raise InvalidBodyError("expected a sender and numbers, or neither")
        if self.numbers is None:
            return
        if self.ids is not None:
            raise InvalidBodyError("expected ids, or numbers of a sender, not both")
        if self.times is None or not self.times.given.all():
            raise InvalidBodyError("timestamps: expected one for each value, as numbers are counted within an hour")
        _check_range("numbers", self.numbers, FIRST_MAX)


def _check_range(name: str, column: Column | None, last: int) -> None:
    if column is None:
        return
    wrong = np.flatnonzero((column < 0) | (column > last))
    if wrong.size:
        raise InvalidBodyError(f"{name}[{wrong[0]}]: expected 0 to {last}, got {column[wrong[0]]}")


def _twice(keys: Sequence[str]) -> str:
    seen: set[str] = set()
    return next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # None
