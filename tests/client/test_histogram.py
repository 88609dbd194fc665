"""The client's histogram is the one that the aggregator would have made of the same values."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from metrics_app.client import buffer
from metrics_app.client.gathering import BUCKET_BYTES, SentHistogram
from metrics_app.settings import Settings
from metrics_app.stats import codec
from metrics_app.stats.scale6 import END_BUCKET, FIRST_BUCKET, ZERO_MAX, bound
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.chunk import VALUE_MAX
from metrics_app.wire.columnar_body import HISTOGRAM_ITEMS, HistogramBody, packed

EDGES = [0.0, ZERO_MAX, VALUE_MAX, *(bound(bucket) for bucket in range(FIRST_BUCKET, END_BUCKET + 1, 37))]
values = st.floats(0, VALUE_MAX) | st.sampled_from(EDGES) | st.floats(0.1, 10_000) | st.integers(0, 2**44)


def bytes_of(histogram: SentHistogram) -> bytes:
    return packed(msgpack.decode(msgpack.encode(histogram.body()), type=HistogramBody))


@given(st.lists(st.lists(values, min_size=1, max_size=40), min_size=1, max_size=4))
def test_it_arrives_as_the_bytes_of_a_summary_of_the_same_values(parts: list[list[float]]) -> None:
    histogram, summary = SentHistogram(), HourlySummary(exact_distinct=0)
    for part in parts:
        histogram.add(part)
        summary.add(np.array(part, float))
    assert bytes_of(histogram) == codec.encode(summary)


def test_every_bound_belongs_to_the_bucket_below_it_and_the_next_value_does_not() -> None:
    bounds = np.array([bound(bucket) for bucket in range(FIRST_BUCKET, END_BUCKET)])
    for numbers in (bounds, np.nextafter(bounds, np.inf), np.nextafter(bounds, 0)):
        histogram, summary = SentHistogram(), HourlySummary(exact_distinct=0)
        histogram.add(numbers.tolist())
        summary.add(numbers)
        assert bytes_of(histogram) == codec.encode(summary)


def test_the_fullest_request_of_histograms_stays_below_what_a_collector_takes() -> None:
    most = buffer.MAX_BODY_BYTES // (buffer.SERIES_BYTES + len("k") + BUCKET_BYTES)
    limit = Settings.model_fields["max_items"].default
    assert buffer.MAX_ITEMS + most * HISTOGRAM_ITEMS <= limit
