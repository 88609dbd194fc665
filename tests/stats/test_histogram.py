from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.stats.histogram import (
    ERROR_BOUND,
    FIRST_OCTAVE,
    LAST_OCTAVE,
    PER_OCTAVE,
    ZERO_MAX,
    Histogram,
    bounds,
    buckets_of,
)

from .datasets import VALUE_MAX

FIRST, LAST = FIRST_OCTAVE * PER_OCTAVE, (LAST_OCTAVE + 1) * PER_OCTAVE - 1
in_buckets = st.floats(ZERO_MAX, VALUE_MAX, exclude_min=True)


def bucket_of(value: float) -> int:
    return int(buckets_of(np.array([value]))[0])


@given(in_buckets)
def test_bucket_is_the_one_of_the_definition(value: float) -> None:
    """2**(i/64) < value <= 2**((i+1)/64), in rational arithmetic."""
    bucket = bucket_of(value)

    assert Fraction(2) ** bucket < Fraction(value) ** 64 <= Fraction(2) ** (bucket + 1)


def test_every_bound_separates_exactly() -> None:
    """On each of the 4,096 upper bounds, and one ulp above it."""
    for bucket in range(FIRST, LAST + 1):
        lower, upper = bounds(bucket)
        inside = np.array([math.nextafter(lower, math.inf), upper])
        assert [bucket, bucket] == buckets_of(inside).tolist()
        assert Fraction(upper) ** 64 <= Fraction(2) ** (bucket + 1) < Fraction(math.nextafter(upper, math.inf)) ** 64


def test_powers_of_two_end_a_bucket() -> None:
    assert buckets_of(np.array([1.0, 2.0, VALUE_MAX])).tolist() == [-1, PER_OCTAVE - 1, LAST]
    assert bounds(FIRST)[0] == ZERO_MAX
    assert bounds(LAST)[1] == VALUE_MAX


@given(in_buckets)
def test_estimate_is_within_the_bound_of_everything_in_its_bucket(value: float) -> None:
    histogram = histogram_of([ZERO_MAX / 2, value, VALUE_MAX])
    ranked = histogram.ranked(1, 3)

    assert ranked.lo <= value <= ranked.hi
    assert abs(ranked.estimate - value) <= ERROR_BOUND * value


def test_bound_is_that_of_scale_6_rounded_up() -> None:
    base = 2 ** (1 / 64)

    assert (base - 1) / (base + 1) < ERROR_BOUND < 1.001 * (base - 1) / (base + 1)


def test_zeros_and_what_is_too_small_for_a_bucket_are_counted_apart() -> None:
    histogram = histogram_of([0.0, -0.0, 5e-324, ZERO_MAX, math.nextafter(ZERO_MAX, 1.0), 3.0])

    assert (histogram.zeros, histogram.tiny, int(histogram.counts.sum())) == (2, 2, 2)
    assert math.copysign(1.0, histogram.low) == 1.0
    assert histogram.ranked(1, 6) == (0.0, 0.0, 0.0, 0.0)
    assert histogram.ranked(2, 6) == (0.0, 0.0, ZERO_MAX, 1.0)


def test_zero_threshold_belongs_to_the_zero_bucket() -> None:
    histogram = histogram_of([ZERO_MAX, 1.0])

    assert (histogram.zeros, histogram.tiny, int(histogram.counts.sum())) == (0, 1, 1)


def test_ends_are_exact() -> None:
    histogram = histogram_of([1.001, 5.0, 77.7])

    assert histogram.ranked(0, 3) == (1.001, 1.001, 1.001, 0.0)
    assert histogram.ranked(2, 3) == (77.7, 77.7, 77.7, 0.0)


def test_room_grows_both_ways_and_keeps_what_is_there() -> None:
    values = [100.0, 1.5, 1e9, 1e-4, 100.0]
    histogram = Histogram()
    for value in values:
        histogram.add(np.array([value]))

    counted = {histogram.offset + int(at): int(histogram.counts[at]) for at in np.flatnonzero(histogram.counts)}
    assert counted == {bucket_of(100.0): 2, bucket_of(1.5): 1, bucket_of(1e9): 1, bucket_of(1e-4): 1}
    assert histogram.offset % PER_OCTAVE == len(histogram.counts) % PER_OCTAVE == 0


@given(st.dictionaries(st.floats(0.0, VALUE_MAX), st.integers(1, 9), min_size=1, max_size=20))
def test_counted_values_are_repeated_values(counts: dict[float, int]) -> None:
    values = np.array(sorted(counts)) + 0.0
    times = np.array([counts[value] for value in values.tolist()])
    counted, repeated = Histogram(), Histogram()
    counted.add_counts(values, times)
    repeated.add(np.repeat(values, times))

    assert state(counted) == state(repeated)


def histogram_of(values: list[float]) -> Histogram:
    histogram = Histogram()
    histogram.add(np.array(values))
    return histogram


def state(histogram: Histogram) -> tuple[object, ...]:
    return (
        histogram.zeros,
        histogram.tiny,
        histogram.low,
        histogram.high,
        histogram.sums,
        histogram.offset,
        histogram.counts.tolist(),
    )
