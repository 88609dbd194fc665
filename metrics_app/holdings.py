"""The contract between query and aggregator: rows of this process, and the workers that hold a partition.

Called by `aggregator` and `query`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from metrics_app.errors import OwnerUnavailableError
from metrics_app.stats.summary import HourlySummary

ACTIVE = "active"
STANDBY = "standby"
RECOVERING = "recovering"
BEST_FIRST = (ACTIVE, STANDBY, RECOVERING)

# what a collector may still be sending of an hour that is over, with room for clocks that differ; of default settings
FINAL_AFTER_S = 13.6


class Loss(NamedTuple):
    """Records that Kafka no longer had when they were to be folded.

    Attributes:
        first, end: hours of which they may have held values, `end` not included.
        since: epoch seconds; everything accepted up to then had been folded.
        records: how many they were; 0 when nobody knows.
    """

    first: int
    end: int
    since: float
    records: int

    def joined(self, other: Loss) -> Loss:
        """Both as one."""
        records = self.records + other.records if self.records and other.records else 0
        return Loss(min(self.first, other.first), max(self.end, other.end), min(self.since, other.since), records)


def loss_of(losses: Iterable[Loss], first: int, end: int) -> Loss | None:
    """What may be lost of the hours from `first` to before `end`, all losses taken together; None: nothing is."""
    found: Loss | None = None
    for loss in losses:
        if loss.first < end and first < loss.end:
            found = loss if found is None else found.joined(loss)
    return found


def sum_known(lost: list[int]) -> int | None:
    """How many records are lost in all; None when it is not known of one loss, which counts as 0."""
    return sum(lost) if all(lost) else None


class FoundRow(NamedTuple):
    """One row, and how complete it is.

    Attributes:
        summary: the statistics of one key in one hour; the caller must not change it.
        missing: values known to have been sent and not seen.
        duplicates: values seen again and left out.
        late: values folded after the hour had closed.
        as_of: epoch seconds; every record of the partition up to then is folded. It moves on with the clock while a
            caught-up partition is idle, for hours become final by it.
        stale: True when a newer state of this row may exist on another worker.
        role: which copy of the partition this is.
        offset: source offset of the last record in the row.
        final_after_s: how long past its end an hour is final, by `as_of`.
        loss: records that may have held values of it and are gone; None: there are none.
    """

    summary: HourlySummary
    missing: int
    duplicates: int
    late: int
    as_of: float
    stale: bool
    role: str
    offset: int
    final_after_s: float = FINAL_AFTER_S
    loss: Loss | None = None


class Stretch(NamedTuple):
    """Keys of some rows that follow each other.

    Attributes:
        keys: ascending.
        end: the last key looked at, after which one can go on; None: there are no more, or no more are wanted.
    """

    keys: list[bytes]
    end: bytes | None


class Look(NamedTuple):
    """Which rows are glanced at, and for which quantile.

    Attributes:
        prefix, contains: what a key begins with, and what it has in it; empty for any.
        q: 0.0 to 1.0; 1.0 is the greatest value.
    """

    prefix: bytes
    contains: bytes
    q: float

    def takes(self, key: bytes) -> bool:
        """Whether a key is one of those looked for."""
        return key.startswith(self.prefix) and self.contains in key


class Glance(NamedTuple):
    """What can be seen of a row without decoding it.

    Attributes:
        number: of values.
        most: a bound that the quantile looked for is not above.
    """

    key: bytes
    hour: int
    number: int
    most: float


class Glances(NamedTuple):
    """Glances at rows that follow each other.

    Attributes:
        found: those that count values, in ascending order of keys.
        end: the last key looked at, after which one can go on; None: the hour has no more of them.
    """

    found: list[Glance]
    end: bytes | None


class SummaryReader(Protocol):
    """The rows this process holds; synchronous, and consistent between two awaits."""

    def read(self, partition: int, key: bytes, hour: int) -> FoundRow | None:
        """The row, or None when there is none: everything accepted up to a moment ago is in the copy held here.

        Raises:
            NotYetError: the copy held here has none, and may get one yet.
            OwnerUnavailableError: this process does not hold the partition, or not completely (yet, or any more).
        """

    def holds(self, partition: int) -> str | None:
        """ACTIVE, STANDBY or RECOVERING, the copy `read` would answer from now; None where there is none to trust.

        A RECOVERING copy is a whole one, as of an earlier moment, that is being brought up to date or handed over.
        """

    def behind(self, partition: int) -> str | None:
        """Why the copy held here may lack what was accepted a moment ago; None when it does not."""

    def losses(self, partition: int) -> Sequence[Loss]:
        """Records of the partition that were gone before they could be folded, as the copy held here knows."""

    def recent_keys(self, partition: int, hours: range, prefix: bytes) -> set[bytes]:
        """Keys with a prefix that have a row in memory in one of these hours; to be asked before `stored_keys`."""

    def stored_keys(
        self,
        partition: int,
        hour: int,
        prefix: bytes,
        after: bytes,
        upto: bytes | None,
        most: int,
        contains: bytes = b"",
    ) -> Stretch:
        """Keys with a row in the store in an hour, ascending, above `after`, not above `upto`.

        They have a prefix, and something else in them. No more than `most` are wanted. It takes two milliseconds at
        most, whatever there is to be looked at.

        Raises:
            OwnerUnavailableError: as `read`.
        """

    def recent_glances(self, partition: int, hours: range, look: Look) -> list[Glance]:
        """Glances at the rows in memory in these hours, in no order; to be asked before `stored_glances`.

        They are newer than those at the same rows in the store. Keys may be among both that are not valid today.
        """

    def stored_glances(self, partition: int, hour: int, look: Look, after: bytes) -> Glances:
        """Glances at rows in the store in an hour, above `after`; it takes two milliseconds at most.

        Raises:
            OwnerUnavailableError: as `read`.
        """

    def unavailable(self, partition: int) -> OwnerUnavailableError:
        """Why `holds` is None, and how far the recovery has come if that is why."""


class Owners(Protocol):
    """Who holds which partition, as far as this process knows; a hint, for a map is old as soon as it is made."""

    def owners(self, partition: int) -> list[str]:
        """Base URLs, the active one first, then the standbys; may include our own, may be empty."""

    def members(self) -> list[str]:
        """Base URLs of all workers of the group; may include our own, may be empty."""

    @property
    def url(self) -> str:
        """Our own base URL, spelt as in `owners`."""
