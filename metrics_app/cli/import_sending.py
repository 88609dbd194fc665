"""Sends what lines of a log held, and says where the import has come to when Kafka has it.

Called by `import_files`.

While one block is on its way the next one is taken apart. A block that cannot be taken now is sent again, with the same
numbers, until the patience is over.
"""

from __future__ import annotations

import time
import uuid
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from metrics_app.cli.import_position import Positions
from metrics_app.client.buffer import Batch, batch_of
from metrics_app.client.contents import body_of, count_of, halves_of
from metrics_app.client.series import Series
from metrics_app.client.transport import Attempt, Result, Transport
from metrics_app.credentials import Credentials
from metrics_app.errors import ClientError
from metrics_app.sources.log_lines import Gathered, Place

MOST_VALUES = 50_000  # of a request
CONNECT_S, REPLY_S = 3.0, 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
NOTE_EVERY_S = 1.0

Step = tuple[int, int, Mapping[Place, int]]  # what `Position.move` takes


@dataclass
class Imported:
    """What has become of the lines so far.

    Attributes:
        lines: looked at in this run.
        accepted: values that Kafka has; of those sent before, which count once, too.
        bad: lines that are no sample, and series that the service rejected: place and reason, the first of them.
        bad_count: how many values or lines these are.
    """

    lines: int = 0
    accepted: int = 0
    bad: list[dict[str, Any]] = field(default_factory=list)
    bad_count: int = 0

    def note(self, values: int, most: int = 10_000, **what: Any) -> None:
        """One more that is not in."""
        self.bad_count += values
        if len(self.bad) < most:
            self.bad.append(what)


class ImportSending:
    """The way of one log to the service.

    Args:
        url: of the service.
        patience_s: how long a block is tried.
    """

    def __init__(
        self, url: str, credentials: Credentials, identity: uuid.UUID, positions: Positions, patience_s: float
    ) -> None:
        self._url = f"{url.rstrip('/')}/samples"
        self._transport = Transport({}, CONNECT_S, time.time_ns, credentials)
        self._identity = identity
        self._positions = positions
        self._patience_s = patience_s
        self._worker = ThreadPoolExecutor(1)
        self._under_way: Future[None] | None = None
        self._noted_s = 0.0
        # the first is that of the lines that were given out, the second belongs to the thread that sends
        self.position, self._delivered = positions.read(identity), positions.read(identity)
        self.imported = Imported()

    def send(self, gathered: Gathered, size: int, is_whole: bool = True) -> None:
        """Sends what the next `size` bytes held.

        Args:
            is_whole: whether they end with a line. A last line without its end is sent, and read again next time.

        Raises:
            ClientError: what was sent before could not be taken.
        """
        self.settle()
        batches = list(self._batches(gathered))
        counts = {place: len(values) for place, values in gathered.values.items()}
        step = (size, gathered.lines, counts) if is_whole else (0, 0, {})
        self.position.move(*step)
        self.imported.lines += gathered.lines
        for line in gathered.bad:
            self.imported.note(1, line=line.number, detail=line.detail)
        self._under_way = self._worker.submit(self._deliver, batches, step)

    def leave_last_line(self) -> None:
        """Takes no line that may be cut: the number of its value would be that of the whole one."""
        detail = "expected an end of the line: it may be cut. Import again when it is written, or with --last-line"
        self.imported.lines += 1
        self.imported.note(1, line=self.position.lines + 1, detail=detail)

    def settle(self) -> None:
        """Returns when everything sent is taken; raises ClientError when it could not be."""
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            under_way.result()

    def close(self) -> None:
        """Notes the position that is reached, and lets go of the connection.

        Raises:
            ClientError: what was sent last could not be taken.
        """
        try:
            self.settle()
        finally:
            self._worker.shutdown()
            self._transport.close()
            self._positions.write(self._identity, self._delivered)

    def _batches(self, gathered: Gathered) -> Iterator[Batch]:
        series: list[Series] = []
        room = MOST_VALUES
        numbers: Counter[tuple[str, int]] = Counter()
        for place, values in gathered.values.items():
            for start in range(0, len(values), MOST_VALUES):
                part = array("d", values[start : start + MOST_VALUES])
                if len(part) > room:
                    yield self._batch(series)
                    series, room = [], MOST_VALUES
                series.append(Series(*place, self.position.first(place) + numbers[place], part.tobytes()))
                numbers[place] += len(part)
                room -= len(part)
        if series:
            yield self._batch(series)

    def _batch(self, series: list[Series]) -> Batch:
        count = sum(map(count_of, series))
        return batch_of(self._identity, series, count, count)

    def _deliver(self, batches: list[Batch], step: Step) -> None:
        for batch in batches:
            self._deliver_one(batch)
        self._delivered.move(*step)
        if time.monotonic() - self._noted_s > NOTE_EVERY_S:
            self._positions.write(self._identity, self._delivered)
            self._noted_s = time.monotonic()

    def _deliver_one(self, batch: Batch) -> None:
        attempt = self._attempted(batch)
        if attempt.result is Result.TOO_LARGE and (halves := halves_of(batch)):
            for half in halves:
                self._deliver_one(half)
        elif attempt.result is Result.TAKEN or attempt.rejected:
            self.imported.accepted += attempt.accepted
            self._note_rejected(batch, attempt)
        else:
            raise ClientError(f"not accepted: {attempt.detail}")

    def _note_rejected(self, batch: Batch, attempt: Attempt) -> None:
        series = body_of(batch).series if attempt.rejected else []
        left = batch.count - attempt.accepted
        for rejected in attempt.rejected:
            each = series[rejected.index]
            left -= count_of(each)
            self.imported.note(count_of(each), key=each.key, hour=each.hour, detail=rejected.detail)
        self.imported.bad_count += left if attempt.rejected else 0  # a collector lists the first hundred

    def _attempted(self, batch: Batch) -> Attempt:
        """The last attempt: one that is an answer, or one after which the patience is over."""
        give_up, pause_s = time.monotonic() + self._patience_s, FIRST_PAUSE_S
        while True:
            attempt = self._transport.send(self._url, batch, REPLY_S, "")
            settled = attempt.result not in (Result.NOT_NOW, Result.DOUBTFUL, Result.UNREACHABLE)
            if settled or time.monotonic() + pause_s > give_up:
                return attempt
            time.sleep(max(pause_s, attempt.retry_after_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
