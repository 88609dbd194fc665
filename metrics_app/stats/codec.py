"""Encodes an HourlySummary, little-endian; the same values give the same bytes, in whatever order they were added.

Called by `aggregator` and `wire`.

    head         version, kind, width, number of entries
    exact        the distinct values ascending, float64 each; how often each was added, `width` bytes each
    histogram    low, high, zeros, tiny, sums; first octave, octaves; a bit per bucket; the counts that are not 0

A width of 0 stands for counts that are all 1. There is no checksum: the row that a summary lies in has one. Any bytes
give either a summary or a FormatError, so a flipped bit may go unnoticed here, but raises nothing else.
"""

from __future__ import annotations

import math
import struct
from operator import lt

import numpy as np

from metrics_app.errors import FormatError, other_version
from metrics_app.stats.exact_sum import Sums, units_of
from metrics_app.stats.histogram import Histogram, buckets_of
from metrics_app.stats.scale6 import FIRST_OCTAVE, LAST_OCTAVE, PER_OCTAVE, ZERO_MAX
from metrics_app.stats.summary import HourlySummary

VERSION = 1

EXACT = 0
_HISTOGRAM = 1
_VALUE_MAX = 2.0**44
_COUNT_MAX = 2**63 - 1
_HEAD = struct.Struct("<BBBI")
_VALUE = struct.Struct("<d")
_MOMENTS = struct.Struct("<ddQQ24s36sbB")  # the sums have room for 2**63 values of 2**44
_UNITS_BYTES = 24
_SQUARES_BYTES = 36
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


def encode(summary: HourlySummary) -> bytes:
    """Bytes of a summary: 15 for one value, 7 + 8 to 16 a distinct value, 1 to 2 KB for a usual histogram."""
    if (histogram := summary.histogram) is not None:
        return _encode_histogram(histogram)
    assert summary.distinct is not None
    values, times = summary.distinct
    width = _width(times)
    return (
        _HEAD.pack(VERSION, EXACT, width, len(values)) + struct.pack(f"<{len(values)}d", *values) + _pack(times, width)
    )


def decode(buffer: bytes | memoryview, exact_distinct: int) -> HourlySummary:
    """The summary of encoded bytes.

    A row of more distinct values than `exact_distinct` becomes a histogram; a histogram stays one.

    Raises:
        NewerFormatError: a newer release has written it.
        FormatError: another version, truncated, or contradicting itself.
    """
    try:
        version, kind, width, entries = _HEAD.unpack_from(buffer)
        if version != VERSION:
            raise other_version("summary", version, VERSION)
        body = memoryview(buffer)[_HEAD.size :]
        if kind == EXACT:
            return _decode_exact(body, width, entries, exact_distinct)
        if kind == _HISTOGRAM:
            return _decode_histogram(body, width, entries, exact_distinct)
    except struct.error as error:
        raise FormatError("summary", str(error)) from error
    raise FormatError("summary", f"kind {kind}")


def glance(buffer: bytes | memoryview, q: float) -> tuple[int, float]:
    """How many values encoded bytes hold, and a bound that their quantile `q` is not above; without decoding them.

    Also of several summaries together: their quantile is not above the greatest of their bounds.

    Args:
        buffer: what `decode` takes; of other bytes anything may come out.
        q: 0.0 to 1.0.

    Raises:
        FormatError: truncated.
    """
    try:
        _, kind, width, entries = _HEAD.unpack_from(buffer)
        if kind == EXACT and not width:
            at = min(entries - 1, int(q * (entries - 1)) + 1) if q < 1.0 else entries - 1
            return entries, _VALUE.unpack_from(buffer, _HEAD.size + 8 * at)[0] if entries else 0.0
        times = struct.unpack_from(f"<{entries}{_CODES[width]}", buffer, len(buffer) - width * entries) if width else ()
        if kind == EXACT:
            return sum(times), _VALUE.unpack_from(buffer, _HEAD.size + 8 * (entries - 1))[0]
        _, high, zeros, tiny, *_ = _MOMENTS.unpack_from(buffer, _HEAD.size)
        return zeros + tiny + (sum(times) if width else entries), high
    except (struct.error, KeyError) as error:
        raise FormatError("summary", str(error)) from error


def _decode_exact(body: memoryview, width: int, entries: int, exact_distinct: int) -> HourlySummary:
    _require(len(body) == (8 + width) * entries, "length")
    values = list(struct.unpack_from(f"<{entries}d", body))
    times = _unpack(body[8 * entries :], width, entries)
    if values:
        # no NaN passes either of these, and -0.0 has a sign
        _require(math.copysign(1.0, values[0]) > 0 and values[-1] <= _VALUE_MAX, "range of values")
        _require(all(map(lt, values, values[1:])), "order of values")
    return HourlySummary.of_counts(values, times, exact_distinct)


def _encode_histogram(histogram: Histogram) -> bytes:
    used = np.flatnonzero(histogram.counts)
    first, end = (int(used[0]) // PER_OCTAVE, int(used[-1]) // PER_OCTAVE + 1) if len(used) else (0, 0)
    times = histogram.counts[used].tolist()
    width = _width(times)
    moments = _MOMENTS.pack(
        histogram.low,
        histogram.high,
        histogram.zeros,
        histogram.tiny,
        histogram.sums.units.to_bytes(_UNITS_BYTES, "little"),
        histogram.sums.squares.to_bytes(_SQUARES_BYTES, "little"),
        histogram.offset // PER_OCTAVE + first,
        end - first,
    )
    bits = np.packbits(histogram.counts[first * PER_OCTAVE : end * PER_OCTAVE] > 0, bitorder="little")
    return _HEAD.pack(VERSION, _HISTOGRAM, width, len(times)) + moments + bits.tobytes() + _pack(times, width)


def _decode_histogram(body: memoryview, width: int, entries: int, exact_distinct: int) -> HourlySummary:
    low, high, zeros, tiny, units, squares, first, octaves = _MOMENTS.unpack_from(body)
    bits_end = _MOMENTS.size + octaves * PER_OCTAVE // 8
    _require(len(body) == bits_end + width * entries, "length")
    _require(octaves == 0 or FIRST_OCTAVE <= first <= first + octaves - 1 <= LAST_OCTAVE, "octaves")
    bits = np.frombuffer(body[_MOMENTS.size : bits_end], np.uint8)
    used = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
    _require(len(used) == entries, "number of buckets")
    times = _unpack(body[bits_end:], width, entries)
    histogram = Histogram()
    histogram.zeros, histogram.tiny, histogram.low, histogram.high = zeros, tiny, low, high
    histogram.sums = Sums(int.from_bytes(units, "little"), int.from_bytes(squares, "little"))
    histogram.offset = first * PER_OCTAVE
    histogram.counts = np.zeros(octaves * PER_OCTAVE, np.int64)
    histogram.counts[used] = times
    count = zeros + tiny + sum(times)
    _require(0 < count <= _COUNT_MAX, "count")
    _check(histogram, count)
    return HourlySummary.of_histogram(histogram, count, exact_distinct)


def _check(histogram: Histogram, count: int) -> None:
    low, high, units, squares = histogram.low, histogram.high, histogram.sums.units, histogram.sums.squares
    _require(low <= high <= _VALUE_MAX and math.copysign(1.0, low) > 0, "range")
    _require((histogram.zeros > 0) == (low == 0.0), "zeros")
    _require((histogram.zeros + histogram.tiny > 0) == (low <= ZERO_MAX), "least value")
    used = np.flatnonzero(histogram.counts) + histogram.offset
    _require((len(used) > 0) == (high > ZERO_MAX), "greatest value")
    if low > ZERO_MAX:
        _require(buckets_of(np.array([low]))[0] == used[0], "least bucket")
    if high > ZERO_MAX:
        _require(buckets_of(np.array([high]))[0] == used[-1], "greatest bucket")
    _require(units_of(low) * count <= units <= units_of(high) * count, "sum")
    _require(units * units <= squares * count <= (units_of(high) * count) ** 2, "sum of squares")


def _width(times: list[int]) -> int:
    most = max(times, default=1)
    return 0 if most == 1 else next(width for width in _CODES if most < 1 << 8 * width)


def _pack(times: list[int], width: int) -> bytes:
    return struct.pack(f"<{len(times)}{_CODES[width]}", *times) if width else b""


def _unpack(column: memoryview, width: int, entries: int) -> list[int]:
    if not width:
        return [1] * entries
    _require(width in _CODES, "width")
    times = list(struct.unpack(f"<{entries}{_CODES[width]}", column))
    _require(min(times, default=1) > 0, "a count of 0")
    _require(sum(times) <= _COUNT_MAX, "counts")
    return times


def _require(holds: bool | np.bool, what: str) -> None:
    if not holds:
        raise FormatError("summary", f"impossible {what}")
