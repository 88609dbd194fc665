"""The spool of one process: files to which batches are appended, and notes of those that are not needed any more.

Called by `spool`.

    <owner>.lock            locked by the process that owns the others; free once that has ended, however it ended
    <owner>-000001.spool1   magic and version of the format, then records, one after the other: kind, length and CRC-32
                            of what follows, then

        B   flags (1 gzipped, 2 hours corrected), number of values, number of items, body of a request
        D   segment and place of a batch that was sent or dropped

    <owner>-000001.spool    the same without magic and version, by the first release; it is read, and not written

An owner is 32 hexadecimal digits; whatever else is in the folder, or belongs to another user, or is of a later version,
is left as it is. Nothing is ever overwritten. A record cut short, or damaged, ends its file: what is behind it is not
read. A file but the last is deleted when no batch in it waits, or one that is long under way would hold on to all
behind it. A note in it may be about a batch in an older file: it is sent again after a restart, under the same numbers,
and counts once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import struct
import threading
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metrics_app.client.buffer import Batch
from metrics_app.errors import FormatError

LOCK, SEGMENT, FIRST_SEGMENT = ".lock", ".spool1", ".spool"
MAGIC = b"\x89MASP"
VERSION = 1

_PREFACE = MAGIC + bytes([VERSION])
_OWNER = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(rf"([0-9a-f]{{32}})-([0-9]{{6,9}})({re.escape(SEGMENT)}|{re.escape(FIRST_SEGMENT)})")
_HEAD = struct.Struct("<cII")  # kind, length, CRC-32
_BATCH = struct.Struct("<BQI")
_GZIPPED, _MOVED = 1, 2
_DONE = struct.Struct("<II")
_OF_THE_MOMENT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})
_FILE_MODE = 0o600


@dataclass(slots=True)
class _Segment:
    number: int
    path: Path
    size: int = 0
    live: int = 0


@dataclass(slots=True, eq=False)
class Stored:
    """A batch on disk; it can be read as long as it was not let go."""

    owner: Segments
    segment: _Segment
    place: int
    size: int
    count: int
    items: int

    def load(self) -> Batch | None:
        """The batch; None when it cannot be read any more.

        Raises:
            OSError: it cannot be read now, for want of file descriptors, say.
        """
        try:
            with self.segment.path.open("rb") as file:
                file.seek(self.place)
                record = file.read(self.size)
        except OSError as error:
            if error.errno in _OF_THE_MOMENT:
                raise
            return None
        return next((_batch_of(payload) for _, kind, payload in _records(record, 0) if kind == b"B"), None)

    def let_go(self) -> None:
        """Tells its file that the batch need not be kept any more."""
        self.owner.let_go(self)


class Segments:
    """The files of one owner.

    Args:
        folder: where they are; exists.
        segment_bytes: size that a file does not exceed, but for a batch that is larger by itself.
        sync: whether an append is on the disk itself when it returns.
        owner: an earlier process, whose files are taken over; None: files of our own.

    Raises:
        BlockingIOError: the owner is alive.
        OSError: the folder cannot be used.
    """

    def __init__(self, folder: Path, segment_bytes: int, sync: bool, owner: str | None = None) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._sync = sync
        self._owner = owner or uuid.uuid4().hex
        self._taken_over = owner is not None
        self.unreadable_bytes = 0
        self.later_versions = 0
        self._guard = threading.Lock()
        self._segments: list[_Segment] = []
        self._file = -1
        self._lock = os.open(folder / f"{self._owner}{LOCK}", os.O_CREAT | os.O_RDWR, _FILE_MODE)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise

    def append(self, batch: Batch) -> Stored:
        """Keeps a batch.

        Raises:
            OSError: it is not kept.
        """
        flags = _GZIPPED * batch.gzipped | _MOVED * batch.moved
        payload = _BATCH.pack(flags, batch.count, batch.items) + batch.body
        with self._guard:
            if self._lock < 0:
                raise OSError("it was closed")
            segment, place = self._write(b"B", payload)
            segment.live += 1
        return Stored(self, segment, place, _HEAD.size + len(payload), batch.count, batch.items)

    def let_go(self, stored: Stored) -> None:
        """Notes that a batch need not be kept, and deletes what is not needed then."""
        with self._guard:
            if self._lock < 0:
                return
            stored.segment.live -= 1
            # should it fail, a batch is sent once more after a restart, under the same numbers
            with contextlib.suppress(OSError):
                self._write(b"D", _DONE.pack(stored.segment.number, stored.place))
                for idle in [segment for segment in self._segments[:-1] if not segment.live]:
                    self._segments.remove(idle)
                    idle.path.unlink(missing_ok=True)
            needless = self._taken_over and not self._has_live
        if needless:
            self.close()

    @property
    def _has_live(self) -> bool:
        return any(segment.live for segment in self._segments)

    def read(self) -> list[Stored]:
        """The batches that an earlier process left behind, oldest first; when there are none, its files are deleted."""
        found: dict[tuple[int, int], Stored] = {}
        for number, path in _files_of(self._folder, self._owner):
            data = _content(path)
            if data is None:
                continue
            start = _start(data)
            if start is None:
                self.later_versions += 1
            else:
                segment = _Segment(number, path, start)
                self._segments.append(segment)
                self._read(segment, data, found)
        if not found:
            self.close()
        return list(found.values())

    def _read(self, segment: _Segment, data: bytes, found: dict[tuple[int, int], Stored]) -> None:
        for place, kind, payload in _records(data, segment.size):
            size = _HEAD.size + len(payload)
            segment.size = place + size
            if kind == b"B":
                _, count, items = _BATCH.unpack_from(payload)
                found[segment.number, place] = Stored(self, segment, place, size, count, items)
                segment.live += 1
            else:
                done = found.pop(_DONE.unpack(payload), None)
                if done is not None:
                    done.segment.live -= 1
        self.unreadable_bytes += len(data) - segment.size

    def close(self) -> None:
        """Closes the files for another process to take over; deletes them when nothing is left."""
        with self._guard:
            if self._lock >= 0 and not self._has_live:
                for segment in self._segments:
                    segment.path.unlink(missing_ok=True)
                self._segments.clear()
                if not self.later_versions:
                    (self._folder / f"{self._owner}{LOCK}").unlink(missing_ok=True)
            self.abandon()

    def abandon(self) -> None:
        """Closes the files. In the child of a fork they stay locked for the parent."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def _write(self, kind: bytes, payload: bytes) -> tuple[_Segment, int]:
        record = _HEAD.pack(kind, len(payload), zlib.crc32(payload)) + payload
        segment = self._current(kind, len(record))
        place = segment.size
        try:
            if os.write(self._file, record) < len(record):
                raise OSError("the disk is full")
            if self._sync:
                os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, place)
            raise
        segment.size += len(record)
        return segment, place

    def _current(self, kind: bytes, size: int) -> _Segment:
        """The segment to append to; notes go to the last one there is, however large it is."""
        full = self._segments and self._segments[-1].size + size > self._segment_bytes and kind == b"B"
        if not self._segments or full:
            number = self._segments[-1].number + 1 if self._segments else 1
            self._segments.append(_Segment(number, self._folder / f"{self._owner}-{number:06}{SEGMENT}"))
            self._open(self._segments[-1])
        elif self._file < 0:
            self._open(self._segments[-1])
        return self._segments[-1]

    def _open(self, segment: _Segment) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1  # whoever opens a file next gets its number
        self._file = os.open(segment.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, _FILE_MODE)
        os.ftruncate(self._file, segment.size)  # without a record cut short
        if not segment.size:
            self._begin(segment)

    def _begin(self, segment: _Segment) -> None:
        try:
            if os.write(self._file, _PREFACE) < len(_PREFACE):
                raise OSError("the disk is full")
        except OSError:
            os.close(self._file)
            self._file = -1
            raise
        segment.size = len(_PREFACE)


def owners(folder: Path) -> list[str]:
    """The processes that have, or had, files in a folder."""
    names = [entry.name for entry in os.scandir(folder)]
    locks = {name.removesuffix(LOCK) for name in names if name.endswith(LOCK)}
    segments = {match[1] for name in names if (match := _NAME.fullmatch(name))}
    return sorted(segments | {lock for lock in locks if _OWNER.fullmatch(lock)})


def _files_of(folder: Path, owner: str) -> list[tuple[int, Path]]:
    found = [_NAME.fullmatch(entry.name) for entry in os.scandir(folder)]
    return sorted((int(match[2]), folder / match[0]) for match in found if match and match[1] == owner)


def _content(path: Path) -> bytes | None:
    """The bytes of a spool file; None for a pipe, a link, or a file of another user.

    Raises:
        OSError: it cannot be read.
    """
    status = path.lstat()
    return path.read_bytes() if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() else None


def _start(data: bytes) -> int | None:
    """Where the records of a file begin; None when it is of a later version."""
    if data.startswith(_PREFACE):
        return len(_PREFACE)
    return None if data.startswith(MAGIC) else 0  # the first release began with a record


def _records(data: bytes, at: int) -> Iterator[tuple[int, bytes, bytes]]:
    """(place, kind, payload) of each whole record from a place on."""
    while at + _HEAD.size <= len(data):
        kind, length, crc = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + length]
        # nothing at all fits the checksum 0 of a head of zeros
        if not 0 < length == len(payload) or zlib.crc32(payload) != crc or kind not in (b"B", b"D"):
            return
        _check(kind, length)
        yield at, kind, payload
        at += _HEAD.size + length


def _check(kind: bytes, length: int) -> None:
    """Raises FormatError for what is whole and no record of a spool: the file belongs to somebody else."""
    if length < _BATCH.size if kind == b"B" else length != _DONE.size:
        raise FormatError("spool", f"a record of kind {kind!r} with {length} bytes")


def _batch_of(payload: bytes) -> Batch:
    flags, count, items = _BATCH.unpack_from(payload)
    return Batch(count, items, bool(flags & _GZIPPED), payload[_BATCH.size :], bool(flags & _MOVED))
