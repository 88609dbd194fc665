"""A line of each log becomes the key, the hour and the value that it says; what is no sample is named by its line."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.errors import ClientError
from metrics_app.sources.key_template import KeyTemplate
from metrics_app.sources.log_fields import FieldRules, Units, hour_of, value_of
from metrics_app.sources.log_formats import FORMATS, format_of, of_pattern
from metrics_app.sources.log_lines import Gathered, Read, reader_of
from metrics_app.sources.routes import route_of

COLUMNS = ["key", "timestamp", "value"]
CLF = '10.0.0.1 - ann [26/Nov/2026:10:59:59 +0000] "GET /users/42?q=1 HTTP/1.1" 200 512 "-" "curl/8 \\"x\\"" '
LINES = {
    "nginx": CLF + "0.003",
    "apache": CLF + "3000",
    "haproxy": "Nov 26 10:59:59 lb haproxy[1]: 10.0.0.1:4 [26/Nov/2026:10:59:59.655] web app/srv1 1/0/0/2/+3 200 "
    '27 - - ---- 1/1/1/1/0 0/0 {a} {} "GET /users/42?q=1 HTTP/1.1"',
    "alb": "https 2026-11-26T10:59:59.186641Z app/lb 10.0.0.1:2817 10.0.0.2:80 0.000 0.002 0.001 200 200 34 366 "
    '"GET https://shop.example:443/users/42?q=1 HTTP/1.1" "curl/8" ECDHE TLSv1.2 arn:x "Root=1" "-" "-" 0 x "forward"',
    "envoy": '[2026-11-26T10:59:59.310Z] "GET /users/42?q=1 HTTP/2" 204 - via_upstream - "-" 154 0 3 2 "10.0.0.1" "c"',
    "caddy": '{"level":"info","ts":1795690799.52,"msg":"handled request","request":{"method":"GET",'
    '"uri":"/users/42?q=1"},"duration":0.003,"status":200}',
    "ndjson": '{"key":"GET /users/{id}","value":3,"timestamp":"2026-11-26T10:59:59Z","more":[1]}',
    "csv": '"GET /users/{id}",1795690799999,3.0',
}
GARBAGE = st.binary(max_size=60).filter(lambda text: b"\n" not in text)
HOUR = int(datetime(2026, 11, 26, 10, tzinfo=UTC).timestamp()) // 3600


def reader(name: str, key: str | None = None, zone: str = "UTC", raw_paths: bool = False) -> Read:
    form = FORMATS[name]
    rules = FieldRules(KeyTemplate.of(key or form.key), Units(form.unit, "ms"), ZoneInfo(zone), raw_paths)
    return reader_of(form, rules, COLUMNS, ",")


def test_every_format_has_a_line_here():
    assert LINES.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_a_line_says_its_key_hour_and_value(name: str, end: str):
    found = reader(name)((LINES[name] + end).encode(), 1)
    assert (found.lines, found.values, found.bad) == (1, {("GET /users/{id}", HOUR): [3.0]}, [])


@pytest.mark.parametrize("name", FORMATS)
def test_a_bad_line_is_named_and_the_others_count(name: str):
    good = LINES[name]
    found = reader(name)(
        "\n".join([good, "nonsense \u00e9", "", good, '{"key":1}', good]).encode() + b"\n\xff\xfe\n", 11
    )
    assert found.values == {("GET /users/{id}", HOUR): [3.0] * 3}
    assert [line.number for line in found.bad] == [12, 15, 17]
    assert found.lines == 7
    assert all("expected" in line.detail or "format" in line.detail for line in found.bad)


@pytest.mark.parametrize("name", FORMATS)
@given(
    garbage=st.lists(st.binary(max_size=60).filter(lambda text: b"\n" not in text), max_size=6), at=st.integers(0, 6)
)
def test_no_garbage_hides_a_line_or_is_taken_for_one(name: str, garbage: list[bytes], at: int):
    lines = [*garbage[:at], LINES[name].encode(), *garbage[at:]]
    found = reader(name)(b"\n".join(lines) + b"\n", 1)
    assert found.lines == len(lines)
    assert found.count + len(found.bad) == sum(bool(line.strip()) for line in lines)
    assert found.values[("GET /users/{id}", HOUR)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9999)), min_size=1, max_size=40))
def test_all_at_once_and_one_by_one_come_to_the_same(rows: list[tuple[int, int]]):
    lines = [
        CLF.replace("/users/42", f"/r{route}").replace(":10:59", f":1{route}:59") + f"{ms / 1000}" for route, ms in rows
    ]
    text = ("\n".join(lines) + "\n").encode()
    one_by_one = [reader("nginx")(line.encode(), 1).values for line in lines]
    expected: dict[tuple[str, int], list[float]] = {}
    for each in one_by_one:
        for place, values in each.items():
            expected.setdefault(place, []).extend(values)
    assert reader("nginx")(text, 1).values == expected
    assert reader("nginx")(text + b"\n", 1).values == expected  # a blank line is looked at by itself


def test_a_template_names_what_is_in_the_line():
    line = LINES["nginx"].encode()
    assert keys(reader("nginx", "{host} {status}")(line, 1)) == ["10.0.0.1 200"]
    assert keys(reader("nginx", raw_paths=True)(line, 1)) == ["GET /users/42"]
    assert keys(reader("caddy", "{request.method} {status}")(LINES["caddy"].encode(), 1)) == ["GET 200"]
    assert reader("nginx", "{service}")(line, 1).bad[0].detail.startswith("key: expected service")


def keys(found: Gathered) -> list[str]:
    return [key for key, _ in found.values]


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/users/42/orders/7", "/users/{id}/orders/{id}"),
        ("/u/6ba7b810-9dad-11d1-80b4-00c04fd430c8", "/u/{id}"),
        ("/c/deadbeef01", "/c/{id}"),
        ("/feedface", "/feedface"),
        ("/v2/items", "/v2/items"),
        ("/static/app.0123456789abcdef0123.js", "/static/app.0123456789abcdef0123.js"),
        ("/t/eyJhbGciOiJIUzI1NiIsInR5cCI6", "/t/{id}"),
        ("/a?b=/1/2#c", "/a"),
        ("http://h:1/x/1", "/x/{id}"),
        ("*", "*"),
        ("/1", "/{id}"),
        ("/1/", "/{id}/"),
    ],
)
def test_ids_are_left_out_of_routes(path: str, route: str):
    assert route_of(path) == route


@pytest.mark.parametrize(
    ("text", "zone", "hour"),
    [
        ("26/Nov/2026:10:59:59 +0000", "UTC", 0),
        ("26/Nov/2026:10:15:00 +0530", "UTC", -6),
        ("26/Nov/2026:10:59:59 -0130", "UTC", 2),
        ("26/Nov/2026:11:59:59.999", "Europe/Berlin", 0),
        ("2026-11-26T10:00:00Z", "UTC", 0),
        ("2026-11-26T10:59:59.123456789+00:00", "UTC", 0),
        ("2026-11-26 11:00:00", "Europe/Berlin", 0),
        ("1795690799.9", "UTC", 0),
        ("1795690799.99999999999", "UTC", 0),  # as a float64 it is the next second
        ("1795690799999", "UTC", 0),
    ],
)
def test_times_are_read_in_their_zone(text: str, zone: str, hour: int):
    assert hour_of(text, ZoneInfo(zone)) == HOUR + hour


@pytest.mark.parametrize(
    "text", ["", "now", "26/Foo/2026:10:00:00 +0000", "-1", "nan", "1e400", "1969-12-31T23:00:00Z"]
)
def test_what_is_no_time_says_so(text: str):
    with pytest.raises(ValueError, match="time: expected"):
        hour_of(text, UTC)


def test_durations_are_converted_and_rounded_once():
    assert value_of("0.003", Fraction(1000)) == 3.0
    assert value_of("0.1 0.2", Fraction(1)) == 0.3
    assert value_of("1234", Fraction(1, 1000)) == 1.234
    for text in ("-1", "", "a", "1,5", "nan", "inf", "1e30", "0.1 -1", "1_000", "\u0663", "1e999999999"):
        with pytest.raises(ValueError, match="value: expected"):
            value_of(text, Fraction(1))


def test_a_pattern_needs_its_groups():
    form = of_pattern(r"(?P<time>\S+) (?P<key>\S+) (?P<value>\S+)")
    rules = FieldRules(KeyTemplate.of(form.key), Units(None, "ms"))
    assert reader_of(form, rules, [], ",")(b"1795690799 a 5\n", 1).values == {("a", HOUR): [5.0]}
    for wrong in ("(?P<time>.*)", "(", "(?P<value>.*)"):
        with pytest.raises(ClientError, match="--pattern"):
            of_pattern(wrong)
    with pytest.raises(ClientError, match="expected one of nginx"):
        format_of("iis")


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?P<time>\d+) (?P<key>\w+) (?P<value>\d+)|(?P<other>never)",
        r"(?i)(?P<time>\d+) (?P<key>A) (?P<value>\d+)",
        "(?x) (?P<time>\\d+)\\ (?P<key>a)  \\ (?P<value>\\d+)  # a comment",
        r"(?P<time>\d+) (?P<twice>(?P<key>\w))(?:(?P=twice))? (?P<value>\d+)",
        r"(?P<time>\d+) (?P<skipped>)(?P<key>(\w))\4? (?P<value>\d+)",
    ],
)
def test_a_pattern_is_that_of_a_whole_line_whatever_is_in_it(pattern: str):
    form = of_pattern(pattern)
    read = reader_of(form, FieldRules(KeyTemplate.of(form.key), Units(None, "ms")), [], ",")
    found = read(b"1795690799 a 5\n1795690799 a 50 more\n1795690799 a 6\n", 1)
    assert (found.values, [line.number for line in found.bad]) == ({("a", HOUR): [5.0, 6.0]}, [2])
    assert read(b"1795690799 a 50 more\n", 1).count == 0


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("more", [b"1", b"1 ", b"]: ", b'"', b'"A /', b"[", b"/1"])
def test_a_long_line_takes_no_long_time(name: str, more: bytes):
    line, read = LINES[name].encode(), reader(name)
    begun_s = time.process_time()
    for cut in range(0, len(line), 12):
        read(line[:cut] + more * (40_000 // len(more)), 1)
    assert time.process_time() - begun_s < 5  # a tenth of a second, or, where a part is tried at every place, 50
