"""Reads a log in blocks of whole lines, from a position on, and goes with it over rotation.

Called by `import_files`.

A log is what begins with the same lines in the same file of the disk: it may grow and be renamed. A new file under the
old name, or one that was cut to begin anew, is another log.
"""

from __future__ import annotations

import gzip
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from metrics_app.errors import ClientError

BLOCK_BYTES = 2 << 20
LOOK_S = 0.2  # pause between two looks at a log that is followed
LINGER_S = 2.0  # how long it is read after that
STDIN = "-"


class LogBlock(NamedTuple):
    """Some lines.

    Attributes:
        is_whole: False: the end of the log, and of its last line, is not there (yet).
    """

    text: bytes
    is_whole: bool = True


class LogFile:
    """One open log.

    Args:
        opening_lines: how many lines tell it from another one.
    Attributes:
        size: in bytes; 0 when that is not known.
    """

    def __init__(self, path: str, opening_lines: int = 1) -> None:
        self.path = path
        self._opening_lines = opening_lines
        try:
            self._file: BinaryIO = _opened(path)
            self.opening = b"".join(self._file.readline(1 << 16) for _ in range(opening_lines))
            if path != STDIN:
                self._file.seek(0)
        except (OSError, EOFError) as error:
            raise ClientError(f"{path} cannot be read: {error}") from None
        plain = path != STDIN and not path.endswith(".gz")
        self._stat = os.fstat(self._file.fileno())
        self.size = self._stat.st_size if plain else 0
        self._ahead = b"" if path != STDIN else self.opening

    @property
    def is_begun(self) -> bool:
        """Whether the lines that tell it from others are there."""
        return self.opening.count(b"\n") == self._opening_lines

    @property
    def inode(self) -> str:
        """Which file of the disk it is; empty for stdin."""
        return "" if self.path == STDIN else str(self._stat.st_ino)

    def blocks(self, offset: int, goes_on: Callable[[], bool] = lambda: False) -> Iterator[LogBlock]:
        """The lines from an offset on, in blocks.

        Args:
            goes_on: asked at the end: whether more may come.

        Raises:
            ClientError: it cannot be read.
        """
        try:
            self._seek(offset)
            rest = self._ahead[offset:] if self.path == STDIN else b""
            while True:
                read = self._file.read(BLOCK_BYTES)
                end = read.rfind(b"\n") + 1
                if end:
                    yield LogBlock(rest + read[:end])
                    rest = read[end:]
                elif read:
                    rest += read
                elif not goes_on():
                    break
        except (OSError, EOFError) as error:
            raise ClientError(f"{self.path} cannot be read: {error}") from None
        if rest:
            yield LogBlock(rest, is_whole=False)

    def is_replaced(self) -> bool:
        """Whether another log has its name now, or it was cut."""
        try:
            now = os.stat(self.path)
        except OSError:
            return False  # renamed, and the new one is not there yet
        position = self._file.tell()
        return now.st_ino != self._stat.st_ino or now.st_size < position

    def close(self) -> None:
        """Lets go of it."""
        if self.path != STDIN:
            self._file.close()

    def _seek(self, offset: int) -> None:
        if self.path == STDIN:
            left = max(0, offset - len(self._ahead))
            while left and (skipped := self._file.read(min(left, BLOCK_BYTES))):
                left -= len(skipped)
        else:
            self._file.seek(offset)


def _opened(path: str) -> BinaryIO:
    if path == STDIN:
        return sys.stdin.buffer
    if path.endswith(".gz"):
        return gzip.open(path, "rb")  # type: ignore[return-value]  # reads like one
    return Path(path).open("rb")


def followed(log: LogFile) -> Callable[[], bool]:
    """Whether a log goes on, after a look at it: not when another one has had its name for a while.

    For a while, because whoever writes it goes on in the old file until it has opened the new one.
    """
    replaced_s: list[float] = []

    def goes_on() -> bool:
        if log.is_replaced():
            replaced_s.append(time.monotonic())
        time.sleep(LOOK_S)
        return not replaced_s or time.monotonic() - replaced_s[0] < LINGER_S

    return goes_on
