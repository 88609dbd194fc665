"""The local copies of the table of hours: a RocksDB database for each partition, opened, read, written and given up.

Called by `store`, which adds what a row means.

A copy that cannot be right is never answered from. If that is found on opening, the copy is put aside and the partition
is recovered from the changelog. If it is found on reading, the process ends, and the next start does so. Nor is a copy
answered from before it has been matched with the changelog that Kafka has now (`origin`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, cast

import rocksdict
from faust.types import TP

from metrics_app.aggregator import local_state
from metrics_app.aggregator.deduplication import IdIndex
from metrics_app.aggregator.local_state import DamagedError
from metrics_app.aggregator.origin import CopyOrigin, Reached
from metrics_app.errors import FormatError, NewerFormatError
from metrics_app.faust_runtime.tables import PartitionStore
from metrics_app.process import EXIT_CRASHED, EXIT_UNUSABLE, leave

logger = logging.getLogger(__name__)

BLOCK_CACHE_BYTES = 16 << 20
WRITE_BUFFER_BYTES = 8 << 20
BUFFER_FILTER_SHARE = 0.1  # of a write buffer
MAX_OPEN_FILES = 64
FORMAT = 1  # of the rows in it; part of the identity of a database


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
    opts.set_memtable_whole_key_filtering(True)  # most keys that are asked for are in no buffer
    opts.set_memtable_prefix_bloom_ratio(BUFFER_FILTER_SHARE)
    opts.set_target_file_size_base(BLOCK_CACHE_BYTES)
    opts.set_compression_type(rocksdict.DBCompressionType.lz4())
    opts.set_keep_log_file_num(2)
    opts.set_block_based_table_factory(table)
    return opts


class LocalCopies(PartitionStore):
    """The databases of the active and standby partitions of one worker.

    Reads and writes name their partition, where Faust takes that of the current event. A damaged copy is not used.

    Attributes:
        on_rebuild: told the reason, one word, whenever a partition is to be recovered from nothing.
        give_up: ends the process, with that sentence.
        refuse: the same, and says that a new start will not help.
    """

    on_rebuild: Callable[[str], None] = staticmethod(lambda reason: None)
    give_up: Callable[[str], NoReturn] = staticmethod(lambda why: leave(EXIT_CRASHED, why))
    refuse: Callable[[str], NoReturn] = staticmethod(lambda why: leave(EXIT_UNUSABLE, why))

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._whole: set[int] = set()
        self._matched: set[int] = set()
        self._ids: dict[int, IdIndex] = {}

    def read(self, partition: int, row_key: bytes) -> bytes | None:
        """A stored value, or None."""
        with self.sound(partition):
            value: bytes | None = self.database(partition).get(row_key)
        return value

    def read_all(self, partition: int, row_keys: list[bytes]) -> list[bytes | None]:
        """The stored values of row keys, in their order; None for those that have none. Fastest in ascending order."""
        with self.sound(partition):
            return cast("list[bytes | None]", self.database(partition).get(cast("list[Any]", row_keys)))

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
            rows = self.database(partition).iter()
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
        """Within it, a local row or block that cannot be right ends the process and has the partition rebuilt.

        Other trouble of RocksDB's, such as too many open files, is raised as an OSError.
        """
        try:
            yield
        except NewerFormatError as error:
            self._refuse(partition, error)
        except FormatError as error:
            self._damaged(partition, error)
        except Exception as error:
            if local_state.is_damage(error):
                self._damaged(partition, error)
            if type(error) is Exception:  # all of rocksdict's are
                raise OSError(str(error)) from error
            raise

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
        self.close(partition)
        kept = local_state.put_aside(self.partition_path(partition))
        logger.error("partition %s is rebuilt from the changelog: %s: %s; kept as %s", partition, reason, detail, kept)
        self.on_rebuild(reason)

    def write(
        self, tp: TP, rows: Iterable[tuple[bytes, bytes]], changelog_offset: int | None, appended_ms: int = 0
    ) -> None:
        """Writes rows, and the changelog offset they lead to, in one batch.

        Args:
            appended_ms: log-append time of the newest changelog record up to that offset; 0 when it is not known.
        """
        batch, rows = rocksdict.WriteBatch(raw_mode=True), list(rows)
        for row_key, value in rows:
            batch.put(row_key, value)
        with self.sound(tp.partition):
            self.ids(tp.partition).add(batch, rows)
        batch.put(local_state.MANIFEST_KEY, self._manifest(tp.partition))
        if changelog_offset is not None:
            batch.put(self.offset_key, str(changelog_offset).encode())
            if appended_ms:
                newest_ms = max(appended_ms, self.reached(tp).appended_ms)
                batch.put(local_state.APPENDED_KEY, str(newest_ms).encode())
        with self.sound(tp.partition):
            self.database(tp.partition).write(batch)

    def ids(self, partition: int) -> IdIndex:
        """Where the ids of a partition are found."""
        db = self.database(partition)
        index = self._ids.get(partition)
        if index is None or index.db is not db:
            index = self._ids[partition] = IdIndex(db)
        return index

    def drop_range(self, partition: int, start: bytes, stop: bytes) -> None:
        """Deletes the rows with start <= key < stop."""
        self.database(partition).delete_range(start, stop)

    def note_whole(self, partition: int) -> None:
        """Notes that the copy has had all rows once: from now on it lacks only what is newer than its checkpoint."""
        if partition not in self._whole:
            self.database(partition).put(local_state.WHOLE_KEY, b"")
            self._whole.add(partition)

    def is_whole(self, partition: int) -> bool:
        """Whether a held copy has everything up to its checkpoint of the changelog that Kafka has now."""
        if self.held(partition) is None or partition not in self._matched:
            return False
        return self.has_been_whole(partition)

    def has_been_whole(self, partition: int) -> bool:
        """Whether the copy has had all rows of the changelog it was taken from."""
        if partition not in self._whole and self.read(partition, local_state.WHOLE_KEY) is not None:
            self._whole.add(partition)
        return partition in self._whole

    def origin(self, partition: int) -> CopyOrigin | None:
        """The changelog a copy was taken from; None for an empty one, and for one of a release that noted none."""
        value = self.read(partition, local_state.ORIGIN_KEY)
        return None if value is None else CopyOrigin.decode(value)

    def matched(self, partition: int, origin: CopyOrigin) -> None:
        """Notes that the copy leads to its offset in this changelog; only then is it answered from."""
        self.database(partition).put(local_state.ORIGIN_KEY, origin.encode())
        self._matched.add(partition)

    def detach(self, partition: int) -> None:
        """Keeps the rows of a copy whose changelog is gone, to be written to the one that Kafka has now."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        batch.put(local_state.REWRITE_KEY, b"")
        batch.delete(self.offset_key)
        batch.delete(local_state.APPENDED_KEY)
        self.database(partition).write(batch)

    def is_detached(self, partition: int) -> bool:
        """Whether the rows of a copy are still to be written to its changelog."""
        return self.read(partition, local_state.REWRITE_KEY) is not None

    def attached(self, partition: int) -> None:
        """Notes that the rows of a detached copy have been written to its changelog."""
        self.database(partition).delete(local_state.REWRITE_KEY)

    def reached(self, tp: TP) -> Reached:
        """How far in its changelog a copy leads."""
        offset, appended = self.persisted_offset(tp), self.read(tp.partition, local_state.APPENDED_KEY)
        return Reached(-1 if offset is None else offset, int(appended or 0))

    def open_database(self, partition: int) -> rocksdict.Rdict:
        """Opens the database of a partition; one that is damaged or foreign is put aside and begun anew."""
        path = self.partition_path(partition)
        path.parent.mkdir(parents=True, exist_ok=True)
        identity = f"{self.table.changelog_topic.get_topic_name()} {partition} {FORMAT}".encode()
        try:
            return local_state.open_database(path, identity, options())
        except DamagedError as error:
            self.rebuild(partition, error.reason, str(error))
            return local_state.open_database(path, identity, options())

    def _manifest(self, partition: int) -> bytes:
        self.database(partition)
        return local_state.encode_manifest(local_state.manifest_of(self.partition_path(partition)))

    def persisted_offset(self, tp: TP) -> int | None:
        """Changelog offset the copy leads to; None for an empty one."""
        with self.sound(tp.partition):
            offset: int | None = super().persisted_offset(tp)
        return offset

    def on_closed(self, partition: int) -> None:
        """Forgets what was known of the open copy."""
        self._whole.discard(partition)
        self._matched.discard(partition)
        self._ids.pop(partition, None)
