"""Compares this process's clock with Kafka's, which stamps every record: neither is believed alone (docs/adr/0009).

Called by `aggregator` and `collector.producer`.

Each acknowledged append shows both at once: its stamp was set between the sending and the acknowledgement. From then on
Kafka's clock is reckoned forward by the monotonic clock, so a step of our own is seen at once, without a new append.
Neither clock is taken for the right one. What depends on the time waits while they differ by more than the tolerance.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection
from typing import NamedTuple

from metrics_app.telemetry import Telemetry

logger = logging.getLogger(__name__)

SAY_AGAIN_S = 60.0
REMEMBERED_S = 60.0  # how long a single record with a wrong stamp stays a warning
HOUR_S = 3600


class Instant(NamedTuple):
    """A moment by our own two clocks, in seconds."""

    own_s: float
    monotonic_s: float

    def reckoned_s(self, then: Instant) -> float:
        """An earlier moment by our clock as it is set now: it may have been stepped since."""
        return self.own_s - (self.monotonic_s - then.monotonic_s)


class Odd(NamedTuple):
    """A record with a wrong stamp: how far it was off our clock, and when it was met."""

    difference_s: float
    at: Instant

    def difference_by(self, now: Instant) -> float:
        """How far it is off our clock as it is set now."""
        return self.difference_s + self.at.own_s - now.reckoned_s(self.at)


class ClockReading(NamedTuple):
    """An append: Kafka's stamp in epoch seconds, and the moments between which it was set."""

    stamp_s: float
    sent: Instant
    acked: Instant

    def kafka_s(self, now: Instant) -> tuple[float, float]:
        """Bounds of Kafka's clock at a later moment."""
        return (
            self.stamp_s + now.monotonic_s - self.acked.monotonic_s,
            self.stamp_s + now.monotonic_s - self.sent.monotonic_s,
        )

    def difference_s(self, now: Instant) -> float:
        """How far Kafka's clock is surely ahead of ours, negative: behind; 0.0 when they may be equal."""
        low, high = self.kafka_s(now)
        return max(low - now.own_s, 0.0) + min(high - now.own_s, 0.0)


class Clocks:
    """What one process knows of both clocks.

    Args:
        tolerance_s: how far they may differ.
        role: whose appends show it; a process may have two.
    """

    def __init__(self, tolerance_s: float, telemetry: Telemetry, role: str = "aggregator") -> None:
        self.tolerance_s = tolerance_s
        self._telemetry = telemetry
        self._readings: dict[int, ClockReading] = {}
        self._agreeing: tuple[float, float] | None = None  # see `all_agree`; None after a new reading
        self._odd: Odd | None = None
        self._said_s = -SAY_AGAIN_S
        telemetry.clock_difference.labels(role).set_function(lambda: self.difference_s)

    def now(self) -> Instant:
        """This moment."""
        return Instant(time.time(), time.monotonic())

    def appended(self, witness: int, stamp_ms: int, sent: Instant) -> None:
        """Takes the stamp of an append that has just been acknowledged.

        Args:
            witness: whose it is: the broker's number, or that of a partition, whoever leads it.
        """
        now = self.now()
        reading = self._readings[witness] = ClockReading(stamp_ms / 1000, sent, now)
        self._agreeing = None
        self._note(reading.difference_s(now), f"an append that {witness} has stamped")

    def keep(self, witnesses: Collection[int]) -> None:
        """Forgets what all others have said: no new append of theirs will show that they were set right."""
        self._readings = {each: self._readings[each] for each in self._readings.keys() & witnesses}
        self._agreeing = None

    def met(self, partition: int, offset: int, stamp_ms: int, after: Instant | None) -> bool:
        """Compares the stamp of a record that was read; whether it differs by more than the tolerance.

        Args:
            after: when it was not there yet; None when that is not known.
        """
        now = self.now()
        after_s = 0.0 if after is None else now.reckoned_s(after)
        difference_s = max(stamp_ms / 1000 - now.own_s, 0.0) + min(stamp_ms / 1000 - after_s, 0.0)
        is_odd = abs(difference_s) > self.tolerance_s
        if is_odd:
            self._odd = Odd(difference_s, now)
            self._note(difference_s, f"partition {partition}, offset {offset}")
        return is_odd

    def _note(self, difference_s: float, what: str) -> None:
        if abs(difference_s) <= self.tolerance_s:
            return
        self._telemetry.clock_disagreements.labels("ahead" if difference_s > 0 else "behind").inc()
        if time.monotonic() - self._said_s >= SAY_AGAIN_S:
            self._said_s = time.monotonic()
            logger.error("%s; seen at %s", self._sentence(difference_s), what)

    @property
    def difference_s(self) -> float:
        """The greatest difference known, Kafka's clock minus ours."""
        now = self.now()
        found = [reading.difference_s(now) for reading in self._readings.values()]
        if self._odd is not None and now.monotonic_s - self._odd.at.monotonic_s < REMEMBERED_S:
            found.append(self._odd.difference_by(now))
        return max(found, key=abs, default=0.0)

    @property
    def disputed(self) -> bool:
        """Whether the two are known to differ by more than the tolerance."""
        return abs(self.difference_s) > self.tolerance_s

    def warning(self) -> str | None:
        """The difference, as a sentence, when it is more than the tolerance."""
        difference_s = self.difference_s
        return self._sentence(difference_s) if abs(difference_s) > self.tolerance_s else None

    def _sentence(self, difference_s: float) -> str:
        side = "ahead of" if difference_s > 0 else "behind"
        return (
            f"Kafka's clock is {abs(difference_s):,.0f} s {side} the clock of this machine, more than the "
            f"{self.tolerance_s:g} s of METRICS_CLOCK_TOLERANCE_S; set the one that is wrong"
        )

    def both_s(self, partition: int, at: Instant) -> float | None:
        """The time that our clock and that of a partition's leader had both reached; None without an append to it."""
        reading = self._readings.get(partition)
        return None if reading is None else min(at.own_s, reading.kafka_s(at)[0])

    def doubt(self) -> str | None:
        """Why our clock cannot say which hour it is, None when it can.

        It can when at least half of the brokers written to agree, or see the same hour.
        """
        now = self.now()
        if self.all_agree(now):
            return None
        against = [reading for reading in self._readings.values() if not self._is_hour_sure(reading, now)]
        if 2 * len(against) <= len(self._readings):
            return None
        return self._sentence(max((reading.difference_s(now) for reading in against), key=abs))

    @property
    def is_vouched_for(self) -> bool:
        """Whether Kafka was asked, and our clock can say which hour it is."""
        return bool(self._readings) and self.doubt() is None

    def all_agree(self, now: Instant) -> bool:
        """Whether no leader differs by more than the tolerance; quick, for it is asked with each request.

        Our clock minus the monotonic one then lies between two bounds that stay the same until a new append.
        """
        if self._agreeing is None:
            lowest = max((each.stamp_s - each.acked.monotonic_s for each in self._readings.values()), default=-math.inf)
            highest = min((each.stamp_s - each.sent.monotonic_s for each in self._readings.values()), default=math.inf)
            self._agreeing = lowest - self.tolerance_s, highest + self.tolerance_s
        lowest, highest = self._agreeing
        return lowest <= now.own_s - now.monotonic_s <= highest

    def _is_hour_sure(self, reading: ClockReading, now: Instant) -> bool:
        low, high = (int(kafka_s // HOUR_S) for kafka_s in reading.kafka_s(now))
        return abs(reading.difference_s(now)) <= self.tolerance_s or low == high == int(now.own_s // HOUR_S)
