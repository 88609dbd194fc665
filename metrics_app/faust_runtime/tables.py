"""A Faust table with a store and a recovery of ours. Faust decides when they act, and we decide how.

Called by `aggregator.table`, `aggregator.local_copies` and `app`, which fill in what a copy is and how it is read.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, cast

import faust
import mode
import rocksdict
from faust.stores import rocksdb
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP, AppT
from faust.types.tables import CollectionT
from mode.types import ServiceT


class PartitionStore(rocksdb.Store):
    """RocksDB, one database for each partition of a table.

    Faust's store leaves an open database to the garbage collector, so that a partition that comes back finds its own
    lock. This one closes what it opens, and a database can be named by its partition.
    """

    def open_database(self, partition: int) -> rocksdict.Rdict:
        """Opens the database of a partition. To be implemented."""
        raise NotImplementedError

    def on_closed(self, partition: int) -> None:
        """Called before the database of a partition is closed, whether it was open or not."""

    def database(self, partition: int) -> rocksdict.Rdict:
        """The database of a partition, opened at first use."""
        db: rocksdict.Rdict = self._db_for_partition(partition)
        return db

    def held(self, partition: int) -> rocksdict.Rdict | None:
        """The open database of a partition; None when this worker does not hold it."""
        db: rocksdict.Rdict | None = self._dbs.get(partition)
        return db

    def partitions_held(self) -> set[int]:
        """Those whose databases are open."""
        return set(self._dbs)

    def let_go(self, partition: int) -> rocksdict.Rdict | None:
        """Forgets the open database of a partition without closing it, and returns it."""
        db: rocksdict.Rdict | None = self._dbs.pop(partition, None)
        return db

    def close(self, partition: int) -> None:
        """Closes the database of a partition, which frees its lock at once."""
        self.on_closed(partition)
        db = self.let_go(partition)
        if db is not None:
            with contextlib.suppress(Exception):  # closing twice is not worth a crash
                db.close()
            del db
            gc.collect()

    def revoke_partitions(self, table: CollectionT, tps: set[TP]) -> None:
        """Closes the databases of partitions that moved away."""
        for tp in tps:
            if tp.topic in table.changelog_topic.topics:
                self.close(tp.partition)

    async def stop(self) -> None:
        """Closes every database."""
        for partition in self.partitions_held():
            self.close(partition)

    def partition_path(self, partition: int) -> Path:
        """Folder of a partition's database."""
        return Path(self.path) / f"{self.table_name}-{partition}.db"

    def _open_for_partition(self, partition: int) -> rocksdict.Rdict:
        return self.open_database(partition)


class RawTable(faust.Table[bytes, bytes]):
    """A table of bytes by bytes, with a `PartitionStore`."""

    def new_store(self, **options: Any) -> PartitionStore:
        """Makes the store; `options` go to it. To be implemented."""
        raise NotImplementedError

    def _new_store(self) -> PartitionStore:
        # made at first use, for it takes the event loop of that moment: not before the loop runs
        return self.new_store(
            url="rocksdb://",
            app=self.app,
            table=self,
            table_name=self.name,
            key_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            value_type=bytes,
            loop=self.loop,
        )


class ChangelogReader(Protocol):
    """A service that reads the changelog in Faust's place; Faust's recovery starts and stops it with itself.

    Attributes:
        is_recovering: whether Faust recovers owned partitions now.
    """

    is_recovering: Callable[[], bool]

    async def recover(self, tps: frozenset[TP], reached: Callable[[TP, int], None]) -> None:
        """Returns when the copies of these partitions have everything up to the end of the changelog.

        Args:
            reached: to be told the offset that a copy has reached, and in the end that of the changelog.
        """

    def follow(self, tp: TP) -> None:
        """Keeps the copy of a standby partition up to date from now on."""

    def revoke(self) -> None:
        """Writes no more, until the next assignment."""


class DelegatedRecovery(Recovery):
    """Faust's recovery service without its reading: it begins after an assignment and waits for the reader."""

    def __init__(self, app: AppT, tables: Tables, **service: Any) -> None:
        self.reader = tables.reader
        self.reader.is_recovering = lambda: self.in_recovery
        super().__init__(app, tables, **service)

    def on_init_dependencies(self) -> Iterable[ServiceT]:
        """The reader, which starts and stops with this service."""
        return [cast(ServiceT, self.reader)]

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Ends the reading for the assignment that is over."""
        super().on_partitions_revoked(revoked)
        self.reader.revoke()

    def add_standby(self, table: CollectionT, tp: TP) -> None:
        """Has the reader follow a partition, instead of telling Faust to; its database is open from now on."""
        table.persisted_offset(tp)
        self.reader.follow(tp)

    async def _wait(self, coro: Any, timeout: Any = None) -> None:  # noqa: ASYNC109  as in Faust
        # after a timeout Faust's recovery ends for good without a word; the watchdog sees when nothing moves
        await super()._wait(coro)

    async def _build_offsets(self, consumer: Any, tps: set[TP], destination: Any, title: str) -> None:
        await super()._build_offsets(consumer, tps, destination, title)
        if title != "active" or not tps:
            return

        def reached(tp: TP, offset: int) -> None:
            destination[tp] = offset

        await self.reader.recover(frozenset(tps), reached)
        for tp in tps:  # Faust compares these two: nothing is left for it to read
            destination[tp] = self.active_highwaters[tp] = max(destination[tp], self.active_highwaters[tp])

    @mode.Service.task
    async def _publish_stats(self) -> None:
        """Nothing: the reader says how far it is."""


class Tables(TableManager):
    """Faust's tables with that recovery.

    Attributes:
        reader: of the changelog; to be set before the app starts.
    """

    reader: ChangelogReader

    def delegate_to(self, reader: ChangelogReader) -> None:
        """Has this service read the changelog."""
        self.reader = reader

    @property
    def recovery(self) -> DelegatedRecovery:
        """The recovery service. Made at first use: it takes the event loop of that moment."""
        if self._recovery is None:
            self._recovery = DelegatedRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return cast(DelegatedRecovery, self._recovery)
