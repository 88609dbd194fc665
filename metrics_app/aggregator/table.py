"""The table of hours: a Faust table whose windows, keys and writes are ours (docs/adr/0001).

Faust contributes the assignment of partitions and standbys, and when to recover and to open the local databases. Not
used are its windows, which leak, forget to expire and cannot take raw keys, its own changelog, whose failures are
only logged, and its reading of the changelog record by record (`replica.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

import faust
from aiokafka.errors import KafkaError
from faust.types import TP

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.local_state import AHEAD
from metrics_app.aggregator.row import NOWHERE, Place
from metrics_app.aggregator.store import HourStore

logger = logging.getLogger(__name__)

NAME = "hours"
ENDS_S = 5.0


class HourlyTable(faust.Table[bytes, bytes]):
    """The one table of the app: rows by key and hour, and beside them the ids and the place of each partition.

    Attributes:
        on_rebuild: told the reason, one word, whenever a partition is to be recovered from nothing.
    """

    on_rebuild: Callable[[str], None] = staticmethod(lambda reason: None)

    def _new_store(self) -> HourStore:
        # made at first use, for it takes the event loop of that moment: not before the loop runs
        store = HourStore(
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
        store.on_rebuild = self.on_rebuild
        return store

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Opens the databases of the assignment; recovery begins after it."""
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        await self.rebuild_ahead({tp for tp in assigned if tp.topic == self.changelog_topic_name})

    async def rebuild_ahead(self, changelog_tps: set[TP]) -> None:
        """Gives up the copies that are ahead of the end of the changelog, on which Faust would crash again and again.

        The changelog was made anew or has lost its end, or the copy is from another installation.
        """
        reached = {tp: offset for tp in changelog_tps if (offset := self.store.persisted_offset(tp)) is not None}
        try:
            async with asyncio.timeout(ENDS_S):
                ends = await self.app.consumer.highwaters(*reached) if reached else {}
        except (KafkaError, TimeoutError) as error:
            logger.warning("could not ask Kafka how far the changelog reaches: %r", error)  # recovery asks again
            return
        for tp, end in ends.items():
            if end is not None and reached[tp] >= end:
                detail = f"it leads to changelog offset {reached[tp]}, the changelog ends before {end}"
                self.store.rebuild(tp.partition, AHEAD, detail)

    @property
    def store(self) -> HourStore:
        """Local databases."""
        return cast(HourStore, self.data)

    def changelog_tp(self, partition: int) -> TP:
        """Changelog partition that replicates a partition."""
        return TP(self.changelog_topic_name, partition)

    def place(self, partition: int) -> Place:
        """How far the local copy of a partition reaches; NOWHERE for an empty one."""
        with self.store.sound(partition):
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
    )
    return cast(HourlyTable, app.tables.add(table))
