"""What the samples topic is now: whether it still is the log that was folded, and what time it is in it.

Called by `partitions`, which compares checkpoints with it, by `fold`, which keeps its clock, and by `upkeep`.

A checkpoint says: everything up to this offset is in the rows. That is worth nothing when the topic was made anew, or
lost its end when a broker crashed, for its offsets are then given to other records. Kafka has the proof: every record
folded so far was appended at or before `checkpoint.log_ms`. So a record that was appended later must lie after the
checkpoint, and the log must reach the checkpoint. Otherwise a new epoch begins at the first later record.

The time has two sources (docs/adr/0009): the append times of the records, and the worker's own clock. An append time
moves the log's clock on only if the own clock has got there too, up to a tolerance. So neither a broker nor a worker
whose clock is ahead can make rows expire, hours close or ids be forgotten. A clock that is behind only delays that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

import faust
from faust.types import TP

from metrics_app.aggregator.row import Checkpoint
from metrics_app.faust_runtime.consumer import RunConsumer

ANSWER_S = 5.0


class LogSpan(NamedTuple):
    """What a partition of the log holds: offsets from `earliest` to before `end`; `newer`: the first appended later."""

    earliest: int
    end: int
    newer: int | None


def continued(checkpoint: Checkpoint, span: LogSpan) -> Checkpoint:
    """The checkpoint to go on from: the same, or one of a new epoch when the log is not the one it was taken from."""
    first_new = span.end if span.newer is None else span.newer
    if not checkpoint.log_ms:  # nothing of the log was ever folded
        first_new = span.earliest
    is_cut = span.end <= checkpoint.offset
    is_other = bool(checkpoint.log_ms) and first_new <= checkpoint.offset
    if not is_cut and not is_other:
        return checkpoint
    return checkpoint._replace(epoch=checkpoint.epoch + 1, offset=first_new - 1)


class SourceLog:
    """The samples topic, seen through the consumer of the app."""

    def __init__(self, app: faust.App, topic: str) -> None:
        self.app = app
        self.topic = topic

    async def spans(self, checkpoints: Mapping[int, Checkpoint]) -> dict[int, LogSpan]:
        """The span of each partition, `newer` than its checkpoint; three requests a broker, however many partitions.

        Raises:
            KafkaError, TimeoutError: Kafka did not say.
        """
        tps = {TP(self.topic, partition): checkpoint for partition, checkpoint in checkpoints.items()}
        async with asyncio.timeout(ANSWER_S):
            earliest = await self.app.consumer.earliest_offsets(*tps)
            newer = await self._first_after({tp: checkpoint.log_ms for tp, checkpoint in tps.items()})
            ends = await self.app.consumer.highwaters(*tps)  # last: a log cut meanwhile must not look whole
        return {tp.partition: LogSpan(earliest[tp], ends[tp], newer[tp]) for tp in tps}

    async def _first_after(self, log_ms: dict[TP, int]) -> dict[TP, int | None]:
        return await self._consumer.offsets_for_times({tp: at + 1 for tp, at in log_ms.items()})

    async def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """The offset after the last record of each partition."""
        tps = {TP(self.topic, partition) for partition in partitions}
        found = await self.app.consumer.highwaters(*tps) if tps else {}
        return {tp.partition: end for tp, end in found.items() if end is not None}

    def committed(self, partition: int) -> int:
        """Offset from which Faust began to read; 0 when it had none."""
        return self._consumer.began_at(TP(self.topic, partition))

    async def seek(self, partition: int, offset: int) -> None:
        """Has the records from an offset on delivered again."""
        await self._consumer.deliver_from(TP(self.topic, partition), offset)

    @property
    def _consumer(self) -> RunConsumer:
        return cast(RunConsumer, self.app.consumer)


class Witness(NamedTuple):
    """What the worker that folds a record knows of the time.

    Attributes:
        own_ms: its own clock, epoch milliseconds.
        disputed: whether that clock and Kafka's are known to differ by more than the tolerance.
    """

    own_ms: int
    disputed: bool = False


ANY_TIME = Witness(1 << 62)  # confirms every append time; for a fold without a worker


@dataclass(slots=True)
class LogClock:
    """The clock of one partition's log.

    Attributes:
        newest_ms: the highest append time, confirmed or not. It tells this log from another one and nothing else.
        confirmed_ms: the highest append time that the own clock confirmed when the record was folded.
        tolerance_ms: how far the log may be ahead of the own clock.
    """

    newest_ms: int
    confirmed_ms: int
    tolerance_ms: int

    def read(self, stamp_ms: int, own_ms: int) -> None:
        """Takes the append time of the next record."""
        self.newest_ms = max(self.newest_ms, stamp_ms)
        latest = own_ms + self.tolerance_ms
        if stamp_ms > latest:
            return
        went_ahead = self.confirmed_ms > latest  # log and worker now agree that it had gone too far
        self.confirmed_ms = stamp_ms if went_ahead else max(self.confirmed_ms, stamp_ms)

    def agreed_ms(self, own_ms: int) -> int:
        """The time that both witnesses have reached."""
        return min(self.confirmed_ms, own_ms + self.tolerance_ms)
