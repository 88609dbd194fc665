"""Bodies that are Arrow IPC streams: what is in them is kept as in MessagePack, and what is malformed is told."""

from __future__ import annotations

import sys
import uuid
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_app.errors import BodyTooLargeError, InvalidBodyError, UnsupportedTypeError
from metrics_app.wire import arrow_table
from metrics_app.wire.bodies import ARROW, BodyLimits, Parsed, parse
from tests.wire.test_sample_table import (
    HOUR,
    HOUR_START,
    LIMITS,
    NOW_S,
    SENDER,
    as_json,
    chunk,
    samples,
    told,
)

UTC_US = pa.timestamp("us", tz="UTC")


def stream(
    columns: dict[str, Any] | pa.Table, rows_a_batch: int | None = None, compression: str | None = None
) -> bytes:
    table = pa.table(columns) if isinstance(columns, dict) else columns
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=rows_a_batch)
    return bytes(out.getvalue().to_pybytes())


def read(body: bytes, limits: BodyLimits = LIMITS, request_id: bytes = b"") -> Parsed:
    return parse(body, ARROW, NOW_S, limits, request_id)


@pytest.mark.parametrize(
    "key",
    [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.string())],
)
@pytest.mark.parametrize("value", [pa.float64(), pa.float32(), pa.int32(), pa.uint64()])
@pytest.mark.parametrize("rows_a_batch", [None, 1])
def test_keys_and_values_of_every_usual_type_are_taken(key: pa.DataType, value: pa.DataType, rows_a_batch: Any) -> None:
    body = stream({"key": pa.array(["b", "größe", "b"], key), "value": pa.array([1, 2, 3], value)}, rows_a_batch)
    assert read(body).chunks == [chunk("b", 1.0, 3.0), chunk("größe", 2.0)]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([datetime(2026, 11, 23, 19, 59, 59, 999_999, tzinfo=UTC), None], UTC_US),
        pa.array([(HOUR_START - 1) * 10**9, None], pa.int64()).cast(pa.timestamp("ns", tz="Europe/Berlin")),
        pa.array([HOUR_START - 1, None], pa.float64()),
        pa.array([HOUR_START - 1, None], pa.int64()),
    ],
    ids=["us", "ns", "float", "int"],
)
def test_a_timestamp_puts_a_row_into_its_hour_and_a_null_into_the_hour_of_arrival(column: pa.Array) -> None:
    parsed = read(stream({"key": ["a", "a"], "value": [1.0, 2.0], "timestamp": column}))
    assert parsed.chunks == [chunk("a", 1.0, hour=HOUR - 1), chunk("a", 2.0)]


def test_the_last_nanosecond_of_an_hour_is_not_rounded_into_the_next_one() -> None:
    ticks = pa.array([int(HOUR_START) * 10**9 - 1]).cast(pa.timestamp("ns", tz="UTC"))
    assert read(stream({"key": ["a"], "value": [1.0], "timestamp": ticks})).chunks[0].hour == HOUR - 1


def test_numbers_have_their_sender_in_the_metadata_of_the_schema() -> None:
    columns = {"key": ["a", "a"], "value": [1.0, 2.0], "timestamp": [HOUR_START] * 2, "number": [7, 8]}
    table = pa.table(columns).replace_schema_metadata({"sender": str(SENDER)})
    assert read(stream(table)).chunks == [chunk("a", 1.0, 2.0, sender=SENDER.bytes, first=7)]
    with pytest.raises(InvalidBodyError, match="expected a sender and numbers, or neither"):
        read(stream(columns))
    with pytest.raises(InvalidBodyError, match="sender: expected a UUID in the metadata"):
        read(stream(table.replace_schema_metadata({"sender": "me"})))


def test_what_polars_writes_for_others_is_taken() -> None:
    body = polars.DataFrame({"key": ["a", "b"], "value": [1.0, 2.0]}).write_ipc_stream(
        None, compat_level=polars.CompatLevel.oldest()
    )
    assert read(body.getvalue()).accepted == 2


def test_a_stream_without_a_row_is_taken() -> None:
    assert read(stream({"key": pa.array([], pa.string()), "value": pa.array([], pa.float64())})).accepted == 0
    key = pa.array([], pa.dictionary(pa.int32(), pa.string()))
    assert read(stream({"key": key, "value": pa.array([], pa.float64())})).accepted == 0


def test_a_row_without_a_value_is_rejected_alone() -> None:
    parsed = read(stream({"key": ["a", "a", "\n"], "value": [1.0, None, 2.0]}))
    assert parsed.chunks == [chunk("a", 1.0)]
    assert told(parsed)[0] == (1, "value", "value: expected a number from 0 to 2^44, got nan")
    assert [(index, reason) for index, reason, _ in told(parsed)] == [(1, "value"), (2, "key")]


GOOD: dict[str, Any] = {"key": ["a", "b"], "value": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("columns", "detail"),
    [
        ({"key": ["a"]}, "column 'value' is missing"),
        ({"value": [1.0]}, "column 'key' is missing"),
        (GOOD | {"more": [1, 2]}, "column 'more': expected each of key, value, timestamp, id, number at most once"),
        (GOOD | {"key": [1, 2]}, "key: expected string or large_string, got int64"),
        (GOOD | {"key": ["a", None]}, "key: expected no nulls"),
        (GOOD | {"key": pa.array([1, 2]).dictionary_encode()}, "key: expected string or large_string, got dictionary"),
        (
            GOOD | {"key": pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", "a"]))},
            "keys: expected each once, got 'a' again",
        ),
        (
            GOOD | {"key": pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None]))},
            "key: expected no nulls",
        ),
        (
            GOOD | {"key": pa.array(["a", "b"], pa.string_view())},
            "key: expected string or large_string, got string_view",
        ),
        (GOOD | {"value": ["1", "2"]}, "value: expected numbers, got string"),
        (GOOD | {"value": [True, False]}, "value: expected numbers, got bool"),
        (GOOD | {"value": [[1.0], [2.0]]}, "value: expected numbers, got list"),
        (GOOD | {"timestamp": pa.array([1, 2]).cast(pa.timestamp("s"))}, "timestamp: expected one with a time zone"),
        (GOOD | {"timestamp": ["now", "now"]}, "timestamp: expected numbers, got string"),
        (GOOD | {"id": [1, 2]}, "id: expected string or large_string, got int64"),
        (GOOD | {"number": [1.0, 2.0]}, "number: expected whole numbers without nulls, got double"),
        (GOOD | {"number": [1, None]}, "number: expected whole numbers without nulls"),
    ],
)
def test_a_stream_of_other_columns_is_refused_as_a_whole_and_they_are_named(columns: Any, detail: str) -> None:
    with pytest.raises(InvalidBodyError, match=detail):
        read(stream(columns))


def test_a_column_twice_is_refused() -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array([1.0]), pa.array([2.0])], ["key", "value", "value"])
    with pytest.raises(InvalidBodyError, match="'value': expected each"):
        read(stream(table))


WHOLE = stream(GOOD, rows_a_batch=1)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (WHOLE[:-1], "the stream is cut short"),
        (WHOLE[:-8], "the stream is cut short"),
        (WHOLE[:200] + arrow_table.END, "expected an Arrow IPC stream"),
        (WHOLE + WHOLE, "something follows the stream"),
        (b'["a",1]', "the stream is cut short"),
        (b"x" * 100 + arrow_table.END, "expected an Arrow IPC stream"),
        (arrow_table.END, "expected an Arrow IPC stream"),
    ],
)
def test_what_is_no_whole_stream_is_refused(body: bytes, detail: str) -> None:
    with pytest.raises(InvalidBodyError, match=detail):
        read(body)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
@pytest.mark.parametrize("where", ["key", "value"])
def test_compressed_buffers_which_may_be_a_bomb_are_refused_before_they_are_read(compression: str, where: str) -> None:
    columns = {"key": ["a"] * 900, "value": np.zeros(900)}
    if where == "key":
        columns["key"] = pa.DictionaryArray.from_arrays(pa.array([0] * 900), pa.array(["a" * 200, "b" * 200]))
    body = stream(columns, compression=compression)
    before = pa.default_memory_pool().bytes_allocated()
    with pytest.raises(InvalidBodyError, match="buffers are compressed; send them as they are"):
        read(body)
    assert pa.default_memory_pool().bytes_allocated() - before < len(body)


def test_more_rows_or_keys_than_the_limit_are_refused_before_they_become_objects() -> None:
    def of(rows: int, keys: int) -> bytes:
        places = pa.array(np.arange(rows) % keys)
        names = pa.array([f"{i}" for i in range(keys)])
        return stream({"key": pa.DictionaryArray.from_arrays(places, names), "value": np.zeros(rows)})

    assert read(of(1000, 1000)).accepted == 1000
    for rows, keys in ((1001, 1), (1, 1001)):
        with pytest.raises(BodyTooLargeError, match="samples"):
            read(of(rows, keys))
    nothing = pa.RecordBatch.from_arrays([pa.nulls(10**6), pa.nulls(10**6)], ["key", "value"])  # takes no byte
    with pytest.raises(BodyTooLargeError, match="samples"):
        read(stream(pa.Table.from_batches([nothing])))


def test_without_the_library_the_type_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    arrow_table.library.cache_clear()
    try:
        with pytest.raises(UnsupportedTypeError, match=r"lacks pyarrow \(metrics-app\[arrow\]\)"):
            read(WHOLE)
    finally:
        arrow_table.library.cache_clear()


@settings(deadline=None)
@given(samples, st.sampled_from([b"", b"request"]), st.sampled_from([None, 1, 3]))
def test_a_stream_is_kept_as_its_rows_are_in_json(
    given_samples: list[tuple[Any, ...]], request_id: bytes, rows_a_batch: int | None
) -> None:
    names, measured, times, texts = map(list, zip(*given_samples, strict=True))
    columns = {
        "key": pa.array(names, pa.string()),
        "value": pa.array(measured, pa.float64()),
        "timestamp": pa.array(times, pa.float64()),
        "id": pa.array(texts, pa.string()),
    }
    ours = read(stream(columns, rows_a_batch), request_id=request_id)
    theirs = as_json(given_samples, request_id)
    assert (ours.accepted, [each.index for each in ours.rejected]) == (
        theirs.accepted,
        [each.index for each in theirs.rejected],
    )
    assert sorted(ours.chunks) == sorted(theirs.chunks)


NUMBERED = pa.table(GOOD | {"timestamp": [HOUR_START] * 2, "number": [0, 1]})
WITH_ALL = stream(NUMBERED.replace_schema_metadata({"sender": str(uuid.UUID(int=7))}))
ENCODED = stream(GOOD | {"key": pa.array(["a", "b"]).dictionary_encode()})


@settings(deadline=None)
@given(st.sampled_from([WHOLE, WITH_ALL, ENCODED]), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255))))
def test_a_stream_with_damage_anywhere_is_taken_or_refused_but_never_breaks(
    body: bytes, damage: list[tuple[int, int]]
) -> None:
    damaged = bytearray(body)
    for at, byte in damage:
        damaged[at % (len(body) - 8)] = byte
    try:
        parsed = read(bytes(damaged))
    except InvalidBodyError:
        return
    assert parsed.received == parsed.accepted + parsed.reasons.total()
