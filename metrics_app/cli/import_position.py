"""How far a log has been imported, kept in a file, so that an import that was killed goes on where it was.

Called by `import_files` and `import_sending`.

Each value of a log has a number: by the log's identity, its key and its hour, in the order of the lines. The service
counts a number once, for as long as it keeps the hour. So this file saves work and is not needed for exactness: without
it an import begins anew, sends the same numbers, and nothing counts twice.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import msgspec

from metrics_app.errors import UNREADABLE
from metrics_app.sources.log_lines import Place

NAMESPACE = uuid.UUID("5f7f2f6c-2a1e-4a5c-9a63-6d1b5b8f0c11")  # of the identities of logs


class Position(msgspec.Struct):
    """What has been taken of a log.

    Attributes:
        offset: bytes of it, up to the end of a line.
        lines: how many these were.
        numbers: by key and hour, how many values they held.
    """

    offset: int = 0
    lines: int = 0
    numbers: dict[str, dict[int, int]] = {}

    def move(self, size: int, lines: int, counts: Mapping[Place, int]) -> None:
        """Goes behind more lines."""
        self.offset += size
        self.lines += lines
        for (key, hour), count in counts.items():
            hours = self.numbers.setdefault(key, {})
            hours[hour] = hours.get(hour, 0) + count

    def first(self, place: Place) -> int:
        """The number of the next value of a key and hour."""
        return self.numbers.get(place[0], {}).get(place[1], 0)


def identity_of(name: str, opening: bytes, options: str) -> uuid.UUID:
    """The identity of a log, which is the sender of its values.

    Args:
        name: what tells it from logs that begin alike.
        opening: its first lines.
        options: all that decides which values it holds.
    """
    return uuid.uuid5(NAMESPACE, "\0".join((name, opening.hex(), options)))


class Positions:
    """The files of positions in a folder, one a log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, identity: uuid.UUID) -> Position:
        """The position of a log; the beginning when none is known, or its file is damaged."""
        try:
            return msgspec.msgpack.decode(self._file(identity).read_bytes(), type=Position)
        except (OSError, *UNREADABLE):
            return Position()

    def write(self, identity: uuid.UUID, position: Position) -> None:
        """Notes a position; whenever it is killed the old one or the new one is there.

        Raises:
            OSError: it cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._file(identity)
        new = file.with_suffix(f".{os.getpid()}")
        new.write_bytes(msgspec.msgpack.encode(position))
        new.replace(file)

    def forget(self, identity: uuid.UUID) -> None:
        """Deletes the note of a log that cannot come again."""
        self._file(identity).unlink(missing_ok=True)

    def _file(self, identity: uuid.UUID) -> Path:
        return self._folder / f"{identity}.position"
