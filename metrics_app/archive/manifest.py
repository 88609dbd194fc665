"""What the small JSON files of an archive say: whose it is, which files count, and how far the changelog is read.

Called by `keeping`.

    archive.json                          whose changelog this is; written once
    date=2026-11-23/partition-003.json    manifest of a day of one partition: of each hour the file that counts
    place/partition-003.json              how far the changelog of a partition is archived

The order of writing is file, manifest, place. So a manifest names only files that are whole, and a place claims only
what manifests have. A crash in between is made up for by reading the same records again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from metrics_app.errors import UNREADABLE, ArchiveError

FORMAT = 1
HOUR_S = 3600


class ArchiveOf(msgspec.Struct, frozen=True):
    """Whose changelog an archive holds."""

    cluster: str
    topic: str
    partitions: int
    format: int = FORMAT


class ArchivedHour(msgspec.Struct, frozen=True):
    """The file of one hour that counts.

    Attributes:
        version: 1 for the first one; each correction brings the next.
        sha256: of the file, in hexadecimal.
        rows, values: in it.
        sealed: first hour that was not sealed when it was written, above this one: every row of it had been seen.
        epoch, offset: record of the samples topic up to which the partition was folded then.
        as_of: epoch seconds; everything accepted until then, in that partition, is in.
        lost_records: of the hour, deleted by Kafka before they were folded; null: it is not known how many.
        incomplete_rows: whose newest state was found damaged.
    """

    version: int
    file: str
    sha256: str
    bytes: int
    rows: int
    values: int
    sealed: int
    epoch: int
    offset: int
    as_of: float
    lost_records: int | None
    incomplete_rows: int


class DayManifest(msgspec.Struct, frozen=True):
    """The files of one day of one partition that count, by hour of the day."""

    date: str
    partition: int
    hours: dict[str, ArchivedHour] = {}
    format: int = FORMAT


class ArchivePlace(msgspec.Struct, frozen=True):
    """How far the changelog of a partition is archived.

    Attributes:
        topic_id: of the changelog; empty when the broker knows none.
        offset: to read from.
        sealed: hours before it are archived; one of them without a file has no rows.
    """

    topic_id: str
    offset: int = 0
    sealed: int = 0
    format: int = FORMAT


def date_of(hour: int) -> str:
    """UTC date of an hour since 1970."""
    return f"{datetime.fromtimestamp(hour * HOUR_S, UTC):%Y-%m-%d}"


def hour_of_day(hour: int) -> str:
    """ "00" to "23"."""
    return f"{hour % 24:02d}"


def manifest_name(date: str, partition: int) -> str:
    """Name of the manifest of a day."""
    return f"date={date}/partition-{partition:03d}.json"


def file_name(hour: int, partition: int, version: int | str) -> str:
    """Name of the file of an hour; with "*" for the version, the pattern of all versions."""
    return f"date={date_of(hour)}/hour={hour_of_day(hour)}/partition-{partition:03d}.v{version}.parquet"


def place_name(partition: int) -> str:
    """Name of the file that says how far a partition is archived."""
    return f"place/partition-{partition:03d}.json"


def packed(document: msgspec.Struct) -> bytes:
    """Bytes of one of these files."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


Document = TypeVar("Document", ArchiveOf, DayManifest, ArchivePlace)


def unpacked(content: bytes, kind: type[Document], name: str) -> Document:
    """One of these files.

    Raises:
        ArchiveError: it is damaged, or of a newer release.
    """
    try:
        found = msgspec.json.decode(content, type=kind)
    except UNREADABLE as error:
        raise ArchiveError(f"{name} is damaged ({error}): put it back from a copy") from error
    if found.format != FORMAT:
        raise ArchiveError(f"{name} is of format {found.format}, and this release reads {FORMAT}: use a newer one")
    return found
