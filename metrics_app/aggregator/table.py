"""The table of hours: a Faust table whose windows, keys and writes are ours (docs/adr/0001).

Faust contributes the partition assignment, the changelog topic with its recovery, the standby replicas and the opening
of the local databases. Not used are its windows, which leak, forget to expire and cannot take raw keys, and its
per-record changelog, whose failures are only logged.
"""

from __future__ import annotations

from typing import cast

import faust
from faust.types import TP

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.row import NOWHERE, Place
from metrics_app.aggregator.store import HourStore

NAME = "hours"
RECOVERY_BUFFER_ROWS = 1000
STANDBY_BUFFER_ROWS = 50


class HourlyTable(faust.Table[bytes, bytes]):
    """The one table of the app: rows by key and hour, and beside them the ids and the place of each partition."""

    def _new_store(self) -> HourStore:
        return HourStore(
            "rocksdb://",
            self.app,
            self,
            table_name=self.name,
            key_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            value_type=bytes,
            loop=self.loop,
        )

    @property
    def store(self) -> HourStore:
        """Local databases."""
        return cast(HourStore, self.data)

    def changelog_tp(self, partition: int) -> TP:
        """Changelog partition that replicates a partition."""
        return TP(self.changelog_topic_name, partition)

    def place(self, partition: int) -> Place:
        """How far the local copy of a partition reaches; NOWHERE for an empty one."""
        value = self.store.read(partition, rows.PLACE_KEY)
        return NOWHERE if value is None else rows.decode_place(value)

    def expire(self, partition: int, before_hour: int, ids_before_hour: int) -> None:
        """Drops the hours and the ids before the cutoffs from the local copy; the changelog drops them by age."""
        for kind, hour in ((rows.HOUR, before_hour), (rows.IDS, ids_before_hour)):
            self.store.drop_range(partition, *rows.before(kind, hour))


def new_table(app: faust.App, partitions: int) -> HourlyTable:
    """The table, registered with the app."""
    table = HourlyTable(
        app,
        name=NAME,
        key_type=bytes,
        value_type=bytes,
        partitions=partitions,
        recovery_buffer_size=RECOVERY_BUFFER_ROWS,
        standby_buffer_size=STANDBY_BUFFER_ROWS,
    )
    return cast(HourlyTable, app.tables.add(table))
