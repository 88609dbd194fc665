"""Takes hours out of an archive, as one file of Parquet, CSV or NDJSON.

Called by `cli.export`.

What is exported is what manifests name, each file checked against its hash: of each hour the newest version, once.
CSV and NDJSON leave out the columns that a line has no room for: the histogram and the encoded row.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO, Any

import msgspec

from metrics_app.archive import parquet
from metrics_app.archive.keeping import Archive
from metrics_app.archive.manifest import ArchivedHour, date_of, hour_of_day
from metrics_app.errors import ArchiveError

PARQUET, CSV, NDJSON = "parquet", "csv", "ndjson"
FORMATS = (PARQUET, CSV, NDJSON)
WIDE = ("buckets", "row")


def hours_of(archive: Archive, first: int, end: int) -> Iterator[ArchivedHour]:
    """Archived hours from one up to before another, by time and partition.

    Raises:
        ArchiveError: there is no archive, or what is there is damaged.
    """
    whose = archive.whose()
    if whose is None:
        raise ArchiveError(f"{archive.folder} is not an archive: it has no archive.json")
    for date in sorted({date_of(hour) for hour in range(first, end)}):
        days = [archive.day(date, partition) for partition in range(whose.partitions)]
        within = {hour_of_day(hour) for hour in range(first, end) if date_of(hour) == date}
        for hour in sorted(within):
            yield from (day.hours[hour] for day in days if hour in day.hours)


def export(archive: Archive, first: int, end: int, form: str, key: str | None, to: IO[bytes]) -> int:
    """Writes the rows of a range of hours; returns how many.

    Args:
        key: of this one only.

    Raises:
        ArchiveError: see `hours_of`.
        OSError: it cannot be written.
    """
    arrow = parquet.pyarrow()
    names = [name for name in parquet.schema().names if form == PARQUET or name not in WIDE]
    tables = _tables(archive, first, end, key, names)
    if form == NDJSON:
        return sum(to.write(_lines(table)) and table.num_rows for table in tables)
    with _writer_of(arrow, form, to, names) as writer:
        return sum(_written(writer, table) for table in tables)


def _tables(archive: Archive, first: int, end: int, key: str | None, names: list[str]) -> Iterator[Any]:
    arrow = parquet.pyarrow()
    for hour in hours_of(archive, first, end):
        table = arrow.parquet.read_table(io.BytesIO(archive.content(hour)), columns=names)
        yield table if key is None else table.filter(arrow.compute.equal(table["key"], key))


def _writer_of(arrow: Any, form: str, to: IO[bytes], names: list[str]) -> Any:
    schema = arrow.schema([parquet.schema().field(name) for name in names])
    if form == PARQUET:
        return arrow.parquet.ParquetWriter(to, schema, compression="zstd")
    return arrow.csv.CSVWriter(to, schema)


def _written(writer: Any, table: Any) -> int:
    writer.write_table(table)
    return int(table.num_rows)


def _lines(table: Any) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in table.to_pylist())
