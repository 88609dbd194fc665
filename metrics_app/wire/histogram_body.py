"""A histogram in a body: what a sender has instead of values when there are too many of them.

    {"min": 0.5, "max": 80.25, "sum": "<hex>", "squares": "<hex>",
     "zeros": 0, "tiny": 0, "offset": -64, "counts": [1, 0, 2, ...]}

`counts[i]` values lie in (2**((offset+i)/64), 2**((offset+i+1)/64)], the buckets of OTLP's scale 6; `zeros` are 0 and
`tiny` in (0, 2**-20], OTLP's zero bucket together. `sum` and `squares` are the sums of u and of u * u, where
u = floor(value * 2**64), as hexadecimal text: count, sum, min, max, average and stddev stay as exact as they are for
values.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from metrics_app.errors import FormatError
from metrics_app.stats import codec
from metrics_app.stats.exact_sum import Sums
from metrics_app.stats.histogram import Histogram
from metrics_app.stats.scale6 import END_BUCKET, FIRST_BUCKET
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.chunk import COUNT_MAX

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
        """Number of values it stands for."""
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
