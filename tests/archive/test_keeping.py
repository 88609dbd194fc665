"""The archive's files without Kafka: what they hold, versions, damage, and a kill at every step of writing."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import polars
import pyarrow.parquet
import pytest

from metrics_app.aggregator.row import Checkpoint
from metrics_app.archive.folder import Folder
from metrics_app.archive.keeping import Archive
from metrics_app.archive.manifest import ArchivedHour, ArchiveOf, ArchivePlace
from metrics_app.errors import ArchiveError, SettingsError
from tests.archive.changelogs import HOUR, row_of

CHECKPOINT = Checkpoint(3, 77, as_of=(HOUR + 2) * 3600.0, sealed=HOUR + 2)
FIRST = {b"a": row_of([1, 2, 4]), b"b": row_of([]), "\u00fc/\u2603".encode(): row_of(range(5000))}
LATER = {b"a": row_of([1, 2, 4, 8], stamp=2, late=1)}
DAY = datetime.fromtimestamp(HOUR * 3600, UTC)


def archive_in(folder: Path) -> Archive:
    return Archive(Folder(folder))


def kept(archive: Archive) -> ArchivedHour:
    return archive.day(f"{DAY:%Y-%m-%d}", 1).hours[f"{DAY:%H}"]


def test_an_hour_is_kept_with_its_hash_and_its_proof_and_given_back_byte_for_byte(tmp_path):
    archive = archive_in(tmp_path)
    found = archive.keep(1, HOUR, FIRST, CHECKPOINT)
    assert found is not None
    assert found == kept(archive)
    assert found.file == f"date={DAY:%Y-%m-%d}/hour={DAY:%H}/partition-001.v1.parquet"
    content = (tmp_path / found.file).read_bytes()
    assert (found.sha256, found.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (found.version, found.rows, found.values, found.lost_records) == (1, 3, 5003, 0)
    assert (found.sealed, found.epoch, found.offset, found.as_of) == (HOUR + 2, 3, 77, CHECKPOINT.as_of)
    assert archive.rows(found) == FIRST


def test_columns_are_the_statistics_of_the_rows(tmp_path):
    archive_in(tmp_path).keep(1, HOUR, FIRST, CHECKPOINT)
    lines = pyarrow.parquet.read_table(tmp_path / kept(archive_in(tmp_path)).file, partitioning=None).to_pylist()
    a, b, many = lines
    assert [each["key"] for each in lines] == ["a", "b", "\u00fc/\u2603"]
    assert {name: a[name] for name in ("count", "sum", "min", "max", "p50", "exact", "late")} == {
        "count": 3, "sum": 7.0, "min": 1.0, "max": 4.0, "p50": 2.0, "exact": True, "late": 0,
    }  # fmt: skip
    assert (b["count"], b["sum"], b["p50"], b["buckets"]) == (0, None, None, None)
    assert sum(bucket["count"] for bucket in many["buckets"]) + many["zero_count"] == many["count"] == 5000
    assert not many["exact"]
    assert (a["start"], a["version"], a["partition"]) == (DAY, 1, 1)


def test_the_same_rows_again_or_older_ones_write_nothing(tmp_path):
    archive = archive_in(tmp_path)
    archive.keep(1, HOUR, FIRST | LATER, CHECKPOINT)
    before = contents(tmp_path)
    assert archive.keep(1, HOUR, FIRST, CHECKPOINT._replace(offset=99)) is None
    assert contents(tmp_path) == before


def test_a_correction_is_a_newer_version_and_two_versions_stay(tmp_path):
    archive = archive_in(tmp_path)
    archive.keep(1, HOUR, FIRST, CHECKPOINT)
    for stamp in (2, 3):
        archive.keep(1, HOUR, {b"a": row_of([stamp] * 9, stamp)}, CHECKPOINT)
    assert kept(archive).version == 3
    assert archive.rows(kept(archive)) == FIRST | {b"a": row_of([3] * 9, 3)}
    assert Folder(tmp_path).names("date=*/hour=*/*") == [kept(archive).file.replace("v3", v) for v in ("v2", "v3")]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def keep_all(folder: str, steps: int) -> None:
    """Archives twice, in a process that is killed at one of its steps on the disk."""
    left = [steps]

    def counted(act: Any) -> Any:
        def step(*arguments: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*arguments)

        return step

    steps_on_disk = {name: counted(getattr(os, name)) for name in ("fsync", "replace", "unlink")}
    with patch.multiple(os, **steps_on_disk):  # and as they were after it: other tests run in this process
        archive = archive_in(Path(folder))
        archive.belong_to(ArchiveOf("c", "t", 2))
        archive.keep(1, HOUR, FIRST, CHECKPOINT)
        archive.keep(1, HOUR + 1, FIRST, CHECKPOINT)
        archive.note_place(1, ArchivePlace("t", 9, HOUR + 2))


def test_killed_at_any_step_and_run_again_the_archive_is_the_same(tmp_path):
    whole = tmp_path / "whole"
    keep_all(str(whole), 0)
    assert len(contents(whole)) == 5
    spawn = multiprocessing.get_context("fork")
    killed = 0
    for steps in range(1, 1000):
        torn = tmp_path / f"torn-{steps}"
        process = spawn.Process(target=keep_all, args=(str(torn), steps))
        process.start()
        process.join(60)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        killed += 1
        keep_all(str(torn), 0)
        assert contents(torn) == contents(whole)
    assert killed > 15


def test_a_damaged_or_missing_file_is_named_and_nothing_is_written_over_it(tmp_path):
    archive = archive_in(tmp_path)
    archive.keep(1, HOUR, FIRST, CHECKPOINT)
    path = tmp_path / kept(archive).file
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ArchiveError, match=r"v1\.parquet is not the one that was written"):
        archive.keep(1, HOUR, LATER, CHECKPOINT)
    path.unlink()
    with pytest.raises(ArchiveError, match=r"v1\.parquet is missing"):
        archive.rows(kept(archive))
    assert kept(archive).version == 1


@pytest.mark.parametrize(("content", "told"), [(b"{", "is damaged"), (b"[]", "is damaged"), (b"\xff", "is damaged")])
def test_a_damaged_manifest_is_named(tmp_path, content, told):
    archive = archive_in(tmp_path)
    archive.keep(1, HOUR, FIRST, CHECKPOINT)
    (manifest,) = tmp_path.glob("date=*/*.json")
    manifest.write_bytes(content)
    with pytest.raises(ArchiveError, match=told):
        archive.keep(1, HOUR, LATER, CHECKPOINT)
    assert manifest.read_bytes() == content


def test_a_newer_format_and_the_archive_of_another_changelog_are_refused(tmp_path):
    archive = archive_in(tmp_path)
    archive.belong_to(ArchiveOf("c", "t", 2))
    archive.belong_to(ArchiveOf("c", "t", 2))
    for other in (ArchiveOf("d", "t", 2), ArchiveOf("c", "u", 2), ArchiveOf("c", "t", 3)):
        with pytest.raises(ArchiveError, match="use another folder"):
            archive.belong_to(other)
    (tmp_path / "archive.json").write_text('{"cluster":"c","topic":"t","partitions":2,"format":2}')
    with pytest.raises(ArchiveError, match="format 2, and this release reads 1"):
        archive.belong_to(ArchiveOf("c", "t", 2))


def test_a_second_process_and_a_place_that_is_no_folder_are_refused(tmp_path):
    first, second = Folder(tmp_path / "a"), Folder(tmp_path / "a")
    with first.locked(), pytest.raises(ArchiveError, match="another process"), second.locked():
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="not a folder"), Folder(tmp_path / "file").locked():
        pass


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(SettingsError, match=r"metrics-app\[server,arrow\]"):
        archive_in(tmp_path).keep(1, HOUR, FIRST, CHECKPOINT)


def recipes(fence: str) -> list[str]:
    page = (Path(__file__).parent.parent.parent / "docs" / "archive.md").read_text()
    return [part.split("```")[0] for part in page.split(f"```{fence}\n")[1:]]


def test_the_recipes_of_the_docs_read_the_newest_versions(tmp_path, monkeypatch):
    archive = archive_in(tmp_path / "archive")
    archive.keep(1, HOUR, FIRST, CHECKPOINT)
    archive.keep(1, HOUR, LATER, CHECKPOINT)
    archive.keep(1, HOUR + 1, {b"a": row_of([16])}, CHECKPOINT)
    monkeypatch.chdir(tmp_path)
    wanted = [("a", 5, 31.0, 16.0), ("\u00fc/\u2603", 5000, 12497500.0, 4999.0)]
    (sql,) = recipes("sql")
    assert duckdb.connect().execute(sql).fetchall() == wanted
    (python,) = recipes("python")
    names: dict[str, Any] = {"polars": polars}
    exec(python, names)
    assert names["by_key"].rows() == wanted
