"""Keeps waiting batches on disk, so that they survive this process, and takes over those of processes that have ended.

Called by `engine`.

What is written without `sync` survives the end of the process, kill -9 too, but not a power cut. What was recorded in
the last `interval_s` before the end was not in a batch yet, and is lost. A batch keeps its bytes, so whoever sends it
sends the same sender and numbers, and it counts once.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from metrics_app.client.buffer import Batch, Waiting
from metrics_app.client.segments import Segments, Stored, owners

logger = logging.getLogger("metrics_app.client")

MOST_SEGMENT_BYTES = 4 << 20
SEGMENTS = 16  # that the bytes allowed are divided into, at least


class Spool:
    """The spool of one process.

    Args:
        folder: made if it is not there; other processes may use it too.
        max_bytes: of all files.
        max_memory_bytes: of batches that cannot be written.
        sync: whether batches are on the disk itself before they count as kept.
    """

    def __init__(self, folder: Path, max_bytes: int, max_memory_bytes: int, sync: bool) -> None:
        self._folder = folder
        self._segment_bytes = min(MOST_SEGMENT_BYTES, max_bytes // SEGMENTS)
        self._sync = sync
        self._own: Segments | None = None
        self._taken_over: list[Segments] = []
        self._complained = False
        self._max_memory_bytes = max_memory_bytes
        self._in_memory = 0
        # files are deleted as a whole: the last one of ours, and the first, may hold little that waits
        self.room_bytes = max_bytes - 2 * self._segment_bytes

    def open(self) -> Segments:
        """The files of this process, created at the first call.

        Raises:
            OSError: the folder cannot be used.
        """
        if self._own is None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._own = Segments(self._folder, self._segment_bytes, self._sync)
        return self._own

    def keep(self, batch: Batch) -> Waiting | None:
        """Keeps the batch on disk, or in memory if the disk fails; None if there is no room in memory either."""
        try:
            return self.open().append(batch)
        except OSError as error:
            if not self._complained:
                logger.error("the spool in %s cannot be written, values wait in memory: %s", self._folder, error)
            self._complained = True
        if self._in_memory + batch.size > self._max_memory_bytes:
            return None
        self._in_memory += batch.size
        return batch

    def let_go(self, batch: Waiting) -> None:
        """Forgets a batch that was sent or dropped."""
        if isinstance(batch, Stored):
            batch.let_go()
        else:
            self._in_memory -= batch.size

    def left_behind(self) -> list[Stored]:
        """Takes over the batches of processes that have ended; oldest first."""
        found: list[Stored] = []
        for owner in owners(self._folder):
            try:
                segments = Segments(self._folder, self._segment_bytes, self._sync, owner)
            except BlockingIOError:  # alive, or another process was faster
                continue
            except OSError as error:
                logger.warning("files in the spool %s are left as they are: %s", self._folder, error)
                continue
            found += self._read(segments, owner)
        return found

    def _read(self, segments: Segments, owner: str) -> list[Stored]:
        try:
            found = segments.read()
        except Exception as error:  # whatever is in a file, the others are read
            logger.warning("the files of %s in the spool %s are left as they are: %r", owner, self._folder, error)
            segments.abandon()
            return []
        self._taken_over.append(segments)
        if segments.unreadable_bytes:
            logger.warning("%s bytes of %s in the spool are damaged", segments.unreadable_bytes, owner)
        if segments.later_versions:
            logger.warning("files of %s in the spool are of a later version, which is needed to send them", owner)
        return found

    def close(self) -> None:
        """Closes the files, so that other processes may take over what is left."""
        for segments in self._all():
            with contextlib.suppress(OSError):
                segments.close()

    def abandon(self) -> None:
        """Closes the files in the child of a fork: they belong to the parent."""
        for segments in self._all():
            with contextlib.suppress(OSError):
                segments.abandon()

    def _all(self) -> list[Segments]:
        return self._taken_over if self._own is None else [self._own, *self._taken_over]
