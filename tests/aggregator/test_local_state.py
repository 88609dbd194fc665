"""Damaged, incomplete, foreign and locked databases: found before a wrong answer can be given. Real RocksDB."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import faust
import pytest
import rocksdict

from metrics_app.aggregator import local_state
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.deduplication import EVERYTHING
from metrics_app.aggregator.local_copies import options
from metrics_app.aggregator.local_state import DamagedError, Manifest
from metrics_app.aggregator.row import Checkpoint
from metrics_app.aggregator.store import HourStore
from metrics_app.aggregator.table import HourlyTable, new_table

ROWS = 3000
BAD, GOOD = 1, 2


class Ended(BaseException):
    """The process would have ended here."""


class Machine:
    """A data folder over several lives of a worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reasons: list[str] = []
        self.start()

    def start(self) -> None:
        app = faust.App("state-test", broker="kafka://127.0.0.1:1", datadir=str(self.folder), autodiscover=False)
        self.table: HourlyTable = new_table(app, partitions=4)
        self.table.on_rebuild = self.reasons.append
        self.store: HourStore = self.table.store
        self.store.give_up = self._end

    def _end(self, why: str) -> NoReturn:
        raise Ended(why)

    def stop(self) -> None:
        self.store.revoke_partitions(self.table, {self.table.changelog_tp(partition) for partition in range(4)})

    def crash(self, partition: int) -> None:
        """Stops, and leaves on disk what was there before: stopping properly, RocksDB empties its write-ahead log."""
        kept = shutil.copytree(self.path(partition), self.folder / "kept")
        self.stop()
        shutil.rmtree(self.path(partition))
        kept.rename(self.path(partition))

    def restart(self) -> None:
        self.stop()
        self.start()

    def fill(self, partition: int, *, flush: bool = True, first: int = 0) -> None:
        """Thousands of rows, as table files with `flush`; else in the write-ahead log."""
        tp = self.table.changelog_tp(partition)
        written = [(key(number), value(number)) for number in range(first, first + ROWS)]
        self.store.write(
            tp, [*written, (rows.CHECKPOINT_KEY, rows.encode_checkpoint(Checkpoint(0, first, 1.0)))], first + ROWS
        )
        db = self.store.held(partition)
        assert db is not None
        if flush:
            db.flush()

    def path(self, partition: int) -> Path:
        return self.store.partition_path(partition)

    def offset(self, partition: int) -> int | None:
        return self.store.persisted_offset(self.table.changelog_tp(partition))


def key(number: int) -> bytes:
    return rows.hour_key(100, b"key-%06d" % number)


def value(number: int) -> bytes:
    return rows.encode_ids(0, number, {os.urandom(16): EVERYTHING for _ in range(12)})


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    for partition in (BAD, GOOD):
        machine.fill(partition)
    return machine


def table_of(path: Path) -> Path:
    return max(path.glob("*.sst"), key=lambda table: table.stat().st_size)


def manifest_file(path: Path) -> Path:
    return path / (path / "CURRENT").read_text().strip()


def flip(path: Path, at: int, size: int) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + size] = bytes(byte ^ 0xFF for byte in content[at : at + size])
    path.write_bytes(content)


def spoil_table_index(path: Path) -> None:
    flip(table_of(path), table_of(path).stat().st_size - 4096, 4096)


def remove_table(path: Path) -> None:
    table_of(path).unlink()


def empty_manifest(path: Path) -> None:
    os.truncate(manifest_file(path), 0)


def halve_manifest(path: Path) -> None:
    os.truncate(manifest_file(path), manifest_file(path).stat().st_size // 2)


def cut_current(path: Path) -> None:
    os.truncate(path / "CURRENT", 5)


def empty_current(path: Path) -> None:
    os.truncate(path / "CURRENT", 0)


def remove_current(path: Path) -> None:
    (path / "CURRENT").unlink()


def become_a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("?")


def become_the_other(path: Path) -> None:
    shutil.rmtree(path)
    shutil.copytree(path.with_name(path.name.replace(str(BAD), str(GOOD))), path)


def become_somebody_elses(path: Path) -> None:
    shutil.rmtree(path)
    db = rocksdict.Rdict(str(path), options=rocksdict.Options(raw_mode=True))
    db.put(HourStore.offset_key, b"7")
    db.close()


def mark(path: Path) -> None:
    local_state.mark(path, local_state.UNREADABLE)


@pytest.mark.parametrize(
    ("damage", "reasons"),
    [
        (spoil_table_index, {"corrupt"}),
        (remove_table, {"corrupt"}),
        (empty_manifest, {"corrupt"}),
        (halve_manifest, {"corrupt", "incomplete"}),
        (cut_current, {"corrupt"}),
        (empty_current, {"corrupt"}),
        (remove_current, {"corrupt"}),
        (become_a_file, {"foreign"}),
        (become_the_other, {"foreign"}),
        (become_somebody_elses, {"foreign"}),
        (mark, {"unreadable"}),
    ],
)
def test_a_copy_that_cannot_be_right_is_put_aside_and_begun_anew(
    machine: Machine, damage: Callable[[Path], None], reasons: set[str]
) -> None:
    machine.stop()
    damage(machine.path(BAD))
    machine.start()
    assert machine.offset(BAD) is None
    assert machine.store.scan(BAD, b"", b"\x40") == []
    assert len(machine.reasons) == 1
    assert set(machine.reasons) <= reasons
    assert machine.offset(GOOD) == ROWS
    assert len(machine.store.scan(GOOD, b"", b"\x40")) == ROWS + 1
    assert machine.path(BAD).with_name(machine.path(BAD).name + ".bad").exists()
    machine.fill(BAD)
    machine.restart()
    assert machine.offset(BAD) == ROWS
    assert len(machine.reasons) == 1


def test_an_undamaged_copy_is_used_whatever_lies_beside_it(machine: Machine) -> None:
    machine.stop()
    (machine.path(BAD) / "LOCK").write_text("of a process that is dead")
    (machine.path(BAD) / "notes.txt").write_text("?")
    machine.start()
    assert machine.offset(BAD) == ROWS
    assert machine.reasons == []


def test_only_the_last_copy_put_aside_is_kept(machine: Machine) -> None:
    for partition in (BAD, GOOD):
        machine.store.rebuild(partition, "corrupt", "?")
    assert [path.name for path in machine.path(BAD).parent.glob("*.bad")] == [f"hours-{GOOD}.db.bad"]


def hole(machine: Machine) -> Path:
    """A manifest without its last changes, where the write-ahead log goes on behind them."""
    machine.restart()
    machine.fill(BAD, first=ROWS)
    cut = manifest_file(machine.path(BAD)).stat().st_size
    machine.fill(BAD, first=2 * ROWS)  # this table will not be listed
    machine.fill(BAD, first=3 * ROWS, flush=False)
    machine.crash(BAD)
    os.truncate(manifest_file(machine.path(BAD)), cut)
    return machine.path(BAD)


def test_rocksdb_opens_a_state_with_a_hole_without_a_word(machine: Machine) -> None:
    """Why the manifest is watched; when this fails, that need not be any more."""
    db = rocksdict.Rdict(str(hole(machine)), options=options())
    assert db.get(HourStore.offset_key) == b"%d" % (4 * ROWS)
    assert db.get(key(2 * ROWS)) is None
    assert db.get(key(3 * ROWS)) is not None
    db.close()


def test_a_state_with_a_hole_is_found(machine: Machine) -> None:
    hole(machine)
    machine.start()
    assert machine.offset(BAD) is None
    assert machine.reasons == ["incomplete"]


def test_a_write_ahead_log_without_its_end_leads_to_an_earlier_whole_state(machine: Machine) -> None:
    """What a power failure leaves: the place, the rows and the changelog offset are from the same write."""
    for number in (1, 2, 3):
        machine.fill(BAD, first=number * ROWS, flush=False)
    machine.crash(BAD)
    log = max(machine.path(BAD).glob("*.log"), key=lambda file: file.stat().st_size)
    os.truncate(log, log.stat().st_size - 50_000)
    machine.start()
    reached = machine.offset(BAD)
    assert reached in (2 * ROWS, 3 * ROWS)
    assert len(machine.store.scan(BAD, b"", b"\x20")) == reached
    assert machine.reasons == []


def read_all(store: HourStore, how: str) -> None:
    if how == "scan":
        store.scan(BAD, b"", b"\x40")
    else:
        for number in range(ROWS):
            store.read(BAD, key(number))


@pytest.mark.parametrize("how", ["read", "scan"])
def test_a_block_that_cannot_be_read_ends_the_process_and_is_rebuilt_by_the_next(machine: Machine, how: str) -> None:
    """An iterator that meets one would end early without a word, and forget ids."""
    machine.stop()
    flip(table_of(machine.path(BAD)), 200_000, 4096)
    machine.start()
    assert machine.offset(BAD) == ROWS
    with pytest.raises(Ended, match="rebuilt from the changelog at the next start"):
        read_all(machine.store, how)
    machine.restart()
    assert machine.offset(BAD) is None
    assert machine.reasons == ["unreadable"]
    assert machine.offset(GOOD) == ROWS


def test_a_row_of_nonsense_ends_the_process_wherever_it_is_decoded(machine: Machine) -> None:
    tp = machine.table.changelog_tp(BAD)
    machine.store.write(tp, [(rows.CHECKPOINT_KEY, rows.encode_checkpoint(Checkpoint(0, 7, 1.0))[:-1])], None)
    with pytest.raises(Ended, match="damaged"), machine.store.sound(BAD):
        machine.table.checkpoint(BAD)
    assert (machine.path(BAD) / local_state.MARK).read_text() == "unreadable"


def test_an_error_that_is_not_damage_costs_no_state(machine: Machine) -> None:
    with pytest.raises(RuntimeError), machine.store.sound(BAD):
        raise RuntimeError("IO error: No space left on device")
    assert not (machine.path(BAD) / local_state.MARK).exists()


OPEN_AND_WAIT = """
import sys, rocksdict
from metrics_app.aggregator.local_copies import options
db = rocksdict.Rdict(sys.argv[1], options=options())
print("open", flush=True)
sys.stdin.read()
"""
OPEN = """
import sys
from pathlib import Path
from metrics_app.aggregator import local_state
from metrics_app.aggregator.local_copies import options
local_state.open_database(Path(sys.argv[1]), b"me", options())
"""


def test_a_database_another_process_uses_ends_this_one_at_once_and_stays_as_it_is(tmp_path: Path) -> None:
    path = str(tmp_path / "hours-1.db")
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", OPEN_AND_WAIT, path], stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        ours = subprocess.run([sys.executable, "-c", OPEN, path], capture_output=True, text=True, timeout=30)
        assert ours.returncode == 3
        assert "give each its own --data-dir" in ours.stderr
        other.communicate(b"")
    again = subprocess.run([sys.executable, "-c", OPEN, path], capture_output=True, text=True, timeout=30)
    assert again.returncode == 0, again.stderr


WRITE_WITHOUT_END = """
import os, sys
from pathlib import Path
from metrics_app.aggregator import local_state
from metrics_app.aggregator.local_copies import options
path = Path(sys.argv[1])
db = local_state.open_database(path, b"me", options())
for number in range(1_000_000):
    db.put(b"%d" % (number % 5000), os.urandom(4000))
    db.put(local_state.MANIFEST_KEY, local_state.encode_manifest(local_state.manifest_of(path)))
    if number == 4000:
        print("going", flush=True)
"""


def test_a_process_killed_while_it_writes_tables_leaves_a_sound_copy(tmp_path: Path) -> None:
    path = tmp_path / "hours-1.db"
    for _ in range(2):
        command = [sys.executable, "-c", WRITE_WITHOUT_END, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"going\n"
            writer.kill()
        local_state.open_database(path, b"me", options()).close()


def test_the_note_on_the_manifest_is_read_back() -> None:
    assert local_state.decode_manifest(local_state.encode_manifest(Manifest(12, 345))) == Manifest(12, 345)


def test_a_manifest_of_an_earlier_opening_is_older_whatever_its_size(tmp_path: Path) -> None:
    path = tmp_path / "hours-1.db"
    db = local_state.open_database(path, b"me", options())
    db.put(local_state.MANIFEST_KEY, local_state.encode_manifest(Manifest(1000, 1)))
    db.close()
    with pytest.raises(DamagedError, match="was Manifest"):
        local_state.open_database(path, b"me", options())
