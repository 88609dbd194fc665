"""Makes up response times as an app would see them, and request bodies that carry them.

Called by `audit` and `run`.

Each key has its own typical time (5 to 200 ms), its own log-normal spread around it, and a Pareto tail of 2 % that
reaches the 60 s at which clients give up. Rounded to 0.01 ms. One seed gives the same values again.
"""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from metrics_app.verify.ledger import Block, KeyHour, SentBatch, Values
from metrics_app.verify.plan import Form

HOUR_S = 3600
TYPICAL_MS = (5.0, 200.0)
SPREAD = (0.3, 0.8)  # sigma of the log-normal body
TAIL_SHARE = 0.02
TAIL_START = 4.0  # times the typical time
TAIL_SHAPE = 1.5  # infinite variance, as measured of the web
LONGEST_MS = 60_000.0
DECIMALS = 2
POOL_VALUES = 1 << 20  # distinct batches are made up to this many values, then sent again


@dataclass
class TrafficLane:
    """One sender of numbered values. Its requests follow each other, so its numbers arrive in order."""

    sender: str = field(default_factory=lambda: str(uuid.uuid4()))
    numbers: Counter[KeyHour] = field(default_factory=Counter)

    def first(self, key: str, hour: int, count: int) -> int:
        """Takes `count` numbers of a key and hour, and returns the first."""
        first = self.numbers[key, hour]
        self.numbers[key, hour] = first + count
        return first


def batches(keys: Sequence[str], batch: int, wanted: int, seed: int) -> list[SentBatch]:
    """Up to `wanted` batches of `batch` values each, of keys mixed at random; fewer where memory would be filled."""
    source = np.random.default_rng(seed)
    typical = np.exp(source.uniform(math.log(TYPICAL_MS[0]), math.log(TYPICAL_MS[1]), len(keys)))
    spread = source.uniform(*SPREAD, len(keys))
    made = max(1, min(wanted, POOL_VALUES // batch))
    of = np.sort(source.integers(len(keys), size=(made, batch)), axis=1)
    values = _values(source, typical[of], spread[of])
    begins = np.diff(of, axis=1, prepend=-1) != 0
    return [_batch(keys, *row) for row in zip(of, values, begins, strict=True)]


def _values(source: np.random.Generator, typical: Values, spread: Values) -> Values:
    body = typical * np.exp(spread * source.standard_normal(typical.shape))
    tail = typical * TAIL_START * (1 + source.pareto(TAIL_SHAPE, typical.shape))
    values = np.where(source.random(typical.shape) < TAIL_SHARE, tail, body)
    return np.clip(np.round(values, DECIMALS), 10.0**-DECIMALS, LONGEST_MS)


def _batch(keys: Sequence[str], of: NDArray[np.int64], values: Values, begins: NDArray[np.bool_]) -> SentBatch:
    starts = np.flatnonzero(begins).tolist()
    ends = [*starts[1:], len(of)]
    return SentBatch(tuple(Block(keys[of[start]], values[start:end]) for start, end in zip(starts, ends, strict=True)))


class Encoder:
    """Bodies of one form. What does not change from one sending of a batch to the next is encoded once."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.content_type = "application/msgpack" if form is Form.MSGPACK else "application/json"
        self._items: dict[SentBatch, tuple[int, bytes]] = {}
        self._columns: dict[SentBatch, list[Any]] = {}

    @property
    def is_numbered(self) -> bool:
        """Whether bodies carry a sender and numbers, and so may be sent again without an idempotency key."""
        return self.form in (Form.COLUMNAR, Form.MSGPACK)

    def encode(self, batch: SentBatch, at_s: float, lane: TrafficLane) -> bytes:
        """The body of one request; all its values belong to the UTC hour of `at_s`."""
        hour = int(at_s) // HOUR_S
        if self.is_numbered:
            return self._numbered(batch, hour, lane)
        known_hour, body = self._items.get(batch, (None, b""))
        if known_hour != hour:
            body = msgspec.json.encode(_items(batch, int(at_s), self.form))
            self._items[batch] = hour, body
        return body

    def _numbered(self, batch: SentBatch, hour: int, lane: TrafficLane) -> bytes:
        columns = self._columns.get(batch)
        if columns is None:
            write: Callable[[Values], Any]
            write = _binary_column if self.form is Form.MSGPACK else _json_column
            columns = self._columns[batch] = [write(values) for _, values in batch.blocks]
        series = [
            {"key": key, "hour": hour, "first": lane.first(key, hour, len(values)), "values": column}
            for (key, values), column in zip(batch.blocks, columns, strict=True)
        ]
        encode: Callable[[Any], bytes]
        encode = msgspec.msgpack.encode if self.form is Form.MSGPACK else msgspec.json.encode
        return encode({"sender": lane.sender, "series": series})


def _binary_column(values: Values) -> bytes:
    return values.astype("<f8").tobytes()


def _json_column(values: Values) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(values.tolist()))


def _items(batch: SentBatch, timestamp: int, form: Form) -> list[Any]:
    pairs = ((key, value) for key, values in batch.blocks for value in values.tolist())
    if form is Form.PAIRS:
        return [(key, value, timestamp) for key, value in pairs]
    return [{"key": key, "value": value, "timestamp": timestamp} for key, value in pairs]
