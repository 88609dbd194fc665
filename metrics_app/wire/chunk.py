"""The unit that travels from a request body through Kafka into the fold: values of one key in one hour.

Called by `columnar_body`, `gathering`, `json_body`, `record`, `aggregator` and others.

A chunk holds the values themselves or, from a sender with too many of them, a histogram that stands for them. Such a
chunk is indivisible: what is in a histogram cannot be told apart again.

A chunk of a numbering sender may be empty. It says that the numbers below `first` were given to values; those that do
not arrive are missing, though no later value does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

SENDER_BYTES = 16
ID_BYTES = 16
VALUE_BYTES = 8
COUNT_MAX = 2**32 - 1
FIRST_MAX = 2**53  # the last integer that every JSON reader keeps exact
HOUR_MAX = 2**26 - 1  # of the year 9625, the last ones that have a date
VALUE_MAX = 2.0**44  # of the unit; in ms about 557 years


class Chunk(NamedTuple):
    """Values of one key and one UTC hour, in the order they were sent.

    Attributes:
        key: UTF-8 bytes of the key, 1-256.
        hour: hours since 1970-01-01T00Z, 0 to HOUR_MAX.
        values: n little-endian float64, each finite, 0 <= value <= VALUE_MAX; none when there is a histogram.
        sender: 16 bytes naming the numbering sender, or empty.
        first: number of the first value within (sender, key, hour), counted from 0. Without a sender, of a chunk with
            one id: its place among the values the id stands for, counted from 1, or 0: the id stands for this chunk.
            0 otherwise, FIRST_MAX at most.
        ids: empty, or 16 bytes that identify the whole chunk, or 16 bytes a value; of a histogram no more than 16.
        histogram: empty, or the bytes of an `HourlySummary` in its histogram form (`stats/codec.py`).
        weight: how many values the histogram stands for; 0 without one.
    """

    key: bytes
    hour: int
    values: bytes | memoryview
    sender: bytes = b""
    first: int = 0
    ids: bytes = b""
    histogram: bytes = b""
    weight: int = 0

    @property
    def count(self) -> int:  # type: ignore[override]  # nobody counts the fields of a chunk
        """Number of values, with those counted in a histogram."""
        return self.weight or len(self.values) // VALUE_BYTES


# a chunk of all its attributes, in their order; Chunk's own constructor is a function in Python and takes twice as long
chunk_of: Callable[[tuple[Any, ...]], Chunk] = partial(tuple.__new__, Chunk)
