"""`metrics-app export` of a small archive, in each format."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from metrics_app.archive import parquet
from metrics_app.archive.manifest import ArchiveOf
from metrics_app.cli.main import app
from tests.archive.changelogs import HOUR, row_of
from tests.archive.test_keeping import CHECKPOINT, DAY, FIRST, LATER, archive_in, kept

runner = CliRunner()
KEYS = ["a", "b", "\u00fc/\u2603"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An archive of two hours and two partitions; the first hour was corrected."""
    archive = archive_in(tmp_path / "archive")
    archive.belong_to(ArchiveOf("c", "t", 2))
    archive.keep(1, HOUR, FIRST, CHECKPOINT)
    archive.keep(1, HOUR, LATER, CHECKPOINT)
    archive.keep(0, HOUR, {b"=1+1": row_of([3])}, CHECKPOINT)
    archive.keep(1, HOUR + 1, {b"a": row_of([16])}, CHECKPOINT)
    return archive.folder.root


def at(hour: int) -> str:
    moment = DAY.timestamp() + (hour - HOUR) * 3600
    return f"{DAY.fromtimestamp(moment, DAY.tzinfo):%Y-%m-%dT%H:00:00Z}"


def exported(folder: Path, *arguments: str, first: int = HOUR, end: int = HOUR + 2) -> Any:
    given = ["export", "--archive", str(folder), "--from", at(first), "--to", at(end), *arguments]
    return runner.invoke(app, given)


def test_parquet_has_the_newest_version_of_each_row_once(folder, tmp_path):
    result = exported(folder, "--output", str(tmp_path / "all.parquet"))
    assert (result.exit_code, result.stderr) == (0, "5 rows\n")
    table = pyarrow.parquet.read_table(tmp_path / "all.parquet")
    assert table.schema.equals(parquet.schema())
    lines = [(line["key"], line["start"].hour, line["count"], line["version"]) for line in table.to_pylist()]
    hour = DAY.hour
    assert lines == [
        ("=1+1", hour, 1, 1),
        ("a", hour, 4, 2),
        ("b", hour, 0, 2),
        (KEYS[2], hour, 5000, 2),
        ("a", (hour + 1) % 24, 1, 1),
    ]
    assert dict(zip(table["key"].to_pylist(), table["row"].to_pylist(), strict=True))["b"] == FIRST[b"b"]


def test_csv_and_ndjson_are_lines_without_the_wide_columns(folder):
    lines = [json.loads(line) for line in exported(folder, "--format", "ndjson").stdout.splitlines()]
    rows = list(csv.DictReader(io.StringIO(exported(folder, "--format", "csv").stdout)))
    wide = {"buckets", "row"}
    for found in (lines, rows):
        assert [line["key"] for line in found] == ["=1+1", *KEYS, "a"]
        assert set(found[0]) == set(parquet.schema().names) - wide
    assert (lines[1]["sum"], rows[1]["sum"], lines[2]["sum"], rows[2]["sum"]) == (15.0, "15", None, "")


def test_a_key_and_a_range_choose(folder):
    only = exported(folder, "--format", "ndjson", "--key", "a", end=HOUR + 1).stdout.splitlines()
    assert [json.loads(line)["count"] for line in only] == [4]
    assert exported(folder, "--format", "csv", first=HOUR + 5, end=HOUR + 6).stdout.count("\n") == 1


def test_what_cannot_be_exported_is_said_and_leaves_no_file(folder, tmp_path):
    assert "expected a time after --from" in exported(folder, end=HOUR).output
    assert "is not an archive" in exported(tmp_path / "none").output
    archive = archive_in(folder)
    (folder / kept(archive).file).write_bytes(b"junk")
    out = tmp_path / "out"
    out.mkdir()
    result = exported(folder, "--output", str(out / "all.parquet"))
    assert result.exit_code == 1
    assert "is not the one that was written" in result.output
    assert list(out.iterdir()) == []
    assert "cannot be written" in exported(folder, "--output", str(tmp_path / "no" / "x"), first=HOUR + 1).output
