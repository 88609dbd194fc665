"""Opens the database of a partition only if it is whole and ours; any other is put aside and rebuilt.

Called by `local_copies`.

RocksDB notices most damage by itself, but not a truncated MANIFEST: it then opens an older or empty state. That alone
would do no harm, but where newer changes lie in its write-ahead log the state has a hole. So every write notes how
large the manifest was.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import rocksdict

from metrics_app.errors import FormatError
from metrics_app.process import EXIT_UNUSABLE, leave

IDENTITY_KEY = b"__metrics\0identity"
MANIFEST_KEY = b"__metrics\0manifest"
WHOLE_KEY = b"__metrics\0whole"
ORIGIN_KEY = b"__metrics\0origin"  # which changelog it leads to an offset of
APPENDED_KEY = b"__metrics\0appended"  # log-append time of the newest record up to there
REWRITE_KEY = b"__metrics\0rewrite"  # there while that changelog lacks its rows
MARK = "REBUILD"  # a file in the folder of a database that is to be built anew; holds the reason
BAD_SUFFIX = ".bad"

CORRUPT, FOREIGN, INCOMPLETE = "corrupt", "foreign", "incomplete"  # found on opening
UNREADABLE = "unreadable"  # found on reading, rebuilt on the next opening
AHEAD, DIVERGED = "ahead", "diverged"  # beyond the end of the changelog; of another past than it has

_LOCK_ERRORS = ("While lock file", "lock hold by current process")
_DAMAGE = ("Corruption", "Invalid argument", "Not implemented")


class DamagedError(Exception):
    """A database that must not be used; `reason` is one word for the counter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def is_damage(error: Exception) -> bool:
    """Whether RocksDB says that what is on disk cannot be right; rocksdict has no exception of its own for it."""
    return str(error).startswith(_DAMAGE)


class Manifest(NamedTuple):
    """The file in which RocksDB lists its tables; it only grows, and each opening begins one with a higher number."""

    number: int
    size: int


def manifest_of(path: Path) -> Manifest:
    """The manifest that the database in a folder uses."""
    name = (path / "CURRENT").read_text().strip()
    return Manifest(int(name.rpartition("-")[2]), (path / name).stat().st_size)


def open_database(path: Path, identity: bytes, options: rocksdict.Options) -> rocksdict.Rdict:
    """The database in a folder, created where there is none.

    Args:
        identity: what the database is a copy of; written on creation, checked afterwards.
    Raises:
        DamagedError: damaged, incomplete, marked, or not ours.
    """
    mark = path / MARK
    if mark.exists():
        raise DamagedError(mark.read_text(), "marked when it was last used")
    if path.exists() and not path.is_dir():
        raise DamagedError(FOREIGN, "not a folder")
    with _damage_found():
        had_tables = any(path.glob("*.sst"))
        manifest = manifest_of(path) if (path / "CURRENT").exists() else None
        db = _open(path, options)
        try:
            _check(db, identity, manifest, had_tables)
        except BaseException:
            db.close()
            raise
    return db


@contextmanager
def _damage_found() -> Iterator[None]:
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise DamagedError(CORRUPT, f"CURRENT: {error}") from error
    except DamagedError:
        raise
    except Exception as error:
        if is_damage(error):
            raise DamagedError(CORRUPT, str(error)) from error
        raise


def _open(path: Path, options: rocksdict.Options) -> rocksdict.Rdict:
    try:
        return rocksdict.Rdict(str(path), options=options)
    except Exception as error:
        if any(words in str(error) for words in _LOCK_ERRORS):
            leave(EXIT_UNUSABLE, f"another worker uses {path.parent}; give each its own --data-dir (METRICS_DATA_DIR)")
        raise


def _check(db: rocksdict.Rdict, identity: bytes, manifest: Manifest | None, had_tables: bool) -> None:
    found = db.get(IDENTITY_KEY)
    if found is None and next(iter(db.keys()), None) is None:
        if had_tables:
            raise DamagedError(INCOMPLETE, "its manifest lists none of its tables")
        db.put(IDENTITY_KEY, identity)
    elif found != identity:
        raise DamagedError(FOREIGN, f"holds {found!r}, expected {identity!r}")
    known = db.get(MANIFEST_KEY)
    if known is not None and (manifest is None or manifest < decode_manifest(known)):
        raise DamagedError(INCOMPLETE, f"its manifest is {manifest}, but was {decode_manifest(known)}")
    db.put(MANIFEST_KEY, encode_manifest(manifest_of(Path(db.path()))))


def encode_manifest(manifest: Manifest) -> bytes:
    """What is noted with every write: how far the manifest has grown."""
    return f"{manifest.number} {manifest.size}".encode()


def decode_manifest(value: bytes) -> Manifest:
    """The manifest of a note."""
    number, size = value.split()
    return Manifest(int(number), int(size))


def mark(path: Path, reason: str) -> None:
    """Makes the next opening of a database put it aside for that reason."""
    if path.is_dir():
        (path / MARK).write_text(reason)


def put_aside(path: Path) -> Path:
    """Moves a database aside and returns where it is. Only the last one is kept, so that no disk fills up."""
    for old in path.parent.glob(f"*{BAD_SUFFIX}"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    return path.rename(path.with_name(path.name + BAD_SUFFIX))


class ReadError(OSError):
    """A row could not be read for a reason outside the row, such as too many open files."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Within it, whatever prevents reading is a ReadError, but for a FormatError and a MemoryError."""
    try:
        yield
    except (FormatError, MemoryError):
        raise
    except Exception as error:
        raise ReadError(f"{what} could not be read: {error}") from error
