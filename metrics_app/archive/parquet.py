"""The Parquet file of one hour of one partition: columns that any tool reads, and the rows as they are stored.

Called by `keeping` and `exporting`; needs pyarrow, which is imported when a file is written or read.

The column `row` is the row byte for byte (`aggregator/row.py`), from which every answer can be given again, to the last
bit. The other columns are for tools; those of values are null in a row that has counted none. The file of the same rows
is the same, byte for byte, with the same pyarrow.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from metrics_app.aggregator import row as rows
from metrics_app.archive.manifest import HOUR_S
from metrics_app.errors import ArchiveError, SettingsError
from metrics_app.stats.summary import EXACT_DISTINCT, HourlySummary, value_of

QUANTILES = {"p50": "median", "p90": "p90", "p95": "p95", "p99": "p99", "p99_9": "p99.9"}  # column: statistic


def pyarrow() -> Any:
    """The module pyarrow, with its parts that are used.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        import pyarrow as arrow
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        raise SettingsError(["the archive needs pyarrow: pip install 'metrics-app[server,arrow]'"]) from None
    return arrow


def schema() -> Any:
    """Names and types of the columns."""
    arrow = pyarrow()
    moment, number, value = arrow.timestamp("ms", tz="UTC"), arrow.uint64(), arrow.float64()
    bucket = arrow.struct([("gt", value), ("le", value), ("count", number)])
    columns = {
        "key": arrow.string(),
        "start": moment,
        "end": moment,
        "partition": arrow.int32(),
        "version": arrow.int32(),
        "count": number,
        "sum": value,
        "min": value,
        "max": value,
        **dict.fromkeys(QUANTILES, value),
        "exact": arrow.bool_(),
        "zero_count": number,
        "buckets": arrow.list_(bucket),
        "late": number,
        "missing": number,
        "duplicates": number,
        "incomplete": arrow.bool_(),
        "as_of": moment,
        "lost_records": number,
        "row": arrow.binary(),
    }
    return arrow.schema(list(columns.items()))


def encoded(hour: int, content: Mapping[bytes, bytes], common: Mapping[str, Any]) -> bytes:
    """The file of an hour.

    Args:
        content: encoded rows by metric key.
        common: values of the columns that are the same in each row: partition, version, as_of, lost_records.
    """
    arrow = pyarrow()
    times = {"start": _moment(hour * HOUR_S), "end": _moment((hour + 1) * HOUR_S)}
    same = {**times, **common, "as_of": _moment(common["as_of"])}
    table = arrow.Table.from_pylist([_line(key, content[key]) | same for key in sorted(content)], schema())
    to = io.BytesIO()
    arrow.parquet.write_table(table, to, compression="zstd")
    return to.getvalue()


def decoded(content: bytes, name: str) -> dict[bytes, bytes]:
    """Encoded rows by metric key, of a file.

    Raises:
        ArchiveError: it is no such file.
    """
    arrow = pyarrow()
    try:
        table = arrow.parquet.read_table(io.BytesIO(content), columns=["key", "row"])
    except (arrow.ArrowException, OSError) as error:
        raise ArchiveError(f"{name} is damaged ({error}): put it back from a copy") from error
    keys = (key.encode() for key in table["key"].to_pylist())
    return dict(zip(keys, table["row"].to_pylist(), strict=True))


def _moment(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)


def _line(key: bytes, value: bytes) -> dict[str, Any]:
    row = rows.decode_row(value, EXACT_DISTINCT)
    return {
        "key": key.decode(),
        "count": row.count,
        **(_statistics(row.summary) if row.count else {}),
        "late": row.late,
        "missing": row.missing,
        "duplicates": row.duplicates,
        "incomplete": row.incomplete,
        "row": value,
    }


def _statistics(summary: HourlySummary) -> dict[str, Any]:
    buckets = summary.scale6_buckets()
    return {
        "sum": value_of(summary, "sum").value,
        "min": summary.min,
        "max": summary.max,
        **{name: value_of(summary, stat).value for name, stat in QUANTILES.items()},
        "exact": summary.exact,
        "zero_count": buckets.zero_count,
        "buckets": [{"gt": gt, "le": le, "count": number} for gt, le, number in buckets.listed],
    }
