"""The rows that one flush writes of one partition, as they were when it was taken.

Called by `fold`, which takes flushes, and by `active` and `flusher`, which write them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.row import Checkpoint, Row
from metrics_app.aggregator.small_row import SmallRow

AnyRow = Row | SmallRow


@dataclass(slots=True)
class Flush:
    """Rows to make durable, and the checkpoint they lead to once they are.

    The rows are those of the moment at which the flush was taken. To encode many takes a while, so they are encoded one
    by one while records are folded, and a row that a record is about to change is encoded before.

    Attributes:
        checkpoint: up to which the rows are complete.
        taken: all hour rows of the flush, by row key; some may have changed since they were encoded.
        ids: the source records whose ids are in it.
    """

    checkpoint: Checkpoint
    taken: dict[bytes, AnyRow]
    ids: set[int]
    _ids_rows: list[tuple[bytes, bytes]]
    _waiting: dict[bytes, AnyRow]
    _encoded: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def rows(self) -> list[tuple[bytes, bytes]]:
        """All of them with their bytes, those of ids last."""
        for _ in self.encoding():
            pass
        return [*self._encoded, *self._ids_rows]

    def encoding(self) -> Iterator[None]:
        """Encodes one row after the other; between two steps records may be folded."""
        for row_key in [*self._waiting]:
            self.encode(row_key)
            yield

    def encode(self, row_key: bytes) -> None:
        """Encodes a row if it is one of this flush and is not encoded yet."""
        row = self._waiting.get(row_key)
        if row is not None:
            row.stamp = max(row.stamp, self.checkpoint.offset)
            self._encoded.append((row_key, row.encode() if isinstance(row, SmallRow) else rows.encode_row(row)))
            del self._waiting[row_key]
