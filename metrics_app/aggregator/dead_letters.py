"""Records that cannot be folded: how they are kept, when there are too many of them, and how they come back.

Called by `agent` and `flusher`, which put records aside, and by `letter_box`, which reads and replays them.

A dead letter is the record as it was, with headers that say where it came from and why. What was replayed is noted in
the same topic, by a letter without a value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, NamedTuple

from metrics_app.errors import FormatError
from metrics_app.wire import record
from metrics_app.wire.chunk import ID_BYTES, Chunk
from metrics_app.wire.partition import partition_of

REPLAYED = "replayed"
LEFT_OUT = "left-out"  # header of a letter without its record, which was too large: the bytes it had
Headers = list[tuple[str, bytes]]


class LetterOrigin(NamedTuple):
    """Where a record was read; `offset` also names it in logs."""

    topic: str
    partition: int
    offset: int


class Letter(NamedTuple):
    """One dead letter.

    Attributes:
        reason: why it could not be folded.
        timestamp_ms: when Kafka took the record in, at its origin.
        value: the record as it was.
    """

    origin: LetterOrigin
    reason: str
    timestamp_ms: int
    value: bytes

    @property
    def kind(self) -> str:
        """The reason in one word."""
        return kind_of(self.reason)


def kind_of(reason: str) -> str:
    """What a reason is counted under: its part before the colon."""
    return reason.partition(":")[0]


def headers_of(consumed: Any, reason: str) -> Headers:
    """Headers of the dead letter of a consumed record."""
    return _headers(LetterOrigin(consumed.topic, consumed.partition, consumed.offset), reason, consumed.timestamp)


def replayed_headers(letter: Letter) -> Headers:
    """Headers of the note that a letter was replayed."""
    return _headers(letter.origin, REPLAYED, letter.timestamp_ms)


def _headers(origin: LetterOrigin, reason: str, timestamp_ms: int) -> Headers:
    facts = {**origin._asdict(), "reason": reason, "timestamp": timestamp_ms}
    return [(name, str(value).encode()) for name, value in facts.items()]


def read_letter(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> Letter:
    """The letter in a record of the dead-letter topic.

    Raises:
        FormatError: something else was produced to that topic.
    """
    found = {name: content.decode(errors="replace") for name, content in headers}
    try:
        origin = LetterOrigin(found["topic"], int(found["partition"]), int(found["offset"]))
        return Letter(origin, found["reason"], int(found["timestamp"]), value or b"")
    except (KeyError, ValueError) as error:
        raise FormatError("dead letter", f"header {error}") from error


def open_letters(letters: Iterable[Letter]) -> list[Letter]:
    """Letters that were not replayed, each origin once, in the order in which they were put aside."""
    found: dict[tuple[LetterOrigin, int], Letter] = {}  # by the time too: a topic made anew gives its offsets out again
    replayed = set()
    for letter in letters:
        if letter.reason == REPLAYED:
            replayed.add((letter.origin, letter.timestamp_ms))
        else:
            found.setdefault((letter.origin, letter.timestamp_ms), letter)
    return [letter for record, letter in found.items() if record not in replayed]


def revived(letter: Letter, max_bytes: int, partitions: int) -> list[tuple[int, bytes]]:
    """Records that bring a letter's samples back, no larger than `max_bytes` where a chunk allows it.

    Samples without a number or an id get an id derived from the origin, so that they count once however often they are
    replayed.

    Returns:
        Partition, of that many, and record; each key is in its own partition, wherever the letter's record was.

    Raises:
        FormatError: it still cannot be read.
    """
    chunks = [_with_id(chunk, letter, index) for index, chunk in enumerate(record.decode(letter.value))]
    records: dict[int, list[list[Chunk]]] = {}
    sizes: dict[int, int] = {}
    for chunk in chunks:
        partition = partition_of(chunk.key, partitions)
        size = sizes.get(partition, max_bytes) + record.sizes_of((chunk,))[0]
        if size > max_bytes:
            records.setdefault(partition, []).append([])
            size = record.OVERHEAD_BYTES + record.sizes_of((chunk,))[0]
        records[partition][-1].append(chunk)
        sizes[partition] = size
    return [(partition, record.encode(part)) for partition, parts in records.items() for part in parts]


def _with_id(chunk: Chunk, letter: Letter, index: int) -> Chunk:
    if chunk.ids or chunk.sender:
        return chunk
    topic, partition, offset = letter.origin
    name = f"dead letter {topic} {partition} {offset} {letter.timestamp_ms} {index}"
    return chunk._replace(ids=blake2b(name.encode(), digest_size=ID_BYTES).digest())


class StopRule:
    """Says when so many records are put aside that the fault must be ours, and going on would empty the topic.

    Args:
        in_row: dead letters without a good record in between that break the rule.
        percent: share of dead letters among the last `window` records beyond which it is broken.
    Attributes:
        broken: the sentence that says how; None while all is well. It stays broken until the process is restarted.
    """

    def __init__(self, in_row: int = 100, percent: float = 1.0, window: int = 10_000) -> None:
        self.in_row = in_row
        self.window = window
        self.most = int(window * percent / 100)
        self.broken: str | None = None
        self._records = 0
        self._row = 0
        self._dead: deque[int] = deque()

    def note(self, reason: str | None) -> None:
        """Takes one record into account, and why it was put aside if it was."""
        self._records += 1
        if reason is None:
            self._row = 0
            return
        self._row += 1
        self._dead.append(self._records)
        while self._dead[0] <= self._records - self.window:
            self._dead.popleft()
        self.broken = self.broken or self._sentence(reason)

    def _sentence(self, reason: str) -> str | None:
        if self._row >= self.in_row:
            many = f"{self._row:,} records in a row"
        elif len(self._dead) > self.most:
            many = f"{len(self._dead):,} of the last {min(self._records, self.window):,} records"
        else:
            return None
        return f"{many} could not be folded, the last one because of {reason}; see `metrics-app dlq list`, then restart"
