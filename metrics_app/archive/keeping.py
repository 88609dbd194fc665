"""Keeps the rows of sealed hours as files, each state once, whatever is killed in between.

Called by `following`, `exporting`, `cli.archive` and `cli.export`.

An hour that is archived already is read back and joined with what has come since. Only if that changes something is
there a newer version; the one before it stays, for whoever is reading it, and older ones are deleted.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.row import Checkpoint
from metrics_app.archive import manifest, parquet
from metrics_app.archive.folder import Folder
from metrics_app.archive.manifest import ArchivedHour, ArchiveOf, ArchivePlace, DayManifest
from metrics_app.archive.pending import Rows
from metrics_app.errors import ArchiveError
from metrics_app.holdings import loss_of
from metrics_app.stats.summary import EXACT_DISTINCT

WHOSE = "archive.json"
VERSIONS = 2  # of an hour that stay


class Archive:
    """An archive of hours in a folder."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def belong_to(self, whose: ArchiveOf) -> None:
        """Notes whose changelog is archived here.

        Raises:
            ArchiveError: it was another one.
        """
        found = self.whose()
        if found is None:
            self.folder.write(WHOSE, manifest.packed(whose))
        elif found != whose:
            raise ArchiveError(
                f"{self.folder} is the archive of topic {found.topic}, {found.partitions} partitions, of cluster "
                f"{found.cluster}, not of {whose.topic}, {whose.partitions}, of {whose.cluster}: use another folder"
            )

    def whose(self) -> ArchiveOf | None:
        """Whose changelog is archived here; None when nothing is."""
        content = self.folder.read(WHOSE)
        return None if content is None else manifest.unpacked(content, ArchiveOf, WHOSE)

    def place(self, partition: int, topic_id: str) -> ArchivePlace:
        """From where the changelog of a partition is to be read; from its start when it was made anew."""
        name = manifest.place_name(partition)
        content = self.folder.read(name)
        found = None if content is None else manifest.unpacked(content, ArchivePlace, name)
        return found if found is not None and found.topic_id == topic_id else ArchivePlace(topic_id)

    def note_place(self, partition: int, place: ArchivePlace) -> None:
        """Notes how far a partition is archived."""
        name, content = manifest.place_name(partition), manifest.packed(place)
        if self.folder.read(name) != content:
            self.folder.write(name, content)

    def day(self, date: str, partition: int) -> DayManifest:
        """The manifest of a day, empty when nothing is archived of it."""
        name = manifest.manifest_name(date, partition)
        content = self.folder.read(name)
        return DayManifest(date, partition) if content is None else manifest.unpacked(content, DayManifest, name)

    def rows(self, hour: ArchivedHour) -> Rows:
        """The rows of an archived hour; raises as `content`."""
        return parquet.decoded(self.content(hour), hour.file)

    def content(self, hour: ArchivedHour) -> bytes:
        """The file of an archived hour.

        Raises:
            ArchiveError: its file is not the one that the manifest has the hash of.
        """
        content = self.folder.read(hour.file)
        if content is None or sha256(content).hexdigest() != hour.sha256:
            what = "is missing" if content is None else "is not the one that was written"
            raise ArchiveError(f"{self.folder}/{hour.file} {what}: put it back from a copy")
        return content

    def keep(self, partition: int, hour: int, new: Rows, checkpoint: Checkpoint) -> ArchivedHour | None:
        """Makes rows of a sealed hour durable; None when they have been before.

        Raises:
            ArchiveError: the folder cannot be read or written, or what is there is damaged.
        """
        day = self.day(manifest.date_of(hour), partition)
        before = day.hours.get(manifest.hour_of_day(hour))
        known = {} if before is None else self.rows(before)
        content = joined(known, new)
        if before is not None and content == known:
            return None
        version = 1 if before is None else before.version + 1
        kept = self._write(partition, hour, version, content, checkpoint)
        hours = dict(sorted({**day.hours, manifest.hour_of_day(hour): kept}.items()))
        whole = DayManifest(day.date, partition, hours)
        self.folder.write(manifest.manifest_name(day.date, partition), manifest.packed(whole))
        self._tidy(partition, hour, version)
        return kept

    def _write(self, partition: int, hour: int, version: int, content: Rows, checkpoint: Checkpoint) -> ArchivedHour:
        loss = loss_of(checkpoint.losses, hour, hour + 1)
        lost = 0 if loss is None else loss.records or None  # 0 of a loss: not known
        common: dict[str, Any] = {"partition": partition, "version": version, "lost_records": lost}
        file = parquet.encoded(hour, content, common | {"as_of": checkpoint.as_of})
        name = manifest.file_name(hour, partition, version)
        self.folder.write(name, file)
        decoded = [rows.decode_row(each, EXACT_DISTINCT) for each in content.values()]
        return ArchivedHour(
            version=version,
            file=name,
            sha256=sha256(file).hexdigest(),
            bytes=len(file),
            rows=len(content),
            values=sum(row.count for row in decoded),
            sealed=checkpoint.sealed,
            epoch=checkpoint.epoch,
            offset=checkpoint.offset,
            as_of=checkpoint.as_of,
            lost_records=lost,
            incomplete_rows=sum(row.incomplete for row in decoded),
        )

    def _tidy(self, partition: int, hour: int, version: int) -> None:
        kept = {manifest.file_name(hour, partition, version - age) for age in range(VERSIONS)}
        for name in self.folder.names(manifest.file_name(hour, partition, "*")):
            if name not in kept:
                self.folder.delete(name)


def joined(known: Rows, new: Rows) -> Rows:
    """Of each row the newer state; of equal versions the one that is known."""
    newer = {
        key: value
        for key, value in new.items()
        if key not in known or rows.version_of(value) > rows.version_of(known[key])
    }
    return known | newer
