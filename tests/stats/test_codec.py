from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metrics_app.errors import FormatError
from metrics_app.stats import codec
from metrics_app.stats.summary import EXACT_DISTINCT, STATS, HourlySummary, value_of

from .datasets import DATASETS, SIZES, VALUE_MAX, dataset

GOLDEN = Path(__file__).parent / "golden"
steps = np.arange(1.0, 1201.0)
GOLDEN_VALUES = {
    "empty": steps[:0],
    "one": np.array([12.5]),
    "exact": np.array([0.0, 0.1, 0.1, 3.0, *[250.0] * 300, VALUE_MAX]),
    "histogram": np.concatenate([np.zeros(300), [2.0**-30], steps * steps / 7.0, [VALUE_MAX]]),
}


def summary_of(values: object, exact_distinct: int = EXACT_DISTINCT) -> HourlySummary:
    summary = HourlySummary(exact_distinct)
    summary.add(np.array(values, dtype=float))
    return summary


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", DATASETS)
def test_decoded_summary_answers_and_goes_on_as_the_one_encoded(name: str, size: int) -> None:
    summary = summary_of(dataset(name, size))
    decoded = codec.decode(codec.encode(summary), EXACT_DISTINCT)

    assert codec.encode(summary) == codec.encode(decoded)
    assert (summary.exact, summary.count) == (decoded.exact, decoded.count)
    assert [value_of(summary, stat) for stat in STATS] == [value_of(decoded, stat) for stat in STATS]
    for more in (dataset("lognormal", 10), dataset("microseconds", 1000)):
        summary.add(more)
        decoded.add(more)
    assert codec.encode(summary) == codec.encode(decoded)


@given(st.lists(st.floats(0.0, VALUE_MAX), max_size=20), st.integers(0, 8))
def test_any_summary_survives_the_round_trip(values: list[float], exact_distinct: int) -> None:
    encoded = codec.encode(summary_of(values, exact_distinct))

    assert encoded == codec.encode(codec.decode(memoryview(encoded), exact_distinct))


@pytest.mark.parametrize("name", GOLDEN_VALUES)
def test_format_is_the_one_that_was_stored_before(name: str) -> None:
    """Rows live for weeks: if this fails, the version goes up, and the old one stays readable."""
    stored = bytes.fromhex((GOLDEN / f"{name}.hex").read_text())

    assert stored == codec.encode(summary_of(GOLDEN_VALUES[name]))
    assert stored == codec.encode(codec.decode(stored, EXACT_DISTINCT))
    assert stored[0] == codec.VERSION


def test_small_rows_are_small() -> None:
    assert len(codec.encode(summary_of([12.5]))) <= 16
    assert len(codec.encode(summary_of([*range(1000), *[7.0] * 70_000]))) <= 12 * 1024
    assert len(codec.encode(summary_of(dataset("lognormal", 100_000)))) <= 2_000


@pytest.mark.parametrize(("times", "width"), [(1, 0), (2, 1), (255, 1), (256, 2), (65_535, 2), (65_536, 4)])
def test_counts_take_the_narrowest_width(times: int, width: int) -> None:
    encoded = codec.encode(summary_of(np.full(times, 1.0)))

    assert len(encoded) == 7 + 8 + width
    assert codec.decode(encoded, EXACT_DISTINCT).count == times


def test_large_counts_survive() -> None:
    summary = summary_of([1.0, 2.0, 3.0])
    for _ in range(60):
        summary.merge(summary)
    wide = codec.decode(codec.encode(summary), 2)

    assert summary.count == wide.count == 3 << 60
    assert not wide.exact
    assert codec.encode(wide) == codec.encode(codec.decode(codec.encode(wide), 2))
    assert (wide.moments.average.value, wide.sum) == (2.0, 6.0 * 2**60)


def test_row_of_more_distinct_values_than_now_allowed_becomes_a_histogram() -> None:
    values = np.arange(1.0, 101.0)
    fewer = codec.decode(codec.encode(summary_of(values)), 99)

    assert not fewer.exact
    assert codec.encode(fewer) == codec.encode(summary_of(values, 99))


def test_histogram_stays_one_when_more_distinct_values_are_allowed() -> None:
    assert not codec.decode(codec.encode(summary_of([1.0, 2.0, 3.0], 2)), 1000).exact


@pytest.mark.parametrize("name", GOLDEN_VALUES)
def test_truncated_bytes_are_refused_wherever_they_end(name: str) -> None:
    encoded = codec.encode(summary_of(GOLDEN_VALUES[name]))
    for end in range(len(encoded)):
        with pytest.raises(FormatError):
            codec.decode(encoded[:end], EXACT_DISTINCT)
    with pytest.raises(FormatError):
        codec.decode(encoded + b"\0", EXACT_DISTINCT)


@pytest.mark.parametrize("name", GOLDEN_VALUES)
def test_flipped_bit_is_refused_or_gives_a_usable_summary(name: str) -> None:
    """There is no checksum at this level: the row around it has one."""
    encoded = codec.encode(summary_of(GOLDEN_VALUES[name]))
    for bit in range(8 * len(encoded)):
        damaged = bytearray(encoded)
        damaged[bit // 8] ^= 1 << bit % 8
        use_if_decoded(bytes(damaged))


@given(st.binary(max_size=200))
@example(bytes([1, 1, 0, 0, 0, 0, 0]) + bytes(95))
@example(bytes([1, 0, 0, 255, 255, 255, 255]))
def test_random_bytes_are_refused_or_give_a_usable_summary(noise: bytes) -> None:
    use_if_decoded(noise)
    use_if_decoded(bytes([codec.VERSION]) + noise)


def use_if_decoded(encoded: bytes) -> None:
    try:
        summary = codec.decode(encoded, EXACT_DISTINCT)
    except FormatError:
        return
    assert summary.exact or encoded[1] == 1
    codec.encode(summary)
    if summary.count:
        for stat in STATS:
            value_of(summary, stat)


def nonsense() -> dict[str, bytes]:
    one = bytearray(codec.encode(summary_of([12.5])))
    twice = bytearray(codec.encode(summary_of([1.0, 2.0, 2.0])))
    wide = bytearray(codec.encode(summary_of([1.0, 2.0, 3.0], 0)))
    zero = codec.encode(summary_of([0.0, 1.0, 8.0], 0))
    double = {name: np.float64(value).tobytes() for name, value in {"nan": np.nan, "inf": np.inf, "-0": -0.0}.items()}
    return {
        "empty": b"",
        "version 0": bytes([0]) + bytes(one[1:]),
        "version 2": bytes([2]) + bytes(one[1:]),
        "kind": bytes(one[:1]) + b"\x07" + bytes(one[2:]),
        "width": bytes(one[:2]) + b"\x03" + bytes(one[3:]) + bytes(3),
        "nan": bytes(one[:7]) + double["nan"],
        "infinity": bytes(one[:7]) + double["inf"],
        "negative zero": bytes(one[:7]) + double["-0"],
        "negative": bytes(one[:7]) + np.float64(-1.0).tobytes(),
        "too great": bytes(one[:7]) + np.float64(2 * VALUE_MAX).tobytes(),
        "order": bytes(twice[:7]) + bytes(twice[15:23]) + bytes(twice[7:15]) + bytes(twice[23:]),
        "equal values": bytes(twice[:7]) + bytes(twice[7:15]) * 2 + bytes(twice[23:]),
        "nan last": bytes(twice[:15]) + double["nan"] + bytes(twice[23:]),
        "count of 0": bytes(twice[:-1]) + b"\0",
        "range": bytes(wide[:7]) + bytes(wide[15:23]) + bytes(wide[7:15]) + bytes(wide[23:]),
        "zeros": bytes(wide[:23]) + b"\x01" + bytes(wide[24:]),
        "tiny": bytes(wide[:31]) + b"\x01" + bytes(wide[32:]),
        "least": bytes(wide[:7]) + np.float64(1.2).tobytes() + bytes(wide[15:]),
        "greatest": bytes(wide[:15]) + np.float64(3.2).tobytes() + bytes(wide[23:]),
        "sum": bytes(wide[:39]) + bytes(24) + bytes(wide[63:]),
        "squares too small": bytes(wide[:63]) + bytes(36) + bytes(wide[99:]),
        "squares too great": bytes(wide[:63]) + b"\xff" * 36 + bytes(wide[99:]),
        "octave": bytes(wide[:99]) + b"\x7f" + bytes(wide[100:]),
        "octave below the first": below_the_first_octave(),
        "counts beyond 63 bits": bytes(one[:2]) + b"\x08" + bytes(one[3:]) + b"\xff" * 8,
        "counts beyond 63 bits together": bytes(twice[:2]) + b"\x08" + bytes(twice[3:23]) + (b"\xff" * 7 + b"\x7f") * 2,
        "zeros beyond 63 bits": bytes(zero[:23]) + b"\xff" * 8 + bytes(zero[31:]),
        "a bucket more": bytes(wide[:-1]) + bytes([wide[-1] | 1]),
    }


def below_the_first_octave() -> bytes:
    """The bucket of 2**-20 * 1.5 moved an octave down; the zero is still the least value."""
    encoded = codec.encode(summary_of([0.0, 1.5 * 2.0**-20, 8.0], 0))
    first, octaves = np.frombuffer(encoded[99:101], "i1").tolist()
    bits = encoded[101 : 101 + 8 * octaves]
    moved = np.array([first - 1, octaves + 1], "i1").tobytes() + bits[:8] + bytes(8) + bits[8:]
    return encoded[:99] + moved + encoded[101 + 8 * octaves :]


@pytest.mark.parametrize("name", nonsense())
def test_nonsense_is_refused(name: str) -> None:
    with pytest.raises(FormatError, match="summary"):
        codec.decode(nonsense()[name], EXACT_DISTINCT)
