"""The traps of faust-streaming 0.15.3 that docs/adr/0001 works round, each shown.

A test that fails after an upgrade says that a trap is gone and that its workaround may go too.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
import rocksdict
from aiokafka.errors import KafkaConnectionError
from faust.streams import current_event
from faust.tables import base
from faust.transport.consumer import Consumer
from faust.types import TP

from metrics_app.aggregator.store import HourStore
from metrics_app.aggregator.table import HourlyTable, new_table


@pytest.fixture
def app(tmp_path: Path) -> faust.App:
    return faust.App(
        "traps", broker="kafka://127.0.0.1:1", store="rocksdb://", datadir=str(tmp_path), autodiscover=False
    )


def tumbling(app: faust.App, **options: Any) -> Any:
    return app.Table("windowed", **options).tumbling(3600.0, expires=7200.0)


def write(table: Any, key: Any, times: int) -> None:
    for _ in range(times):
        table._maybe_set_key_ttl((key, (0.0, 3599.9)), partition=0)


def test_a_tumbling_table_keeps_a_heap_entry_for_every_write_of_one_key(app):
    table = tumbling(app, key_type=str, value_type=int).table
    write(table, "checkout", times=500)
    assert len(table._partition_timestamps[0]) == 500


def test_a_tumbling_table_forgets_after_a_restart_what_it_was_to_expire(app):
    """Recovery fills the store without the heap, and only the heap is ever looked at."""
    table = tumbling(app, key_type=str, value_type=int).table
    stored = SimpleNamespace(tp=TP("changelog", 0), partition=0, offset=0, key=b'["checkout",[0.0,3599.9]]', value=b"1")
    table.apply_changelog_batch([SimpleNamespace(message=stored, key=stored.key, value=stored.value)])
    assert table.data._db_for_partition(0).get(stored.key) == b"1"
    assert defaultdict(list) == table._partition_timestamps


def test_a_tumbling_table_cannot_take_raw_keys(app):
    """The window is put into the key as a tuple, and the raw codec hands it to RocksDB as it is."""
    table = tumbling(app, key_type=bytes, value_type=bytes).table
    encoded = table.data._encode_key((b"checkout", (0.0, 3599.9)))
    db = table.data._db_for_partition(0)
    with pytest.raises(Exception, match="bytes"):
        db.put(encoded, b"1")
    db.close()


async def test_a_tumbling_table_expires_by_the_clock_of_the_worker(app, monkeypatch):
    table, now_s = tumbling(app, key_type=str, value_type=int).table, time.time()
    table._maybe_set_key_ttl(("checkout", (now_s, now_s + 3599.9)), partition=0)
    await table._del_old_keys()
    assert table._partition_timestamps[0] == [now_s + 3599.9]
    monkeypatch.setattr(base, "time", SimpleNamespace(time=lambda: now_s + 3 * 86_400))
    with suppress(TypeError):  # of a row that is not there: it is on its way to delete it
        await table._del_old_keys()
    assert table._partition_timestamps[0] == []


def test_a_str_key_is_stored_quoted_and_so_routed_by_other_bytes_than_it_was_sent_with(app):
    table = app.Table("quoted", key_type=str, value_type=int)
    assert table.data._encode_key("checkout") == b'"checkout"'


def test_a_table_cannot_be_written_outside_an_event(app):
    table = app.Table("outside", key_type=bytes, value_type=bytes)
    assert current_event() is None
    with pytest.raises(TypeError, match="outside of stream iteration"):
        table.partition_for_key(b"checkout")


def test_offsets_are_committed_over_a_head_gap_or_never_again(app):
    """Acknowledging out of order loses a record (101 here) or stops all commits; so ours is in order."""
    tp = TP("samples", 0)
    state: Any = SimpleNamespace(
        _acked={tp: [101, 102]}, _gap={tp: None}, _committed_offset={tp: 100}, _acked_index={tp: set()}
    )
    assert Consumer._new_offset(state, tp) == 103
    state._acked[tp] = [102, 103]
    assert Consumer._new_offset(state, tp) is None


async def test_a_failed_changelog_send_is_only_logged(app, caplog):
    """Whoever had written the row goes on, and the offset is committed."""
    topic: Any = app.topic("changelog")
    sent = asyncio.get_running_loop().create_future()
    sent.set_exception(KafkaConnectionError("away"))
    failed: list[Exception] = []
    message = SimpleNamespace(set_exception=failed.append, message=SimpleNamespace(channel=topic))
    topic._on_published(sent, message=message, producer=None, state=None)
    assert [str(error) for error in failed] == ["KafkaConnectionError: away"]
    assert "_on_published error" in caplog.text


def test_the_default_store_takes_gigabytes_of_cache_for_each_partition(app):
    assert app.Table("cache", key_type=bytes).data.rocksdb_options.block_cache_size == 2 << 30


def test_the_default_store_leaves_closing_to_the_garbage_collector(app):
    """A reference anywhere, such as an iterator of a view, keeps the lock; ours closes (see test_store)."""
    table = app.Table("kept", key_type=bytes, value_type=bytes)
    tp = TP(table.changelog_topic.get_topic_name(), 0)
    reading = table.data._db_for_partition(0).iter()
    table.data.revoke_partitions(table, {tp})
    with pytest.raises(Exception, match=r"(?i)lock"):
        rocksdict.Rdict(str(table.data.partition_path(0)))
    del reading


def test_our_table_has_none_of_it(app):
    table = new_table(app, partitions=2)
    assert isinstance(table, HourlyTable)
    assert isinstance(table.store, HourStore)
    assert table.window is None
    for _ in range(100):
        table.store.write(table.changelog_tp(0), [(b"\x10\x00\x00\x00\x01k", b"v")], None)
    assert table._partition_timestamps == {}
    table.store.revoke_partitions(table, {table.changelog_tp(0)})


async def test_a_fetch_of_empty_partitions_keeps_the_others_waiting_for_a_second_and_a_half(app):
    """aiokafka asks a broker one thing at a time; this is how long it may take to answer that there is nothing."""
    consumer = app.consumer._new_consumer_thread()._create_worker_consumer(app.transport)
    assert consumer._fetch_max_wait_ms == 1500
    await consumer.stop()
