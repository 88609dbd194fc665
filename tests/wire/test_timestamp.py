"""A value lies in the hour that its timestamp says, in whatever form it comes; the oracle is `decimal`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_FLOOR, Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metrics_app.wire.bodies import BodyLimits, parse

START = 1_795_647_600  # 2026-11-25T23:00:00Z
HOUR = START // 3600
LIMITS = BodyLimits(max_items=1000, max_ahead_s=300, retention_s=31 * 86_400, chunk_values=100)
NDJSON = "application/x-ndjson"
FORMS = {
    "object": ('{"key":"a","timestamp":AT,"value":1}', ""),
    "pair": ('["a",1,AT]', ""),
    "pairs": ('[["b",1],["a",1,AT]]', ""),
    "objects": ('[{"key":"b","value":1},{"key":"a","value":1,"timestamp":AT}]', ""),
    "objects and pairs": ('[{"key":"b","value":1},["a",1,AT]]', ""),
    "given twice": ('{"key":"a","timestamp":1795640000,"value":1,"t\\u0069mestamp":AT}', ""),
    "lines": ('["b",1]\n\n["a",1,AT]', NDJSON),
    "lines of both": ('{"key":"b","value":1}\n["a",1,AT]', NDJSON),
}


def hour_of(timestamp: str, form: str) -> int:
    body, content_type = FORMS[form]
    parsed = parse(body.replace("AT", timestamp).encode(), content_type, START + 60.0, LIMITS)
    assert not parsed.rejected
    (hour,) = (chunk.hour for chunk in parsed.chunks if chunk.key == b"a")
    return hour


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("timestamp", "hour"),
    [
        ("1795647599.99999989", HOUR - 1),  # whose float64 is that of the hour
        ("1795647599.9999999999999999999999", HOUR - 1),
        ("17956475999999999e-7", HOUR - 1),
        ("1.79564759999999989E9", HOUR - 1),
        ("1795647600", HOUR),
        ("1795647600.0", HOUR),
        ("1.7956476e9", HOUR),
        ("1795647600.00000000001", HOUR),
        ('"2026-11-25T22:59:59.9999999Z"', HOUR - 1),
        ('"2026-11-25T22:59:59.999999999999999999Z"', HOUR - 1),
        ('"2026-11-25T22:59:59.9999995z"', HOUR - 1),
        ('"2026-11-25 22:59:59.9999999Z"', HOUR - 1),
        ('"2026-11-25T23:59:59.9999999+01:00"', HOUR - 1),
        ('"2026-11-26T04:29:59.9999999+05:30"', HOUR - 1),
        ('"2026-11-25T22:59:59\\u002e9999999Z"', HOUR - 1),
        ('"2026-11-25T23:00:00Z"', HOUR),
        ('"2026-11-25T23:00:00.0000001Z"', HOUR),
        ('"2026-11-26T04:30:00.00+05:30"', HOUR),
        ('"2026-11-24T23:59:59.999999999Z"', HOUR - 24),  # not the next day's
    ],
)
def test_an_hour_is_not_found_by_rounding(timestamp: str, hour: int, form: str) -> None:
    assert hour_of(timestamp, form) == hour


@pytest.mark.parametrize("timestamp", ["0", "-0", "0e-99999999999999999999", "0e99999999999999999999", "1e-9999999999"])
def test_the_first_moment_is_no_special_case(timestamp: str) -> None:
    parsed = parse(f'["a",1,{timestamp}]'.encode(), "", START + 60.0, LIMITS)
    assert [each.reason for each in parsed.rejected] == ["timestamp"]


moments = st.tuples(st.integers(-40, 0), st.integers(-2, 2), st.decimals("-1", "1", places=20, allow_nan=False))


@given(moments, st.sampled_from(sorted(FORMS)), st.sampled_from(["{:f}", "{:E}", "{:e}"]))
@example((0, 0, Decimal("-1e-20")), "pairs", "{:f}")
def test_seconds_are_floored_exactly(moment: tuple[int, int, Decimal], form: str, style: str) -> None:
    hours, whole, fraction = moment
    at = START + 3600 * hours + whole + fraction

    assert hour_of(style.format(at), form) == (at / 3600).to_integral_value(ROUND_FLOOR)


@given(moments, st.sampled_from(sorted(FORMS)), st.integers(-23 * 60, 23 * 60))
def test_rfc_3339_is_floored_exactly(moment: tuple[int, int, Decimal], form: str, offset: int) -> None:
    hours, whole, fraction = moment
    second = datetime.fromtimestamp(START + 3600 * hours + whole, UTC).astimezone(timezone(timedelta(minutes=offset)))
    digits = f"{abs(fraction):.20f}"[2:] if abs(fraction) < 1 else "0"
    zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    text = f'"{second:%Y-%m-%dT%H:%M:%S}.{digits}{zone}"'

    assert hour_of(text, form) == int(second.timestamp()) // 3600
