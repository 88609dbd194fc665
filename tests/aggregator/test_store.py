"""The store on a real RocksDB, without Kafka."""

from __future__ import annotations

import zlib
from typing import NamedTuple, NoReturn

import pytest
import rocksdict
from faust.types import TP

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.deduplication import ENTRY, EVERYTHING
from metrics_app.aggregator.fold import HOUR_MS, FoldLimits
from metrics_app.aggregator.local_state import MARK
from metrics_app.aggregator.origin import CopyOrigin
from metrics_app.aggregator.partitions import Partitions
from metrics_app.aggregator.row import Checkpoint, Row
from metrics_app.aggregator.table import HourlyTable
from metrics_app.stats.summary import HourlySummary

HERE = CopyOrigin("cluster", "topic")
KEY = rows.hour_key(498_740, b"cart")


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    timestamp: int = 1


def state(stamp: int, epoch: int = 0) -> bytes:
    return rows.encode_row(Row(HourlySummary(), epoch, stamp))


def checkpoint(stamp: int) -> bytes:
    return rows.encode_checkpoint(Checkpoint(0, stamp, 1.0))


def take(table: HourlyTable, *records: tuple[bytes, bytes | None], reached: int) -> None:
    table.store.merge(table.changelog_tp(1), [Record(*record) for record in records], reached)


@pytest.mark.parametrize("together", [True, False])
def test_of_two_states_of_a_row_the_one_with_the_higher_stamp_stays(table, together):
    """Also when the older one comes later in the changelog, as after a write of a worker presumed dead."""
    records = [(KEY, state(7)), (KEY, state(3))]
    for batch in [records] if together else [[record] for record in records]:
        take(table, *batch, reached=1)
    assert state(7) == table.store.read(1, KEY)
    assert table.store.persisted_offset(table.changelog_tp(1)) == 1


def test_a_later_epoch_beats_any_stamp(table):
    take(table, (KEY, state(7)), (KEY, state(0, epoch=1)), reached=1)
    assert state(0, epoch=1) == table.store.read(1, KEY)


def test_foreign_records_and_tombstones_in_the_changelog_change_nothing(table):
    take(table, (KEY, state(7)), (KEY, None), (KEY, b"junk"), (b"other", b""), reached=3)
    assert state(7) == table.store.read(1, KEY)
    assert table.store.read(1, b"other") is None
    assert table.store.persisted_offset(table.changelog_tp(1)) == 3


def test_rows_and_the_changelog_offset_are_written_together_and_survive_a_restart(table):
    tp = table.changelog_tp(1)
    table.store.write(tp, [(KEY, state(7)), (rows.CHECKPOINT_KEY, checkpoint(7))], 12)
    table.store.revoke_partitions(table, {tp})
    assert table.store.held(1) is None
    assert table.store.persisted_offset(tp) == 12
    assert Checkpoint(0, 7, 1.0) == table.checkpoint(1)


def test_a_revoked_partition_is_closed_so_that_another_process_may_open_it(table):
    table.store.write(table.changelog_tp(1), [(KEY, state(7))], None)
    path = str(table.store.partition_path(1))
    with pytest.raises(Exception, match=r"(?i)lock"):
        rocksdict.Rdict(path, options=rocksdict.Options(raw_mode=True))
    table.store.revoke_partitions(table, {TP(table.changelog_topic_name, 1)})
    rocksdict.Rdict(path, options=rocksdict.Options(raw_mode=True)).close()


def test_expiry_drops_old_hours_and_ids_and_nothing_else(table):
    tp = table.changelog_tp(1)
    old, kept = rows.hour_key(99, b"k"), rows.hour_key(100, b"k")
    old_ids, kept_ids = rows.ids_key(119, 1), rows.ids_key(120, 2)
    ids = [(key, rows.encode_ids(0, 1, {b"i" * 16: EVERYTHING})) for key in (old_ids, kept_ids)]
    table.store.write(tp, [*ids, *((key, state(1)) for key in (old, kept, rows.CHECKPOINT_KEY))], 5)
    table.expire(1, before_hour=100, ids_before_hour=120)
    inner = (bytes([ENTRY]), b"__metrics")
    left = [key for key, _ in table.store.scan(1, b"\x00", b"\xff") if not key.startswith(inner)]
    assert [kept, kept_ids, rows.CHECKPOINT_KEY, b"__faust\0offset__"] == left
    assert table.store.persisted_offset(tp) == 5


def test_the_copy_of_a_standby_expires_by_the_clock_of_the_checkpoint_it_has_reached(table):
    """Its owner drops hours from its own copy only: a standby would keep all it has ever read."""
    limits = FoldLimits(retention_hours=24, id_horizon_hours=2)
    partitions = Partitions(table, limits)
    partitions.assign({1})
    hours = [100, 101, 124, 125]

    def found(partition: int) -> list[int]:
        stored = table.store.scan(partition, rows.hour_key(0, b""), rows.hour_key(1000, b""))
        return [rows.split_hour_key(row_key)[0] for row_key, _ in stored]

    def fill(partition: int, at_hour: int) -> None:
        checkpoint = rows.encode_checkpoint(Checkpoint(0, 7, at_hour * 3600.0, clock_ms=at_hour * HOUR_MS))
        stored = [(rows.hour_key(hour, b"k"), state(1)) for hour in hours]
        table.store.write(table.changelog_tp(partition), [*stored, (rows.CHECKPOINT_KEY, checkpoint)], None)

    fill(1, 125)
    fill(2, 124)
    partitions.expire_standbys()
    assert (found(1), found(2)) == (hours, hours), "one is not a standby's, the other has nothing that is too old"
    fill(2, 125)
    partitions.expire_standbys()
    assert found(2) == [101, 124, 125]


def test_a_copy_is_whole_from_its_note_on_over_restarts_and_no_longer_when_it_is_built_anew(table):
    tp = table.changelog_tp(1)
    table.store.write(tp, [(KEY, state(7))], 12)
    assert not table.store.is_whole(1)
    table.store.matched(1, HERE)
    table.store.note_whole(1)
    assert table.store.is_whole(1)
    table.store.revoke_partitions(table, {tp})
    assert not table.store.is_whole(1), "it is not held"
    table.store.persisted_offset(tp)
    assert not table.store.is_whole(1), "it has not been matched with what Kafka has now"
    table.store.matched(1, HERE)
    assert table.store.is_whole(1)
    table.store.rebuild(1, "ahead", "by a test")
    table.store.matched(1, HERE)
    assert not table.store.is_whole(1)


class Ended(BaseException):
    """The process would have ended here."""


@pytest.fixture
def refusing(table, monkeypatch):
    def refuse(why: str) -> NoReturn:
        raise Ended(why)

    monkeypatch.setattr(table.store, "refuse", refuse)
    return table


def newer(value: bytes) -> bytes:
    """The value as a later release may have written it."""
    changed = value[:1] + bytes([rows.VERSION + 1]) + value[2:-4]
    return changed + zlib.crc32(changed).to_bytes(4, "little")


def test_rows_of_a_newer_release_in_the_changelog_are_refused_and_not_left_out(refusing):
    """A downgrade would lose them, and write older ones after them."""
    take(refusing, (KEY, state(7)), reached=0)
    with pytest.raises(Ended, match="newer release"):
        take(refusing, (KEY, newer(state(9))), reached=1)
    assert refusing.store.persisted_offset(refusing.changelog_tp(1)) == 0
    with pytest.raises(Ended, match="newer release"):
        refusing.store.compare(1, KEY, newer(state(9)))


def test_a_local_row_of_a_newer_release_is_refused_and_not_called_damaged(refusing):
    refusing.store.write(refusing.changelog_tp(1), [(rows.CHECKPOINT_KEY, newer(checkpoint(9)))], 1)
    with pytest.raises(Ended, match=f"version {rows.VERSION + 1}"):
        refusing.checkpoint(1)
    assert not (refusing.store.partition_path(1) / MARK).exists()
