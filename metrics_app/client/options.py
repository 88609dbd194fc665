"""The settings of a client, and what it counts. The defaults suit an app with a few workers.

Called by `client`, `delivery`, `engine`, `gathering` and `outcome`.

What a client has done so far, and what it could not do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from metrics_app.client.transport import CollectorAddress
from metrics_app.wire.dropped import MOST


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Limits and times of one client.

    Attributes:
        interval_s: longest time until recorded values are sent, seconds.
        batch_values: values that are sent at once, before that time is over.
        max_values: values waiting to be sent; beyond it the oldest are dropped. A histogram counts as its buckets.
        max_bytes: bytes waiting to be sent; beyond it the oldest are dropped.
        max_keys: different keys in an hour; values of further ones are dropped. Each takes about 1 KB of memory.
        histogram_above: values per second of one key from which on a histogram is sent instead of them; 0: never.
        connect_timeout_s: longest time to connect to a collector, seconds.
        timeout_s: longest time to wait for a reply; a collector refuses after 1.8 s what it cannot keep.
        backoff_first_s, backoff_max_s: an address that failed is tried again after a random part of this time, which
            doubles with each failure from the first to the greatest, seconds.
        retry_share: retries per batch sent, on average; beyond it only the greatest backoff is left.
        catch_up: after an outage, how many times faster than values come in they are sent.
        exit_timeout_s: longest time that the end of the process is held up to send what is waiting, seconds.
        clock_tolerance_s: difference between this machine's clock and the collectors' up to which ours is believed.
        signals: whether the values that wait are sent when a signal such as SIGTERM is about to end the process.
        headers: added to each request, an `Authorization` say.
        spool: folder in which what waits survives the end of the process, kill -9 too; None: it waits in memory.
        spool_bytes: bytes waiting in the folder; beyond it the oldest are dropped. Replaces `max_values`, `max_bytes`.
        spool_sync: whether each batch is on the disk itself (fsync) before it counts as kept, to survive a power cut.
    """

    interval_s: float = 1.0
    batch_values: int = 500
    max_values: int = 1_000_000
    max_bytes: int = 16 << 20
    max_keys: int = 2_000
    histogram_above: int = 2_000
    connect_timeout_s: float = 1.0
    timeout_s: float = 5.0
    backoff_first_s: float = 0.2
    backoff_max_s: float = 30.0
    retry_share: float = 0.2
    catch_up: float = 2.5
    exit_timeout_s: float = 2.0
    clock_tolerance_s: float = 2.0
    signals: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    spool: Path | str | None = None
    spool_bytes: int = 256 << 20
    spool_sync: bool = False

    def __post_init__(self) -> None:
        for each in fields(self):
            value, least = getattr(self, each.name), _LEAST.get(each.name)
            if least is not None and not (isinstance(value, int | float) and value >= least):
                raise ValueError(f"{each.name}: expected a number of at least {least}, got {value!r}")
        for text in (*self.headers, *self.headers.values()):
            if not isinstance(text, str) or not text.isprintable():  # no request would ever leave
                raise ValueError(f"headers: expected texts without control characters, got {text!r}")


_LEAST = {
    "interval_s": 0.01,
    "batch_values": 1,
    "max_values": 1,
    "max_bytes": 64 << 10,
    "max_keys": 1,
    "histogram_above": 0,
    "connect_timeout_s": 0.01,
    "timeout_s": 0.01,
    "backoff_first_s": 0.001,
    "backoff_max_s": 0.001,
    "retry_share": 0,
    "catch_up": 1,
    "exit_timeout_s": 0,
    "clock_tolerance_s": 0,
    "spool_bytes": 1 << 20,
}


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
        """Number of dropped values, without those whose number or key was invalid."""
        return sum(values for reason, values in self.total.items() if reason not in NO_VALUES)

    def unreported(self) -> Counter[str]:
        """What the next batch has to tell, as far as a header may."""
        left = self.total - self._reported
        return Counter({reason: min(values, MOST) for reason, values in left.items()})

    def reported(self, told: Counter[str]) -> None:
        """Notes that a collector knows of these drops."""
        self._reported += told


def states(addresses: list[CollectorAddress]) -> list[AddressState]:
    """The addresses as they are now."""
    return [AddressState(address.url, address.failures, address.problem) for address in addresses]
