"""RocksDB, one database a partition, as the local copy of the table of hours.

The changelog is the table; this store is a cache of it that survives a restart. Rows reach it only after the changelog
has acknowledged them, together with the changelog offset they lead to, in one atomic batch. Where two states of a row
meet (recovery, standby, a worker that was presumed dead), the one with the higher stamp stays.

Rows that a newer release has written end the process: to leave them out would be to lose them.

A copy that cannot be right is never answered from: found on opening, it is put aside and the partition is recovered
from the changelog; found on reading, the process ends and that happens on the next start.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, Protocol

import rocksdict
from faust.stores import rocksdb
from faust.types import TP, CollectionT

from metrics_app.aggregator import local_state
from metrics_app.aggregator.local_state import DamagedError
from metrics_app.aggregator.row import PLACE_KEY, Version, version_of
from metrics_app.errors import FormatError, NewerFormatError
from metrics_app.last_resort import EXIT_CRASHED, EXIT_UNUSABLE, leave

logger = logging.getLogger(__name__)

BLOCK_CACHE_BYTES = 16 << 20
WRITE_BUFFER_BYTES = 8 << 20
MAX_OPEN_FILES = 64
OLDEST = Version(-1, -1)
FORMAT = 1  # of the rows in it; part of the identity of a database


class ChangelogRecord(Protocol):
    """A record as Kafka gives it."""

    @property
    def key(self) -> bytes | None:
        """Row key."""

    @property
    def value(self) -> bytes | None:
        """Row value."""


def options() -> rocksdict.Options:
    """Options sized for many small databases in one process.

    Faust's own would be 2 GiB of cache and 192 MB of write buffers per partition.
    """
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(rocksdict.Cache(BLOCK_CACHE_BYTES))
    table.set_bloom_filter(10, block_based=False)
    opts = rocksdict.Options(raw_mode=True)
    opts.create_if_missing(True)
    opts.set_max_open_files(MAX_OPEN_FILES)
    opts.set_write_buffer_size(WRITE_BUFFER_BYTES)
    opts.set_max_write_buffer_number(2)
    opts.set_target_file_size_base(BLOCK_CACHE_BYTES)
    opts.set_compression_type(rocksdict.DBCompressionType.lz4())
    opts.set_keep_log_file_num(2)
    opts.set_block_based_table_factory(table)
    return opts


class HourStore(rocksdb.Store):
    """Store of one worker: the databases of its active and standby partitions.

    Differs from Faust's: closes what it opens (so that a partition can come back), keeps the newer row, reads and
    writes a named partition instead of the one of a current event, and does not use a damaged copy.

    Attributes:
        on_rebuild: told the reason, one word, whenever a partition is to be recovered from nothing.
        give_up: ends the process, with that sentence.
        refuse: the same, and says that a new start will not help.
        outvoted: by partition, rows of which the changelog, as far as it was read, has an older state last.
    """

    on_rebuild: Callable[[str], None] = staticmethod(lambda reason: None)
    give_up: Callable[[str], NoReturn] = staticmethod(lambda why: leave(EXIT_CRASHED, why))
    refuse: Callable[[str], NoReturn] = staticmethod(lambda why: leave(EXIT_UNUSABLE, why))

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.outvoted: dict[int, set[bytes]] = defaultdict(set)
        self._whole: set[int] = set()

    def held(self, partition: int) -> rocksdict.Rdict | None:
        """The open database of a partition; None when this worker does not hold it."""
        return self._dbs.get(partition)

    def partitions_held(self) -> set[int]:
        """Those whose databases are open."""
        return set(self._dbs)

    def read(self, partition: int, row_key: bytes) -> bytes | None:
        """A stored value, or None."""
        with self.sound(partition):
            value: bytes | None = self._db_for_partition(partition).get(row_key)
        return value

    def scan(
        self, partition: int, start: bytes, stop: bytes, most_rows: int | None = None, most_bytes: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """Rows with start <= key < stop, ascending; not a generator: no iterator stays open over a rebalance.

        Args:
            most_rows, most_bytes: it ends with the row that reaches one of them.
        """
        found: list[tuple[bytes, bytes]] = []
        size = 0
        with self.sound(partition):
            rows = self._db_for_partition(partition).iter()
            rows.seek(start)
            while rows.valid() and rows.key() < stop and len(found) != most_rows:
                if most_bytes is not None and size >= most_bytes:
                    break
                found.append((rows.key(), rows.value()))
                size += len(found[-1][1])
                rows.next()
            rows.status()  # at a damaged block an iterator just ends
        return found

    @contextlib.contextmanager
    def sound(self, partition: int) -> Iterator[None]:
        """Within it, a local row or block that cannot be read ends the process and has the partition rebuilt."""
        try:
            yield
        except NewerFormatError as error:
            self._refuse(partition, error)
        except FormatError as error:
            self._damaged(partition, error)
        except Exception as error:
            if not local_state.is_damage(error):
                raise
            self._damaged(partition, error)

    def _damaged(self, partition: int, error: Exception) -> NoReturn:
        path = self.partition_path(partition)
        local_state.mark(path, local_state.UNREADABLE)
        self.give_up(f"the local copy {path} is damaged ({error}); it is rebuilt from the changelog at the next start")

    def _refuse(self, partition: int, error: NewerFormatError) -> NoReturn:
        self.refuse(
            f"partition {partition} has rows of a newer release ({error}); nothing was changed: run that release again"
        )

    def rebuild(self, partition: int, reason: str, detail: str) -> None:
        """Puts the copy of a partition aside; recovery starts from nothing."""
        self._close(partition)
        self.outvoted.pop(partition, None)
        kept = local_state.put_aside(self.partition_path(partition))
        logger.error("partition %s is rebuilt from the changelog: %s: %s; kept as %s", partition, reason, detail, kept)
        self.on_rebuild(reason)

    def write(self, tp: TP, rows: Iterable[tuple[bytes, bytes]], changelog_offset: int | None) -> None:
        """Writes rows, and the changelog offset they lead to, in one batch."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for row_key, value in rows:
            batch.put(row_key, value)
        batch.put(local_state.MANIFEST_KEY, self._manifest(tp.partition))
        if changelog_offset is not None:
            batch.put(self.offset_key, str(changelog_offset).encode())
        with self.sound(tp.partition):
            self._db_for_partition(tp.partition).write(batch)

    def drop_range(self, partition: int, start: bytes, stop: bytes) -> None:
        """Deletes the rows with start <= key < stop."""
        self._db_for_partition(partition).delete_range(start, stop)

    def merge(self, tp: TP, records: Iterable[ChangelogRecord], reached: int) -> None:
        """Takes changelog records in, each only where it is not older than the row in place; all up to `reached`."""
        # a table's keys are bytes, and a tombstone is something this product never writes
        known = [
            (record.key, record.value) for record in records if record.key is not None and record.value is not None
        ]
        row_keys = [row_key for row_key, _ in known]
        with self.sound(tp.partition):
            current = dict(zip(row_keys, self._db_for_partition(tp.partition).get(row_keys), strict=True))
        news = {}
        for row_key, value in known:
            version = self._version(tp.partition, value)
            if version > OLDEST and self._is_newest(tp.partition, row_key, version, current[row_key]):
                current[row_key] = news[row_key] = value
        self.write(tp, news.items(), reached)

    def compare(self, partition: int, row_key: bytes, value: bytes) -> Version:
        """Version of a changelog record, which is compared with the row in place and not taken in."""
        version = self._version(partition, value)
        if version > OLDEST:
            self._is_newest(partition, row_key, version, self.read(partition, row_key))
        return version

    def _version(self, partition: int, value: bytes) -> Version:
        try:
            return version_of(value)
        except NewerFormatError as error:
            self._refuse(partition, error)
        except FormatError as error:
            logger.error("changelog of partition %s: ignored a record: %s", partition, error)
            return OLDEST

    def _is_newest(self, partition: int, row_key: bytes, version: Version, current: bytes | None) -> bool:
        with self.sound(partition):
            is_newest = current is None or version >= version_of(current)
        if is_newest:
            self.outvoted[partition].discard(row_key)
        elif row_key != PLACE_KEY:  # a place that goes back costs a replay, and is written every few seconds anyway
            self.outvoted[partition].add(row_key)
        return is_newest

    def note_whole(self, partition: int) -> None:
        """Notes that the copy has had all rows once: what it may lack from now on is newer than its place."""
        if not self.is_whole(partition):
            self._db_for_partition(partition).put(local_state.WHOLE_KEY, b"")
            self._whole.add(partition)

    def is_whole(self, partition: int) -> bool:
        """Whether a held copy is one of everything up to its place; False for one that is not held."""
        db = self.held(partition)
        if db is not None and partition not in self._whole:
            with self.sound(partition):
                if local_state.WHOLE_KEY in db:
                    self._whole.add(partition)
        return partition in self._whole

    def _open_for_partition(self, partition: int) -> rocksdict.Rdict:
        path = self.partition_path(partition)
        path.parent.mkdir(parents=True, exist_ok=True)
        identity = f"{self.table.changelog_topic.get_topic_name()} {partition} {FORMAT}".encode()
        try:
            return local_state.open_database(path, identity, options())
        except DamagedError as error:
            self.rebuild(partition, error.reason, str(error))
            return local_state.open_database(path, identity, options())

    def _manifest(self, partition: int) -> bytes:
        self._db_for_partition(partition)
        return local_state.encode_manifest(local_state.manifest_of(self.partition_path(partition)))

    def persisted_offset(self, tp: TP) -> int | None:
        """Changelog offset the copy leads to; None for an empty one."""
        with self.sound(tp.partition):
            offset: int | None = super().persisted_offset(tp)
        return offset

    def revoke_partitions(self, table: CollectionT, tps: set[TP]) -> None:
        """Closes the databases of partitions that moved away, which frees their locks at once."""
        for tp in tps:
            if tp.topic in table.changelog_topic.topics:
                self._close(tp.partition)

    async def stop(self) -> None:
        """Closes every database."""
        for partition in list(self._dbs):
            self._close(partition)

    def _close(self, partition: int) -> None:
        self._whole.discard(partition)
        db = self._dbs.pop(partition, None)
        if db is not None:
            with contextlib.suppress(Exception):  # closing twice is not worth a crash
                db.close()
            del db
            gc.collect()

    def partition_path(self, partition: int) -> Path:
        """Folder of a partition's database."""
        return Path(self.path) / f"{self.table_name}-{partition}.db"
