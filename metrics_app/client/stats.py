"""What a client has done so far, and what it could not do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from metrics_app.client.addresses import Address

NO_VALUES = frozenset({"value", "key"})


@dataclass(frozen=True, slots=True)
class AddressState:
    """A collector as this client sees it: failures in a row, and what the last one was."""

    url: str
    failures: int
    problem: str


@dataclass(frozen=True, slots=True)
class Stats:
    """A moment's counts, in values since the client was made or forked.

    recorded + recovered = sent + waiting + those dropped for another reason than that they were no values ("key",
    "keys", "value", "closed"), once `flush` has returned.

    Attributes:
        recorded: taken from the app.
        recovered: of those an earlier process had left in the spool.
        sent: accepted by a collector, so in Kafka.
        waiting: not yet sent, in memory or in the spool.
        waiting_bytes: what they take.
        dropped: by reason (`wire/dropped.py` says what each means).
        batches: requests accepted.
        retries: further attempts to send a batch.
        sender: the id under which this process numbers its values.
    """

    recorded: int
    recovered: int
    sent: int
    waiting: int
    waiting_bytes: int
    dropped: dict[str, int]
    batches: int
    retries: int
    sender: str
    addresses: list[AddressState]


class Dropped:
    """Values dropped by reason, and how many of them no collector knows of yet."""

    def __init__(self) -> None:
        self.total: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()

    @property
    def lost(self) -> int:
        """Values dropped; what was none, by its number or its key, is not among them."""
        return sum(values for reason, values in self.total.items() if reason not in NO_VALUES)

    def unreported(self) -> Counter[str]:
        """What the next batch has to tell."""
        return self.total - self._reported

    def reported(self, told: Counter[str]) -> None:
        """A collector has taken note."""
        self._reported += told


def states(addresses: list[Address]) -> list[AddressState]:
    """The addresses as they are now."""
    return [AddressState(address.url, address.failures, address.problem) for address in addresses]
