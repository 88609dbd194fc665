"""Opens the database of a partition only if it is whole and ours; one that is not is put aside and built anew.

RocksDB notices most damage by itself. Not a truncated MANIFEST: it then opens an older or empty state, and where newer
changes lie in its log, one with a hole. Such a database has table files on disk that it does not list. A crash in the
middle of a write of such a file looks the same; the price of that mistake is one rebuild from the changelog.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NoReturn

import rocksdict

from metrics_app.aggregator.last_resort import EXIT_UNUSABLE, leave

IDENTITY_KEY = b"__metrics\0identity"
MARK = "REBUILD"  # a file in the folder of a database that is to be built anew; holds the reason
BAD_SUFFIX = ".bad"

CORRUPT, FOREIGN, INCOMPLETE = "corrupt", "foreign", "incomplete"  # found on opening
UNREADABLE = "unreadable"  # found on reading, rebuilt on the next opening
AHEAD = "ahead"  # beyond the end of the changelog

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
    on_disk = {file.name for file in path.glob("*.sst")}
    options.set_disable_auto_compactions(True)  # or a listed file may be merged away before it is looked for
    db = _open(path, options)
    try:
        _check(db, on_disk, identity)
        db.set_options({"disable_auto_compactions": "false"})
    except BaseException:
        db.close()
        raise
    return db


def _open(path: Path, options: rocksdict.Options) -> rocksdict.Rdict:
    try:
        return rocksdict.Rdict(str(path), options=options)
    except Exception as error:
        if any(words in str(error) for words in _LOCK_ERRORS):
            _refuse(path)
        if is_damage(error):
            raise DamagedError(CORRUPT, str(error)) from error
        raise


def _refuse(path: Path) -> NoReturn:
    leave(EXIT_UNUSABLE, f"another worker uses {path.parent}; give each its own --data-dir (METRICS_DATA_DIR)")


def _check(db: rocksdict.Rdict, on_disk: set[str], identity: bytes) -> None:
    listed = {Path(file["name"]).name for file in db.live_files()}
    if unlisted := sorted(on_disk - listed):
        raise DamagedError(INCOMPLETE, f"{', '.join(unlisted)} belong to no state that it knows of")
    try:
        found = db.get(IDENTITY_KEY)
        if found is None and next(iter(db.keys()), None) is None:
            db.put(IDENTITY_KEY, identity)
        elif found != identity:
            raise DamagedError(FOREIGN, f"holds {found!r}, expected {identity!r}")
    except DamagedError:
        raise
    except Exception as error:
        if is_damage(error):
            raise DamagedError(CORRUPT, str(error)) from error
        raise


def mark(path: Path, reason: str) -> None:
    """Makes the next opening of a database put it aside for that reason."""
    if path.is_dir():
        (path / MARK).write_text(reason)


def put_aside(path: Path) -> Path:
    """Where the database is now. Only the last one put aside is kept in a data folder, so that no disk fills up."""
    for old in path.parent.glob(f"*{BAD_SUFFIX}"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    return path.rename(path.with_name(path.name + BAD_SUFFIX))
