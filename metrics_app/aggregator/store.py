"""RocksDB, one database a partition, as the local copy of the table of hours.

The changelog is the table; this store is a cache of it that survives a restart. Rows reach it only after the changelog
has acknowledged them, together with the changelog offset they lead to, in one atomic batch. Where two states of a row
meet (recovery, standby, a worker that was presumed dead), the one with the higher stamp stays.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import rocksdict
from faust.stores import rocksdb
from faust.types import TP, CollectionT, EventT

from metrics_app.aggregator.row import Version, version_of
from metrics_app.errors import FormatError

logger = logging.getLogger(__name__)

BLOCK_CACHE_BYTES = 16 << 20
WRITE_BUFFER_BYTES = 8 << 20
MAX_OPEN_FILES = 64
OLDEST = Version(-1, -1)


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

    Differs from Faust's: closes what it opens (so that a partition can come back), keeps the newer row, and reads and
    writes a named partition instead of the one of a current event.
    """

    def held(self, partition: int) -> rocksdict.Rdict | None:
        """The open database of a partition; None when this worker does not hold it."""
        return self._dbs.get(partition)

    def read(self, partition: int, row_key: bytes) -> bytes | None:
        """A stored value, or None."""
        value: bytes | None = self._db_for_partition(partition).get(row_key)
        return value

    def scan(self, partition: int, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < stop, ascending, read at once: no iterator stays open over a rebalance."""
        found = []
        for row_key, value in self._db_for_partition(partition).items(from_key=start):
            if row_key >= stop:
                break
            found.append((row_key, value))
        return iter(found)

    def write(self, tp: TP, rows: Iterable[tuple[bytes, bytes]], changelog_offset: int | None) -> None:
        """Writes rows, and the changelog offset they lead to, in one batch."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for row_key, value in rows:
            batch.put(row_key, value)
        if changelog_offset is not None:
            batch.put(self.offset_key, str(changelog_offset).encode())
        self._db_for_partition(tp.partition).write(batch)

    def drop_range(self, partition: int, start: bytes, stop: bytes) -> None:
        """Deletes the rows with start <= key < stop."""
        self._db_for_partition(partition).delete_range(start, stop)

    def apply_changelog_batch(
        self, batch: Iterable[EventT[Any]], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Takes changelog records in, each only where it is not older than the row in place."""
        newest: dict[TP, dict[bytes, bytes]] = {}
        reached: dict[TP, int] = {}
        for event in batch:
            message = event.message
            reached[message.tp] = max(message.offset, reached.get(message.tp, -1))
            # a table's keys are bytes, and a tombstone is something this product never writes
            if message.key is not None and message.value is not None:
                self._keep_newer(message.partition, newest.setdefault(message.tp, {}), message.key, message.value)
        for tp, offset in reached.items():
            self.write(tp, newest.get(tp, {}).items(), offset)

    def _keep_newer(self, partition: int, pending: dict[bytes, bytes], row_key: bytes, value: bytes) -> None:
        try:
            version = version_of(value)
        except FormatError as error:
            logger.error("changelog of partition %s: ignored a record: %s", partition, error)
            return
        current = pending.get(row_key) or self.read(partition, row_key)
        if version >= _version_or_oldest(current):
            pending[row_key] = value

    def _open_for_partition(self, partition: int) -> rocksdict.Rdict:
        path = self.partition_path(partition)
        path.parent.mkdir(parents=True, exist_ok=True)
        return rocksdict.Rdict(str(path), options=options())

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
        db = self._dbs.pop(partition, None)
        if db is not None:
            with contextlib.suppress(Exception):  # closing twice is not worth a crash
                db.close()
            del db
            gc.collect()

    def partition_path(self, partition: int) -> Path:
        """Folder of a partition's database."""
        return Path(self.path) / f"{self.table_name}-{partition}.db"


def _version_or_oldest(value: bytes | None) -> Version:
    if value is None:
        return OLDEST
    try:
        return version_of(value)
    except FormatError:
        return OLDEST
