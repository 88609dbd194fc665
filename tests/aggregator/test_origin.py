"""A local copy meets a changelog: the one it is of, one made anew, one of another Kafka, or one of another past."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.deduplication import EVERYTHING
from metrics_app.aggregator.local_state import ORIGIN_KEY
from metrics_app.aggregator.origin import CopyOrigin, Matching, Reached, difference
from metrics_app.aggregator.row import Checkpoint
from metrics_app.aggregator.table import HourlyTable
from metrics_app.kafka.identity import ClusterIdentity, TopicIdentity

HERE = CopyOrigin("here", "first")
CHECKPOINT_ROW = (rows.CHECKPOINT_KEY, rows.encode_checkpoint(Checkpoint(0, 7, 1.0)))
REACHED = Reached(9, 5000)


@pytest.mark.parametrize(
    ("copy", "end", "newer", "expected"),
    [
        (HERE, 10, None, None),
        (HERE, 30, 10, None),
        (None, 10, None, None),
        (CopyOrigin("here", ""), 10, None, None),  # taken from a broker that knew no ids of topics
        (CopyOrigin("there", "first"), 10, None, "foreign"),
        (CopyOrigin("here", "second"), 10, None, "remade"),
        (CopyOrigin("here", "second"), 0, None, "remade"),
        (HERE, 9, None, "ahead"),
        (HERE, 30, 9, "diverged"),
        (HERE, 30, 4, "diverged"),
    ],
)
def test_a_copy_is_of_a_changelog_by_its_ids_its_end_and_what_was_appended_later(
    copy: CopyOrigin | None, end: int, newer: int | None, expected: str | None
) -> None:
    assert difference(copy, HERE, REACHED, end, newer) == expected


def test_a_broker_that_knows_no_ids_of_topics_makes_no_difference() -> None:
    assert difference(HERE, CopyOrigin("here", ""), REACHED, 10, None) is None


class Broker:
    """Has one changelog partition, its records appended at 1000, 2000, ..."""

    def __init__(self, tp: TP, records: list[tuple[bytes, bytes]], origin: CopyOrigin = HERE) -> None:
        self.tp, self.origin = tp, origin
        self.records = [
            SimpleNamespace(offset=offset, key=key, value=value, timestamp=1000 * (offset + 1))
            for offset, (key, value) in enumerate(records)
        ]
        self.at = 0

    async def ask(self) -> ClusterIdentity:
        return ClusterIdentity(self.origin.cluster, {self.tp.topic: TopicIdentity(self.origin.topic, 1)})

    async def end_offsets(self, _tps: Any) -> dict[TP, int]:
        return {self.tp: len(self.records)}

    async def offsets_for_times(self, asked: dict[TP, int]) -> dict[TP, Any]:
        later = [record for record in self.records if record.timestamp >= asked[self.tp]]
        return {self.tp: later[0] if later else None}

    def assign(self, _tps: Any) -> None:
        pass

    def seek(self, _tp: TP, offset: int) -> None:
        self.at = offset

    async def getmany(self, *_: Any, **__: Any) -> dict[TP, list[Any]]:
        return {self.tp: self.records[self.at : self.at + 1]}


class Copy:
    """The local copy of one partition, over several meetings."""

    def __init__(self, table: HourlyTable) -> None:
        self.store, self.tp = table.store, table.changelog_tp(1)
        self.reasons: list[str] = []
        self.store.on_rebuild = self.reasons.append

    def read(self, broker: Broker) -> None:
        start = self.store.reached(self.tp).offset + 1
        records: Any = broker.records[start:]
        self.store.merge(self.tp, records, len(broker.records) - 1)
        self.store.note_whole(self.tp.partition)

    async def meet(self, broker: Broker) -> None:
        reader: Any = broker
        await Matching(self.store, broker.ask).match(reader, [self.tp])

    @property
    def offset(self) -> int:
        return self.store.reached(self.tp).offset

    @property
    def rows(self) -> int:
        return len(self.store.scan(1, b"\x00", b"\x40"))


def changes(count: int) -> list[tuple[bytes, bytes]]:
    return [(rows.ids_key(100, number), rows.encode_ids(0, number, {b"a" * 16: EVERYTHING})) for number in range(count)]


@pytest.fixture
async def copy(table: HourlyTable) -> Copy:
    """Of the first five records of the changelog here."""
    copy = Copy(table)
    broker = Broker(copy.tp, changes(5))
    await copy.meet(broker)
    copy.read(broker)
    return copy


async def test_it_goes_on_with_the_changelog_it_is_of(copy: Copy) -> None:
    await copy.meet(Broker(copy.tp, changes(9)))
    assert (copy.offset, copy.rows, copy.reasons) == (4, 5, [])
    assert copy.store.is_whole(1)


@pytest.mark.parametrize("origin", [CopyOrigin("there", "first"), CopyOrigin("there", "other")])
async def test_of_another_kafka_nothing_is_answered_and_nothing_kept(copy: Copy, origin: CopyOrigin) -> None:
    await copy.meet(Broker(copy.tp, changes(9), origin))
    assert (copy.offset, copy.rows, copy.reasons) == (-1, 0, ["foreign"])
    assert not copy.store.is_whole(1)


async def test_of_a_broker_that_lost_its_end_it_is_built_anew(copy: Copy) -> None:
    await copy.meet(Broker(copy.tp, changes(4)))
    assert (copy.offset, copy.rows, copy.reasons) == (-1, 0, ["ahead"])


@pytest.mark.parametrize("longer", [0, 20])
async def test_of_a_broker_put_back_that_has_gone_on_it_is_built_anew(copy: Copy, longer: int) -> None:
    """Also where other records have long taken the offsets."""
    broker = Broker(copy.tp, changes(5 + longer))
    for record in broker.records[3:]:
        record.timestamp += 60_000
    await copy.meet(broker)
    assert (copy.offset, copy.rows, copy.reasons) == (-1, 0, ["diverged"])


async def test_of_a_changelog_made_anew_it_is_kept_and_noted_for_writing(copy: Copy) -> None:
    for _ in range(2):  # also when the process ends before it has been written
        await copy.meet(Broker(copy.tp, [], CopyOrigin("here", "second")))
        assert (copy.offset, copy.rows, copy.reasons) == (-1, 5, [])
        assert copy.store.is_detached(1)
        assert copy.store.is_whole(1)


async def test_a_part_of_a_copy_is_not_written_to_a_changelog_made_anew(table: HourlyTable) -> None:
    copy = Copy(table)
    await copy.meet(Broker(copy.tp, []))
    copy.store.write(copy.tp, changes(3), 2)
    await copy.meet(Broker(copy.tp, [], CopyOrigin("here", "second")))
    assert (copy.rows, copy.reasons) == (0, ["remade"])


@pytest.mark.parametrize(("same", "reasons"), [(True, []), (False, ["diverged"])])
async def test_a_copy_of_a_release_that_noted_no_ids_is_taken_if_its_last_record_is_there(
    table: HourlyTable, same: bool, reasons: list[str]
) -> None:
    copy = Copy(table)
    copy.store.write(copy.tp, [*changes(4), CHECKPOINT_ROW], 4)
    copy.store.note_whole(1)
    last = CHECKPOINT_ROW if same else (rows.CHECKPOINT_KEY, rows.encode_checkpoint(Checkpoint(0, 8, 1.0)))
    await copy.meet(Broker(copy.tp, [*changes(4), last, *changes(2)]))
    assert copy.reasons == reasons
    assert copy.store.is_whole(1) == same
    assert copy.store.read(1, ORIGIN_KEY) == HERE.encode()
