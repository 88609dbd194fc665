"""The local copy of the table of hours: the newer of two states of a row stays.

Called by `replica` and `fencing` with records of the changelog, by `flusher` with rows, and by whoever reads rows.

The changelog is the table. This store is a cache of it that survives a restart. Rows reach it only after the changelog
has acknowledged them, in one atomic batch with the changelog offset that they lead to. Where two states of a row meet
(in recovery, in a standby, behind a zombie's write) the one with the higher version stays.

Rows that a newer release has written end the process: leaving them out would lose them. Records that are no whole rows
of the partition are never taken in (`changelog`), so a copy that is rebuilt is sound.

`rewrite` writes a whole local copy to a changelog that was deleted and made anew: the copy is what is left of it. The
checkpoint comes last, as its key is the greatest: whoever reads half of such a changelog folds the samples once more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

from aiokafka import AIOKafkaProducer
from faust.types import TP

from metrics_app.aggregator import changelog
from metrics_app.aggregator.changelog import OLDEST, Bad, Good
from metrics_app.aggregator.local_copies import LocalCopies
from metrics_app.aggregator.row import CHECKPOINT_KEY, HOUR, Version, is_incomplete, version_of
from metrics_app.errors import NewerFormatError
from metrics_app.wire.partition import partition_of

logger = logging.getLogger(__name__)


class ChangelogRecord(Protocol):
    """A record as Kafka gives it."""

    @property
    def key(self) -> bytes | None:
        """Row key."""

    @property
    def value(self) -> bytes | None:
        """Row value."""

    @property
    def timestamp(self) -> int:
        """Log-append time, epoch milliseconds."""


class HourStore(LocalCopies):
    """Store of one worker.

    Attributes:
        on_bad: told how many changelog records were not taken in.
        overwritten: by partition, row keys whose newest changelog record is older than our row; they must be written
            again (`fencing`).
        doubted: by partition, rows that a damaged record has made incomplete, and the version that it claimed.
    """

    on_bad: Callable[[int], None] = staticmethod(lambda count: None)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.overwritten: dict[int, set[bytes]] = defaultdict(set)
        self.doubted: dict[int, dict[bytes, Version]] = defaultdict(dict)

    def rebuild(self, partition: int, reason: str, detail: str) -> None:
        """Puts the copy of a partition aside; recovery starts from nothing."""
        self.overwritten.pop(partition, None)
        self.doubted.pop(partition, None)
        super().rebuild(partition, reason, detail)

    def merge(self, tp: TP, records: Iterable[ChangelogRecord], reached: int) -> None:
        """Takes changelog records in, each only where it is not older than the row in place; all up to `reached`."""
        records = list(records)
        row_keys = [record.key for record in records if record.key]
        with self.sound(tp.partition):
            values: Any = self.database(tp.partition).get(cast(Any, row_keys))
            current: dict[bytes, bytes] = dict(zip(row_keys, values, strict=True))
        news: dict[bytes, bytes] = {}
        bad: list[Bad] = []
        for record in records:
            found = self._checked(tp.partition, record.key, record.value)
            if isinstance(found, Bad):
                bad.append(found)
                value = self._instead(tp.partition, found, current)
            else:
                value = found.value if self._is_newest(tp.partition, found, current[found.row_key]) else None
            if value is not None:
                current[found.row_key] = news[found.row_key] = value
        self._tell(tp.partition, bad)
        self.write(tp, news.items(), reached, max((record.timestamp for record in records), default=0))

    def compare(self, partition: int, row_key: bytes | None, value: bytes | None) -> Version:
        """Version of a changelog record, which is compared with the row in place and not taken in.

        For an owner, whose rows are a function of the log: it need not ask what a damaged record may have been.
        """
        found = self._checked(partition, row_key, value)
        if isinstance(found, Bad):
            self._tell(partition, [found])
            if found.row_key not in (b"", CHECKPOINT_KEY):
                self.overwritten[partition].add(found.row_key)
            return OLDEST
        self._is_newest(partition, found, self.read(partition, found.row_key))
        return found.version

    def has_overwritten(self, partition: int) -> bool:
        """Whether a partition has rows that must be written again."""
        return bool(self.overwritten[partition])

    def overwritten_rows(self, partition: int, most: int) -> list[tuple[bytes, bytes]]:
        """The rows of a partition that must be written again, in the order of their keys; those that expired are not.

        Args:
            most: at most so many; fewer than one is none.
        """
        row_keys = sorted(self.overwritten[partition])[: max(0, most)]
        found = {row_key: self.read(partition, row_key) for row_key in row_keys}
        self.repeated(partition, [row_key for row_key, value in found.items() if value is None])
        return [(row_key, value) for row_key, value in found.items() if value is not None]

    def repeated(self, partition: int, row_keys: Iterable[bytes]) -> None:
        """Notes that these rows need not be written again."""
        self.overwritten[partition].difference_update(row_keys)

    def _checked(self, partition: int, row_key: bytes | None, value: bytes | None) -> Good | Bad:
        try:
            return changelog.check(row_key, value, lambda key: self.is_home(partition, key))
        except NewerFormatError as error:
            self._refuse(partition, error)

    def is_home(self, partition: int, key: bytes) -> bool:
        """Whether the rows of a metric key are in a partition."""
        return partition_of(key, self.table.partitions or 1) == partition

    def _instead(self, partition: int, bad: Bad, current: dict[bytes, bytes]) -> bytes | None:
        """What to store for a record that is not taken in; None where the row in place, if any, is good as it is."""
        if bad.row_key in (b"", CHECKPOINT_KEY):
            return None
        known = current[bad.row_key]
        self.overwritten[partition].add(
            bad.row_key
        )  # our row is written again, so that the newest record is a good one
        with self.sound(partition):
            if bad.row_key[0] != HOUR or (known is not None and changelog.is_older(bad.claimed, known)):
                return None
            doubted = self.doubted[partition]
            if bad.claimed is not None and (known is None or not is_incomplete(known) or bad.row_key in doubted):
                doubted[bad.row_key] = min(bad.claimed, doubted.get(bad.row_key, bad.claimed))
            return changelog.rewritten(known, incomplete=True)

    def settle_doubts(self, partition: int) -> None:
        """Makes rows whole again whose damaged record is newer than the checkpoint: it is folded once more."""
        checkpoint = self.read(partition, CHECKPOINT_KEY)
        doubted = self.doubted.pop(partition, {})
        if checkpoint is None:
            return
        with self.sound(partition):
            redone = [row_key for row_key, claimed in doubted.items() if claimed > version_of(checkpoint)]
            whole = [(row_key, changelog.rewritten(self.read(partition, row_key), False)) for row_key in redone]
        self.write(TP(self.table.changelog_topic.get_topic_name(), partition), whole, None)

    def _tell(self, partition: int, bad: list[Bad]) -> None:
        if bad:
            first = f"{bad[0].row_key!r}: {bad[0].reason}"
            logger.error(
                "changelog of partition %s: %s records were not taken in, the first for %s", partition, len(bad), first
            )
            self.on_bad(len(bad))

    def _is_newest(self, partition: int, found: Good, current: bytes | None) -> bool:
        row_key, value, version = found
        with self.sound(partition):
            known = OLDEST if current is None else version_of(current)
        is_newest = version > known or (
            version == known and (not is_incomplete(value) or current is None or is_incomplete(current))
        )
        if is_newest:
            self.overwritten[partition].discard(row_key)
            self.doubted[partition].pop(row_key, None)
        elif (
            row_key != CHECKPOINT_KEY
        ):  # a checkpoint that goes back costs a replay, and is written every few seconds anyway
            self.overwritten[partition].add(row_key)
        return is_newest


MOST_ROWS = 1000  # at a time
MOST_BYTES = 1 << 20


async def rewrite(
    store: HourStore, tp: TP, producer: AIOKafkaProducer, goes_on: Callable[[], bool], note: Callable[[TP, int], None]
) -> None:
    """Returns when the changelog has acknowledged every row, or the partition is not ours any more.

    Args:
        goes_on: whether it still is.
        note: told how many rows have been written so far.
    """
    start, written = b"", 0
    while goes_on():
        found = store.scan(tp.partition, start, CHECKPOINT_KEY + b"\0", MOST_ROWS, MOST_BYTES)
        if not found:
            logger.warning("%s: wrote %s rows of the local copy", tp, written)
            store.attached(tp.partition)
            return
        acks = [await producer.send(tp.topic, value, row_key, tp.partition) for row_key, value in found]
        await asyncio.gather(*acks)
        start, written = found[-1][0] + b"\0", written + len(found)
        note(tp, written)
