"""What is in the spool outlives the process that put it there, and is sent once."""

from __future__ import annotations

import errno
import os
import random
import struct
import time
import uuid
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_app.client.buffer import Batch, batch_of
from metrics_app.client.contents import body_of
from metrics_app.client.segments import MAGIC, SEGMENT, VERSION, Segments, Stored
from metrics_app.client.series import Series
from metrics_app.client.spool import Spool

from .collector import Collector
from .conftest import Connect
from .test_client import eventually

MANY = 64 << 20


def batch(number: int, size: int = 100) -> Batch:
    return Batch(number, 1, bool(number % 2), random.Random(number).randbytes(size))


def spool(folder: Path, max_bytes: int = MANY) -> Spool:
    return Spool(folder, max_bytes, 1 << 20, sync=False)


def crashed(one: Spool) -> None:
    """Its process was killed: the files are closed as they are."""
    one.abandon()


def left(folder: Path) -> list[Batch | None]:
    heir = spool(folder)
    found = [stored.load() for stored in heir.left_behind()]
    crashed(heir)
    return found


def test_what_was_kept_and_not_let_go_is_left_behind_in_order(tmp_path: Path) -> None:
    first = spool(tmp_path)
    kept = [first.keep(batch(number)) for number in range(10)]
    for number in (0, 1, 5):
        waiting = kept[number]
        assert waiting is not None
        first.let_go(waiting)
    assert left(tmp_path) == [], "as long as it is alive, nobody takes its batches"
    crashed(first)
    for _ in range(2):  # an heir may be killed as well
        assert left(tmp_path) == [batch(number) for number in (2, 3, 4, 6, 7, 8, 9)]


def test_an_heir_notes_what_it_has_sent_and_cleans_up(tmp_path: Path) -> None:
    first = spool(tmp_path)
    for number in range(3):
        first.keep(batch(number))
    crashed(first)
    heir = spool(tmp_path)
    found = heir.left_behind()
    heir.let_go(found[0])
    crashed(heir)
    assert left(tmp_path) == [batch(1), batch(2)]
    last = spool(tmp_path)
    for stored in last.left_behind():
        last.let_go(stored)
    last.close()
    assert list(tmp_path.iterdir()) == []


def test_a_spool_that_is_closed_empty_leaves_nothing_and_one_that_is_not_leaves_its_batches(tmp_path: Path) -> None:
    one = spool(tmp_path)
    kept = one.keep(batch(1))
    assert kept is not None
    one.let_go(kept)
    one.close()
    assert list(tmp_path.iterdir()) == []
    two = spool(tmp_path)
    two.keep(batch(2))
    two.close()
    assert left(tmp_path) == [batch(2)]


def test_files_that_are_not_needed_go_while_the_process_runs(tmp_path: Path) -> None:
    one = Segments(tmp_path, segment_bytes=1000, sync=True)
    waiting: list[Stored] = []
    for number in range(200):
        waiting.append(one.append(batch(number)))
        if len(waiting) > 5:
            waiting.pop(0).let_go()
        assert sum(path.stat().st_size for path in tmp_path.glob(f"*{SEGMENT}")) < 4000
    assert [stored.load() for stored in waiting] == [batch(number) for number in range(195, 200)]


@settings(max_examples=200)
@given(st.integers(0, 2000), st.booleans())
def test_however_a_file_is_cut_or_damaged_what_is_before_is_read_and_nothing_is_made_up(
    tmp_path_factory: pytest.TempPathFactory, at: int, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    one = spool(folder)
    ends = [stored.place + stored.size for stored in map(one.keep, map(batch, range(15))) if isinstance(stored, Stored)]
    crashed(one)
    (path,) = folder.glob(f"*{SEGMENT}")
    data = bytearray(path.read_bytes())
    at = min(at, len(data) - 1)
    if cut:
        del data[at:]
    else:
        data[at] ^= 0x10
    path.write_bytes(data)
    whole = sum(end <= at for end in ends)
    assert left(folder) == [batch(number) for number in range(whole)]
    heir = spool(folder)
    found = heir.left_behind()
    if found:
        heir.let_go(found.pop())
        crashed(heir)
        assert len(left(folder)) == len(found), "its notes can be read though the file was cut short before them"


def test_a_folder_that_cannot_be_used_is_said_at_once(tmp_path: Path, connect: Connect, collector: Collector) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        connect(collector, spool=tmp_path / "file")


def fill_disk(folder: Path) -> None:
    """Lets every file of the folder that this process writes fail as on a full disk."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        for link in Path("/proc/self/fd").iterdir():
            if link.is_symlink() and link.resolve().parent == folder:
                os.dup2(full, int(link.name))
    finally:
        os.close(full)


def test_a_disk_that_fails_later_costs_nothing_as_long_as_there_is_memory(
    tmp_path: Path, connect: Connect, collector: Collector
) -> None:
    collector.mode = 503
    client = connect(collector, spool=tmp_path / "spool", max_bytes=64 << 10, histogram_above=0)
    client.record("a", 1.0)
    assert not client.flush(0.3)
    fill_disk(tmp_path / "spool")
    client.record("a", 2.0)
    assert not client.flush(0.3)
    for _ in range(20_000):
        client.record("b", random.random())
    assert not client.flush(0.3)
    collector.mode = "ok"
    assert not client.flush(10), "some were dropped"
    assert (collector.counted("a"), collector.total("a")) == (2, 3.0)
    assert client.stats().dropped == {"disk": 20_000 - collector.counted("b")}
    assert 0 < 8 * collector.counted("b") < 64 << 10, "as much as memory may hold"


ONE_BATCH = 10_000  # values at most: what is recorded while one batch is made, twice


def test_the_spool_is_bounded_and_the_newest_are_kept(tmp_path: Path, connect: Connect, collector: Collector) -> None:
    collector.mode = 503
    client = connect(collector, spool=tmp_path, spool_bytes=1 << 20, interval_s=0.02, histogram_above=0)
    for number in range(60):
        for _ in range(5000):
            client.record("a", number + random.random())
        client.flush(0)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1 << 20
    collector.mode = "ok"
    assert not client.flush(20), "some were dropped"
    stats = client.stats()
    assert stats.sent + stats.dropped["overflow"] == stats.recorded == 300_000
    assert collector.counted("a") == stats.sent > 80_000
    assert collector.missing("a") == stats.dropped["overflow"]
    summary = collector.rows()["a"][0].summary
    _, older = summary.at_most(30.0)
    assert older <= ONE_BATCH, "the newest are kept, and one batch that was on its way when room was made"


OWNER = "0123456789abcdef" * 2
GOLDEN = Path(__file__).with_name("spool_v0.hex")


def test_files_of_the_first_release_without_a_version_are_read(tmp_path: Path) -> None:
    (tmp_path / f"{OWNER}-000001.spool").write_bytes(bytes.fromhex(GOLDEN.read_text()))
    (tmp_path / f"{OWNER}.lock").touch()
    heir = spool(tmp_path)
    found = heir.left_behind()
    batches = [stored.load() for stored in found]
    assert [(one.count, [series.first for series in body_of(one).series]) for one in batches if one] == [
        (100, [3]),
        (1, [0]),
    ]
    for stored in found:
        heir.let_go(stored)
    heir.close()
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_later_version_are_left_as_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    later = tmp_path / f"{OWNER}-000001{SEGMENT}"
    later.write_bytes(MAGIC + bytes([VERSION + 1]) + b"whatever")
    (tmp_path / f"{OWNER}.lock").touch()
    for _ in range(2):
        heir = spool(tmp_path)
        assert heir.left_behind() == []
        heir.close()
    assert later.exists()
    assert "later version" in caplog.text


def lay_about(folder: Path) -> set[str]:
    """What is no spool's, some of it under names that look so; returns the names."""
    for name in ("notes.txt", "app.lock", "[a-z]*.lock", "backup-of-000001.spool", f"{OWNER}-x.spool1"):
        (folder / name).write_bytes(b"x")
    (folder / f"{OWNER}.lock").mkdir()
    os.mkfifo(folder / ("a" * 32 + "-000001.spool1"))
    (folder / ("b" * 32 + "-000001.spool1")).symlink_to("/dev/zero")
    no_batch = b"B" + struct.pack("<II", 2, zlib.crc32(b"xx")) + b"xx"  # though whole
    (folder / ("c" * 32 + "-000001.spool1")).write_bytes(no_batch)
    return {path.name for path in folder.iterdir()}


def test_whatever_lies_in_the_folder_the_client_works_and_touches_nothing_that_is_not_its_own(
    tmp_path: Path, connect: Connect, collector: Collector
) -> None:
    names = lay_about(tmp_path)
    left_there = Segments(tmp_path, 1 << 20, False)
    left_there.append(batch_of(uuid.uuid4(), [Series("left", int(time.time()) // 3600, 0, b"\0" * 8)], 1, 1))
    left_there.abandon()
    client = connect(collector, spool=tmp_path)
    client.record("a", 1.0)
    assert client.flush(10)
    eventually(lambda: collector.counted("left") == 1)
    assert collector.counted("a") == 1
    client.close()
    assert names <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_files_of_another_user_are_left_alone(tmp_path: Path) -> None:
    other = Segments(tmp_path, 1 << 20, False)
    other.append(batch(1))
    other.abandon()
    (path,) = tmp_path.glob(f"*{SEGMENT}")
    os.chown(path, 12345, 12345)
    heir = spool(tmp_path)
    assert heir.left_behind() == []
    heir.close()
    assert path.exists()


def test_want_of_file_descriptors_costs_no_batch(
    tmp_path: Path, connect: Connect, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(collector, spool=tmp_path)
    real, times = Path.open, iter(range(3))

    def scarce(path: Path, *arguments: Any, **named: Any) -> Any:
        if path.suffix == SEGMENT and next(times, None) is not None:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", scarce)
    client.record("a", 1.0)
    assert client.flush(20)
    assert (collector.counted("a"), client.stats().dropped) == (1, {})


def test_a_folder_that_goes_away_has_nothing_written_to_the_files_of_others(tmp_path: Path) -> None:
    folder, other = tmp_path / "spool", tmp_path / "other"
    folder.mkdir()
    own = Segments(folder, 150, sync=False)
    own.append(batch(1))
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        own.append(batch(2))  # in a file of its own, which cannot be made
    with other.open("wb", buffering=0):  # gets the number of the file that was closed
        with pytest.raises(FileNotFoundError):
            own.append(batch(3))
        assert other.read_bytes() == b""
    (tmp_path / "elsewhere").rename(folder)
    assert own.append(batch(4)).load() == batch(4)
    own.abandon()


def test_a_file_that_could_not_be_begun_has_its_version_when_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    own = Segments(tmp_path, 150, sync=False)
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            own.append(batch(1))
    own.append(batch(2))
    (file,) = tmp_path.glob(f"*{SEGMENT}")
    assert file.read_bytes().startswith(MAGIC)
    own.abandon()
