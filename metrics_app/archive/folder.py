"""A folder of files that are whole or not there: written beside, synced, renamed.

Called by `keeping`, `cli.archive` and `cli.export`.

Names are relative, with slashes. One process at a time writes; a second one is refused.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metrics_app.errors import ArchiveError

LOCK = ".lock"
UNFINISHED = ".unfinished"  # suffix; no reader of *.parquet sees it


class Folder:
    """Files below a folder, which is made when something is written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def read(self, name: str) -> bytes | None:
        """The content of a file; None when there is none.

        Raises:
            ArchiveError: it cannot be read.
        """
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ArchiveError(f"{self.root / name} cannot be read: {error.strerror}") from error

    def write(self, name: str, content: bytes) -> None:
        """Makes a file, or replaces it, at once and for good: after a crash it is the old one or the new one.

        Raises:
            ArchiveError: it cannot be written.
        """
        path = self.root / name
        try:
            _make(path.parent)
            beside = path.with_name(path.name + UNFINISHED)
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
            _sync(path.parent)
        except OSError as error:
            raise ArchiveError(f"{path} cannot be written: {error.strerror}") from error

    def names(self, pattern: str) -> list[str]:
        """Names of the files that match, ascending."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.glob(pattern))

    def delete(self, name: str) -> None:
        """Deletes a file, if it is there."""
        (self.root / name).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within it, no other process writes here; a process that is killed lets go.

        Raises:
            ArchiveError: another one does, or the folder cannot be made.
        """
        try:
            _make(self.root)
            with (self.root / LOCK).open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield
        except BlockingIOError:
            raise ArchiveError(f"another process archives to {self.root}: one is enough") from None
        except OSError as error:
            raise ArchiveError(f"{self.root} is not a folder that can be written to: {error.strerror}") from error


def _make(folder: Path) -> None:
    """Makes a folder and those above it, each durable."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
