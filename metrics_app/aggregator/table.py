"""The table of hours: a Faust table whose windows, keys and writes are ours (docs/adr/0001).

Called by `role`, which makes it, and by everything that needs a checkpoint or the store.

Faust decides which partitions and standbys this worker has, and when to recover and to open the local databases. Not
used are its windows, which leak, forget to expire and cannot take raw keys; its changelog, whose failures are only
logged; and its reading of the changelog record by record (`replica`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import faust
from faust.types import TP

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.row import NO_CHECKPOINT, Checkpoint
from metrics_app.aggregator.store import HourStore
from metrics_app.faust_runtime.tables import RawTable

NAME = "hours"
EXPIRED_EARLY = "expired_early"


class HourlyTable(RawTable):
    """The one table of the app: rows by key and hour, and beside them the ids and the checkpoint of each partition.

    Attributes:
        on_rebuild, on_bad: see `HourStore`.
        latest_ms: the latest time that can be true by our own clock; nothing is known of it without one.
    """

    on_rebuild: Callable[[str], None] = staticmethod(lambda reason: None)
    on_bad: Callable[[int], None] = staticmethod(lambda count: None)
    latest_ms: Callable[[], int] = staticmethod(lambda: 1 << 62)

    def new_store(self, **options: Any) -> HourStore:
        """Makes the store."""
        store = HourStore(**options)
        store.on_rebuild, store.on_bad = self.on_rebuild, self.on_bad
        return store

    def rebuild_expired_early(self, changelog_tps: Iterable[TP]) -> None:
        """Gives up the copies from which a release that believed the log alone has deleted by a clock that was ahead.

        The changelog still has the rows.
        """
        for tp in changelog_tps:
            value = self.store.read(tp.partition, rows.CHECKPOINT_KEY)
            if value is not None and rows.believed_the_log(value):
                log_ms = self.checkpoint(tp.partition).log_ms
                if log_ms > self.latest_ms():
                    detail = f"hours were deleted by a clock of Kafka that said {log_ms // 1000} s since 1970"
                    self.store.rebuild(tp.partition, EXPIRED_EARLY, detail)

    @property
    def store(self) -> HourStore:
        """Local databases."""
        return cast(HourStore, self.data)

    def changelog_tp(self, partition: int) -> TP:
        """Changelog partition that replicates a partition."""
        return TP(self.changelog_topic_name, partition)

    def checkpoint(self, partition: int) -> Checkpoint:
        """How far the local copy of a partition reaches; NOWHERE for an empty one."""
        with self.store.sound(partition):
            value = self.store.read(partition, rows.CHECKPOINT_KEY)
            return NO_CHECKPOINT if value is None else rows.decode_checkpoint(value)

    def expire(self, partition: int, before_hour: int, ids_before_hour: int) -> None:
        """Drops the hours and the ids before the cutoffs from the local copy; the changelog drops them by age."""
        for kind, hour in ((rows.HOUR, before_hour), (rows.IDS, ids_before_hour)):
            self.store.drop_range(partition, *rows.before(kind, hour))
        self.store.ids(partition).drop(ids_before_hour)


def new_table(app: faust.App, partitions: int) -> HourlyTable:
    """The table, registered with the app."""
    table = HourlyTable(
        app,
        name=NAME,
        key_type=bytes,
        value_type=bytes,
        partitions=partitions,
    )
    return cast(HourlyTable, app.tables.add(table))
