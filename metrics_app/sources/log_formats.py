"""The forms of log lines that are known by name, and how each is taken apart.

Called by `cli.import_files`.

    nginx     log_format: '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent
              "$http_referer" "$http_user_agent" $request_time' (combined with the time at its end), seconds
    apache    combined with %D at its end, microseconds: LogFormat "%h %l %u %t \\"%r\\" %>s %b ... %D"
    haproxy   option httplog, also behind syslog's prefix; its total time, ms
    alb       access logs of AWS's Application Load Balancer; the sum of its three times, seconds
    envoy     the default format of Envoy and Istio; DURATION, ms
    caddy     JSON access logs of Caddy; duration, seconds
    ndjson    an object a line; by default key, value and timestamp, as POST /samples takes them
    csv       columns, named by the first line
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from metrics_app.errors import ClientError

Kind = Literal["pattern", "json", "csv"]
TIME, VALUE = "time", "value"
ROUTE_KEY = "{method} {route}"
_FLAGS = re.compile(rb"\(\?([aimsx]+)\)")

_REQUEST = rb'"(?P<method>[A-Z]+) (?P<path>[^ "?\n]+)(?:[ ?][^"\n]*)?"'
_TEXT = rb'"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
_CLF = rb"(?P<host>[^ \n]+) [^ \n]+ [^\n\[]*\[(?P<time>[^\]\n]+)\] " + _REQUEST + rb" (?P<status>\d{3}) (?:\d+|-)"
_COMBINED = _CLF + b" " + _TEXT + b" " + _TEXT + rb" (?P<value>[^ \n]+)"

_HAPROXY = (
    rb"(?:[^\n]*?\]: )?(?P<host>[^ \n]+) \[(?P<time>[^\]\n]+)\] "
    rb"(?P<frontend>[^ \n]+) (?P<backend>[^ /\n]+)/(?P<server>[^ \n]+) "
    rb"-?\d+/-?\d+/-?\d+/-?\d+/\+?(?P<value>-?\d+) (?P<status>-?\d+) [^\n]*?"
) + _REQUEST


class LogFormat(NamedTuple):
    """A form of lines.

    Attributes:
        kind: how lines are taken apart.
        pattern: of a whole line, with named groups; of kind "pattern".
        time, value, path: names of the fields; `path` for what the target of a request is called, where it has a name
            of its own.
        unit: of the values; None: that of the service.
        key: the template that is used unless another one is asked for.
    """

    kind: Kind
    key: str = ROUTE_KEY
    unit: str | None = None
    pattern: bytes = b""
    time: str = TIME
    value: str = VALUE
    path: str = "path"


FORMATS = {
    "nginx": LogFormat("pattern", unit="s", pattern=_COMBINED),
    "apache": LogFormat("pattern", unit="us", pattern=_COMBINED),
    "haproxy": LogFormat("pattern", unit="ms", pattern=_HAPROXY),
    "alb": LogFormat(
        "pattern",
        unit="s",
        pattern=rb"(?:http|https|h2|grpcs|ws|wss) (?P<time>[^ \n]+) (?P<balancer>[^ \n]+) (?P<host>[^ \n]+) [^ \n]+ "
        rb"(?P<value>[^ \n]+ [^ \n]+ [^ \n]+) (?P<status>[^ \n]+) [^ \n]+ [^ \n]+ [^ \n]+ "
        + _REQUEST
        + rb"(?: [^\n]*)?",
    ),
    "envoy": LogFormat(
        "pattern",
        unit="ms",
        pattern=rb"\[(?P<time>[^\]\n]+)\] " + _REQUEST + rb" (?P<status>\d+) (?:[^ \n]+ )*?(?P<in>\d+) (?P<out>\d+) "
        rb"(?P<value>\d+) (?:\d+|-) " + _TEXT + rb"(?: [^\n]*)?",
    ),
    "caddy": LogFormat("json", "{request.method} {route}", "s", time="ts", value="duration", path="request.uri"),
    "ndjson": LogFormat("json", "{key}", time="timestamp"),
    "csv": LogFormat("csv", "{key}", time="timestamp"),
}
SUFFIXES = {".csv": "csv", ".tsv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}


def format_of(name: str) -> LogFormat:
    """The format of that name.

    Raises:
        ClientError: there is none.
    """
    if name not in FORMATS:
        raise ClientError(f"--format {name}: expected one of {', '.join(FORMATS)}; or give --pattern")
    return FORMATS[name]


def of_pattern(pattern: str) -> LogFormat:
    """The format of lines that a regular expression describes, with the groups `time`, `value` and those of the key.

    Raises:
        ClientError: it is none, or has not these groups.
    """
    try:
        re.compile(pattern.encode())
        whole = _whole(pattern.encode())
        groups = re.compile(whole).groupindex
    except re.error as error:
        raise ClientError(f"--pattern: {error}") from None
    if missing := {TIME, VALUE} - groups.keys():
        raise ClientError(f"--pattern: expected a group (?P<{min(missing)}>...) in it")
    key = ROUTE_KEY if {"method", "path"} <= groups.keys() else "{key}"
    return LogFormat("pattern", key, pattern=whole)


def _whole(pattern: bytes) -> bytes:
    """The pattern as one group, which more may stand beside: also one of `a|b`, or with flags at its beginning."""
    flags = _FLAGS.match(pattern)
    letters = flags[1] if flags else b""
    end = b"\n" if b"x" in letters else b""  # of a comment
    return b"(?" + letters + b":" + pattern[flags.end() if flags else 0 :] + end + b")"
