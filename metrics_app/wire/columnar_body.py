"""Reads samples as columns, which the SDK sends: runs of numbered values, one for each key and hour.

Called by `bodies`.

As JSON the values are an array of numbers; as MessagePack also float64 bytes, little-endian, which costs next to
nothing to read. Instead of values a series may have a histogram that stands for them. A series is
kept or rejected as a whole: leaving one value out would make a hole in its numbering.

A histogram in a body: what a sender has instead of values when there are too many of them.

    {"min": 0.5, "max": 80.25, "sum": "<hex>", "squares": "<hex>",
     "zeros": 0, "tiny": 0, "offset": -64, "counts": [1, 0, 2, ...]}

`counts[i]` values lie in (2**((offset+i)/64), 2**((offset+i+1)/64)], the buckets of OTLP's scale 6; `zeros` are 0 and
`tiny` in (0, 2**-20], OTLP's zero bucket together. `sum` and `squares` are the sums of u and of u * u, where u =
floor(value * 2**64), as hexadecimal text: count, sum, min, max, average and stddev stay as exact as they are for
values.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import Annotated, NamedTuple
from uuid import UUID

import numpy as np
from msgspec import Meta, Raw, Struct, json, msgpack
from numpy.typing import NDArray

from metrics_app.errors import UNREADABLE, FormatError, InvalidBodyError
from metrics_app.stats import codec
from metrics_app.stats.exact_sum import Sums
from metrics_app.stats.histogram import Histogram
from metrics_app.stats.scale6 import END_BUCKET, FIRST_BUCKET
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.chunk import COUNT_MAX, FIRST_MAX, VALUE_BYTES, VALUE_MAX, Chunk
from metrics_app.wire.gathering import (
    HOUR_S,
    ITEMS_A_STEP,
    NO_MORE_ROWS,
    BodyParts,
    Steps,
    check_size,
    opening,
    shown,
    too_many,
)
from metrics_app.wire.metric_key import key_bytes
from metrics_app.wire.ownership import FORBIDDEN, forbidden
from metrics_app.wire.packed_columns import array_size, is_bytes, number_bytes

EXPECTED = 'expected {"sender":"<uuid>","series":[{"key","hour","first","values" or "histogram"}]}'

# what a histogram counts as, besides its buckets: tens of thousands of tiny ones would hold the event loop for seconds.
# The client's requests, of at most 50,000 items and 512 KB, stay below the limit with it.
HISTOGRAM_ITEMS = 6

_JSON_FLOATS = json.Decoder(list[float])
_MSGPACK_FLOATS = msgpack.Decoder(list[float])
_JSON_SERIES = json.Decoder(list[Raw])
_MSGPACK_SERIES = msgpack.Decoder(list[Raw])

_ABSENT = Raw()
_HISTOGRAM_BYTES = 64 << 10  # all buckets there are, with the greatest counts, take less in either form

Floats = NDArray[np.float64]


_Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]


class HistogramBody(Struct, forbid_unknown_fields=True):
    """The form in JSON and MessagePack; the module says what the members mean."""

    min: float
    max: float
    sum: Annotated[str, Meta(pattern="^[0-9a-f]{1,48}$")]
    squares: Annotated[str, Meta(pattern="^[0-9a-f]{1,72}$")]
    offset: int = 0
    counts: list[_Count] = []
    zeros: _Count = 0
    tiny: _Count = 0

    @property
    def count(self) -> int:
        """Number of values in it."""
        return self.zeros + self.tiny + sum(self.counts)


def packed(body: HistogramBody) -> bytes:
    """The bytes that travel and are folded.

    Raises:
        ValueError: it is no histogram of any values; the sentence says why.
    """
    if not 0 < body.count <= COUNT_MAX:
        raise ValueError(f"expected 1 to {COUNT_MAX:,} values, got {body.count:,}")
    if body.counts and not FIRST_BUCKET <= body.offset <= body.offset + len(body.counts) <= END_BUCKET:
        raise ValueError(
            f"expected buckets {FIRST_BUCKET} to {END_BUCKET - 1}, got {body.offset} to "
            f"{body.offset + len(body.counts) - 1}"
        )
    histogram = Histogram()
    histogram.zeros, histogram.tiny = body.zeros, body.tiny
    histogram.low, histogram.high = body.min + 0.0, body.max + 0.0  # -0.0 becomes 0.0
    histogram.sums = Sums(int(body.sum, 16), int(body.squares, 16))
    histogram.count_in(body.offset, body.counts)
    encoded = codec.encode(HourlySummary.of_histogram(histogram, body.count))
    try:
        codec.decode(encoded, exact_distinct=0)  # which checks that the members fit each other
    except FormatError as error:
        raise ValueError(f"{error.reason}: the members contradict each other") from None
    return encoded


class Columnar(Struct, forbid_unknown_fields=True):
    """A whole body."""

    series: Raw
    sender: UUID | None = None


class SeriesBody(Struct, forbid_unknown_fields=True):
    """Values of one key and hour; `first` is the number of the first within (sender, key, hour)."""

    key: str
    hour: int
    values: Raw = _ABSENT
    histogram: Raw = _ABSENT
    first: Annotated[int, Meta(ge=0, le=FIRST_MAX)] = 0


class _Run(NamedTuple):
    place: int
    series: SeriesBody
    values: bytes = b""
    histogram: bytes = b""
    weight: int = 0

    @property
    def count(self) -> int:  # type: ignore[override]  # nobody counts the fields of a run
        return self.weight or len(self.values) // VALUE_BYTES


def is_columnar(body: bytes) -> bool:
    """Whether a JSON text is an object with a series in it, and so no sample."""
    if b'"series"' not in body or opening(body) != (False, b"{"):
        return False
    try:
        return "series" in json.decode(body, type=dict[str, Raw])
    except UNREADABLE:
        return False


def read_json(body: bytes, gathering: BodyParts) -> Steps:
    """Gather the series of a JSON text.

    Raises:
        InvalidBodyError: not of that form.
        BodyTooLargeError: more values than the limit.
    """
    check_size(body, gathering)
    return _read(body, _JSON, gathering)


def read_msgpack(body: bytes, gathering: BodyParts) -> Steps:
    """Gather the series of a MessagePack body; raises as `read_json` does."""
    return _read(body, _MSGPACK, gathering)


def _json_values(raw: Raw, gathering: BodyParts) -> bytes:
    values = _JSON_FLOATS.decode(raw)
    gathering.count_in(len(values))
    return pack(f"<{len(values)}d", *values)


def _msgpack_values(raw: Raw, gathering: BodyParts) -> bytes:
    if is_bytes(raw):
        block = number_bytes("values", raw, "<f8")
        gathering.count_in(len(block) // VALUE_BYTES)
        return block
    # counted before they become objects: one byte can be a number, and a number as an object takes 32
    gathering.count_in(array_size(raw))
    values = _MSGPACK_FLOATS.decode(raw)
    return pack(f"<{len(values)}d", *values)


def _json_series(raw: Raw, limit: int) -> list[Raw]:
    series = _JSON_SERIES.decode(raw)  # `check_size` has seen to it that they are not very many
    if len(series) > limit:
        raise too_many(limit)
    return series


def _msgpack_series(raw: Raw, limit: int) -> list[Raw]:
    if array_size(raw) > limit:  # one byte can be a series, and looking at millions takes a minute
        raise too_many(limit)
    return _MSGPACK_SERIES.decode(raw)


class _Form(NamedTuple):
    body: json.Decoder[Columnar] | msgpack.Decoder[Columnar]
    all_series: Callable[[Raw, int], list[Raw]]
    series: json.Decoder[SeriesBody] | msgpack.Decoder[SeriesBody]
    values: Callable[[Raw, BodyParts], bytes]
    histogram: json.Decoder[HistogramBody] | msgpack.Decoder[HistogramBody]


_JSON = _Form(json.Decoder(Columnar), _json_series, json.Decoder(SeriesBody), _json_values, json.Decoder(HistogramBody))
_MSGPACK = _Form(
    msgpack.Decoder(Columnar),
    _msgpack_series,
    msgpack.Decoder(SeriesBody),
    _msgpack_values,
    msgpack.Decoder(HistogramBody),
)


def _read(body: bytes, form: _Form, gathering: BodyParts) -> Steps:
    try:
        columnar = form.body.decode(body)
        all_series = form.all_series(columnar.series, gathering.limits.max_items)
    except UNREADABLE as error:
        raise InvalidBodyError(f"{EXPECTED}: {error}") from None
    sender = gathering.owner.sender(columnar.sender.bytes if columnar.sender else b"")
    runs: list[_Run] = []
    for index, raw in enumerate(all_series):
        if index % ITEMS_A_STEP == ITEMS_A_STEP - 1:
            yield
        if run := _run(index, raw, form, gathering):
            runs.append(run)
    # one look at all values instead of one a series: most series are short, and numpy has a price a call
    block = np.frombuffer(b"".join([run.values for run in runs]), "<f8") + 0.0  # -0.0 becomes 0.0
    checked = not _misfits(block).size
    data, at = block.tobytes(), 0
    for number, run in enumerate(runs, 1):
        if number % ITEMS_A_STEP == 0:
            yield
        end = at + len(run.values)
        series = run.series
        fault = _fault(series, sender, gathering) or (None if checked else _value_fault(run.values))
        if fault:
            gathering.reject(run.place, *fault, values=run.count or 1)
            if fault[0] != "key":
                gathering.pass_over(key_bytes(series.key), series.hour, run.count)
        else:
            key = key_bytes(series.key)
            values = data[at:end]
            gathering.add(Chunk(key, series.hour, values, sender, series.first, b"", run.histogram, run.weight))
        at = end


def _run(index: int, raw: Raw, form: _Form, gathering: BodyParts) -> _Run | None:
    try:
        series = form.series.decode(raw)
        has_values, has_histogram = len(memoryview(series.values)) > 0, len(memoryview(series.histogram)) > 0
        if has_values == has_histogram:
            raise ValueError("expected either values or a histogram")
        if has_values:
            return _Run(index, series, form.values(series.values, gathering))
        body = _histogram(series.histogram, form, gathering)
    except (*UNREADABLE, ValueError) as error:
        gathering.reject(index, "shape", f"series: {error}")
        return None
    try:
        return _Run(index, series, histogram=packed(body), weight=body.count)
    except ValueError as error:
        gathering.reject(index, "histogram", f"histogram: {error}", values=max(1, min(body.count, COUNT_MAX)))
        return None


def _histogram(raw: Raw, form: _Form, gathering: BodyParts) -> HistogramBody:
    if len(memoryview(raw)) > _HISTOGRAM_BYTES:
        raise ValueError(f"histogram: expected at most {_HISTOGRAM_BYTES:,} bytes")
    body = form.histogram.decode(raw)
    gathering.count_in(HISTOGRAM_ITEMS + len(body.counts))  # what it costs, not the values it stands for
    return body


def _fault(series: SeriesBody, sender: bytes, gathering: BodyParts) -> tuple[str, str] | None:
    try:
        key_bytes(series.key)
    except ValueError as error:
        return "key", f"key {shown(series.key)!r}: {error}"
    if not gathering.owner.has(series.key):
        return FORBIDDEN, forbidden(gathering.owner.prefixes)
    oldest, newest = int(gathering.oldest_s // HOUR_S), int(gathering.newest_s // HOUR_S)
    if not oldest <= series.hour <= newest:
        return "hour", f"hour: expected hours since 1970-01-01T00Z from {oldest} to {newest}, got {series.hour}"
    if series.first and not sender:
        return "first", "first: expected a sender with it, whose numbering it is part of"
    return None if gathering.may_keep(key_bytes(series.key), series.hour) else ("keys", NO_MORE_ROWS)


def _value_fault(values: bytes) -> tuple[str, str] | None:
    numbers = np.frombuffer(values, "<f8")
    misfits = _misfits(numbers)
    if not misfits.size:
        return None
    return "value", f"values[{misfits[0]}]: expected a number from 0 to 2^44, got {numbers[misfits[0]]}"


def _misfits(values: Floats) -> NDArray[np.intp]:
    # NaN is neither
    return np.flatnonzero(~((values >= 0) & (values <= VALUE_MAX)))
