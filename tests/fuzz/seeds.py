"""Valid encodings of everything that `targets` reads, to start from; and damage, which only their checksums notice.

Called by `targets`, `test_targets`, `coverage_guided` and `running_worker`.
"""

from __future__ import annotations

import gzip
import json
import struct
import tempfile
import uuid
import zlib
from functools import cache
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.ranges import WHOLE, Ranges
from metrics_app.aggregator.row import Checkpoint, Row
from metrics_app.client.buffer import Batch
from metrics_app.client.segments import SEGMENT, Segments
from metrics_app.holdings import Loss
from metrics_app.stats import codec
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire import record
from metrics_app.wire.bodies import ARROW
from metrics_app.wire.chunk import Chunk

HOUR = 498_740
SENDER = uuid.UUID(int=7)
CORPUS = Path(__file__).with_name("corpus")  # NAME.hex: inputs that found something, or code that no other input runs

HISTOGRAM = {"min": 1.0, "max": 1.0, "sum": f"{1 << 64:x}", "squares": f"{1 << 64:x}", "offset": -1, "counts": [1]}
ONE = {"sender": str(SENDER), "series": [{"key": "a", "hour": HOUR, "first": 3, "values": [1.5, 0, 2e9]}]}
MANY = {"series": [*ONE["series"], {"key": "größe", "hour": HOUR, "histogram": HISTOGRAM}]}
PACKED = {"sender": SENDER, "series": [{"key": "a", "hour": HOUR, "first": 0, "values": struct.pack("<2d", 1.5, 2)}]}


def summary(*values: float, exact_distinct: int = 1000) -> bytes:
    """An encoded summary of the values."""
    made = HourlySummary(exact_distinct)
    made.add(np.array(values))
    return codec.encode(made)


SUMMARIES = [
    codec.encode(HourlySummary()),
    summary(12.5),
    summary(1.0, 2.0, 2.0, 3.0),
    summary(0.0, 1e-9, 1.0, 80.0, 80.0, 2.0**44, exact_distinct=0),
]
CHUNKS = [
    Chunk(b"checkout", HOUR, struct.pack("<3d", 12.5, 0, 17.25), b"s" * 16, 5),
    Chunk("größe/ü".encode(), HOUR - 1, struct.pack("<1d", 2.0**44), ids=b"i" * 16),
    Chunk(b"checkout", HOUR, struct.pack("<2d", 1, 2), ids=bytes(range(32))),
    Chunk(b"a", HOUR, b"", b"s" * 16, 9),
]
SUMMED = Chunk(b"a", HOUR, b"", b"s" * 16, 9, histogram=SUMMARIES[-1], weight=6)
PLACED = Chunk(b"a", HOUR, struct.pack("<2d", 1, 2), first=3, ids=b"i" * 16)
RECORDS = [record.encode(chunks) for chunks in (CHUNKS, [*CHUNKS, SUMMED], [PLACED, *CHUNKS], [])]


def _rows() -> list[bytes]:
    row = Row(codec.decode(SUMMARIES[2], 1000), epoch=3, stamp=41, late=1, duplicates=2, unfenced=4)
    row.senders = {b"s" * 16: Ranges([0, 5, 7, 9]), b"a" * 16: Ranges([0, 1 << 40])}
    claims = {b"a" * 16: Ranges([*WHOLE]), b"b" * 16: Ranges([1, 5, 7, 8])}
    loss = Loss(0, HOUR, 1795400000.0, 7)
    return [
        rows.encode_row(row),
        rows.encode_row(Row(codec.decode(SUMMARIES[3], 0), incomplete=True)),
        rows.encode_ids(1, 7, claims),
        rows.encode_ids(1, 7, {b"a" * 16: Ranges([*WHOLE])}),
        rows.encode_checkpoint(Checkpoint(3, 41, 1795464000.5, 1795464000000, HOUR, 1795463999000, (loss,))),
        rows.encode_checkpoint(Checkpoint(1, 7, 12.25)),
    ]


ROWS = _rows()
ENTRIES = [struct.pack("<IIqI", HOUR, 1, 7, 0), struct.pack("<IIqIQQ", HOUR, 2, 9, 1, 1, 5) * 2]

JSON_BODIES = [
    json.dumps(value).encode()
    for value in (
        {"key": "checkout", "value": 12.5, "timestamp": HOUR * 3600 + 0.5, "id": "order-4711"},
        ["checkout", 12.5, "2026-11-23T22:00:00+01:00"],
        [["a", 1], {"key": "b", "value": 2}, ["c", -1], [], {"key": "é" * 200, "value": 1}],
        [{"key": "b", "value": 2, "id": "x"}, {"key": "b", "value": 1e-300, "timestamp": HOUR * 3600}],
        ONE,
        MANY,
    )
]
LINES = b'["a",1]\n\n{"key":"b","value":2}\n["a",null]\n'
CUT = {"series": [{"key": "a", "hour": HOUR, "values": bytes(12)}]}  # one value and a half
TABLE = {"keys": ["a", "größe"], "values": struct.pack("<3d", 1.5, 0, 2), "index": [0, 1, 0]}
NAMED = TABLE | {"timestamps": [None, HOUR * 3600.0, HOUR * 3600.5], "ids": ["x", None, "y"]}
COUNTED = TABLE | {"timestamps": [HOUR * 3600.0] * 3, "sender": SENDER, "numbers": struct.pack("<3Q", 0, 7, 1)}
MSGPACK_BODIES = [msgspec.msgpack.encode(value) for value in (PACKED, ONE, MANY, CUT, TABLE, NAMED, COUNTED)]
CONTENT_TYPES = (
    "application/json",
    "application/x-ndjson",
    "application/msgpack",
    "",
    "text/plain; charset=utf-8",
    ARROW,
)


def _stream(**columns: pa.Array) -> bytes:
    table, out = (
        pa.table(columns).replace_schema_metadata({"sender": str(SENDER)} if "number" in columns else {}),
        pa.BufferOutputStream(),
    )
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return bytes(out.getvalue().to_pybytes())


_KEYS, _VALUES, _IDS = pa.array(["a", "größe", "a"]), pa.array([1.5, None, 2.0]), pa.array(["x", None, "y"])
_TIMES = pa.array([HOUR * 3600] * 3).cast(pa.timestamp("s", tz="UTC"))
STREAMS = [
    _stream(key=_KEYS, value=_VALUES),
    _stream(key=_KEYS.dictionary_encode(), value=_VALUES, timestamp=_TIMES, id=_IDS),
    _stream(key=_KEYS, value=_VALUES, timestamp=_TIMES, number=pa.array([0, 0, 1])),
]
# byte 0: content type, whether gzipped, whether the request has an id
BODIES = [
    *(bytes([0]) + body for body in JSON_BODIES),
    bytes([1]) + LINES,
    *(bytes([2]) + body for body in MSGPACK_BODIES),
    *(bytes([5]) + body for body in STREAMS),
    *(bytes([0 | 16]) + body for body in JSON_BODIES),
    bytes([0 | 8]) + gzip.compress(JSON_BODIES[0], mtime=0),
    bytes([1 | 8]) + gzip.compress(LINES[:8], mtime=0) + gzip.compress(LINES[8:], mtime=0),
]

_END_NS = str((HOUR * 3600 + 1800) * 10**9)
_SPAN = {"traceId": "74" * 16, "spanId": "73" * 8, "name": "GET /a", "kind": 2, "startTimeUnixNano": _END_NS}
_SPAN |= {"endTimeUnixNano": _END_NS, "attributes": [{"key": "a", "value": {"intValue": "7"}}], "status": {"code": 2}}
_SHOP = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
_TRACES = {"resourceSpans": [{"resource": _SHOP, "scopeSpans": [{"spans": [_SPAN, {**_SPAN, "kind": 1}]}]}]}
_POINTS: dict[str, object] = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"sum": {"dataPoints": [{}]}}]}]}]}
# the first byte says which encoding: 0 protobuf, 1 JSON
SPANS = [
    b"\1" + json.dumps(_TRACES).encode(),
    b"\1" + json.dumps(_POINTS).encode(),
    b"\0"
    + bytes.fromhex(
        "0a5a0a180a160a0c736572766963652e6e616d6512060a0473686f70123e123c0a1074747474747474747474747474747474"
        "120873737373737373732a06474554202f6130023900d05cdfa1c6ea184100d05cdfa1c6ea187a021802"
    ),
]

QUESTIONS = [
    b"/checkout/median/2026-11-23/20",
    b"/a%2Fb/p99.9/2026-11-23",
    b"/checkout/summary?from=2026-11-23&to=2026-11-24T05:00:00+01:00&limit=7&after=2026-11-23/4",
    b"/checkout/under/2026-11-23/20?ms=250&format=csv&consistency=strong",
    b"/checkout/compare/2026-11-23/20?with=2026-11-23/19",
    b"/checkout/histogram/2026-11-23/20?format=prometheus-native",
    b"/keys?prefix=ch&date=2026-11-23&limit=10&after=checkout&format=json",
    b"/checkout/p99/yesterday/3",
    b"/checkout/p99?last=24h",
    b"/checkout/p99?from=1795464000000&to=1795467600001",
    b"/keys?sort=p99&hour=3&contains=eck&stats=count,p50&cursor=12.5:checkout",
]
HEADERS = [
    b"overflow=120, value=3",
    b'"8f14e45f-ceea-4e7a-9c1b-2f0d3a7b6c55"',
    b"text/csv;q=0.9, application/json;q=0.8, */*",
    b'W/"abc", "def"',
    b"application/json; charset=utf-8",
]
REPLIES = [
    b'{"accepted":2,"rejected":[{"index":1,"reason":"hour","detail":"too old"}]}',
    b'{"type":"about:blank","title":"x","status":503,"detail":"later","recovering":'
    b'[{"partition":1,"done":2,"total":3,"eta_s":null}]}',
    b'{"of":"the day from 2026-11-23T00:00:00Z","roles":{"0":"active"},"keys":{"0":["a","b"]},"behind":[0],'
    b'"lost":{"0":7}}',
    b'{"of":"x","roles":{"0":"standby","1":"active"},"keys":{"0":[{"key":"a","value":1.5,"answer":{}}]},"behind":[1]}',
]
LETTERS = [b"topic\0samples\0partition\x001\0offset\x007\0reason\0record: bad\0timestamp\x001795464000000"]


@cache
def spools() -> list[bytes]:
    """Files that a client keeps: two batches, of which one was sent; and one of the first release."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        segments = Segments(folder, 1 << 20, sync=False)
        kept = [segments.append(Batch(2, 2, False, MSGPACK_BODIES[0])) for _ in range(2)]
        segments.append(Batch(2, 2, True, gzip.compress(MSGPACK_BODIES[0], mtime=0), True))
        kept[0].let_go()
        segments.abandon()
        (path,) = folder.glob(f"*{SEGMENT}")
        data = path.read_bytes()
    return [data, data[6:]]


def _request(line: str, body: bytes = b"", headers: str = "") -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{line} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n".encode() + body


REQUESTS = [
    *(_request(f"GET {question.decode()}") for question in QUESTIONS),
    *(_request(f"GET {path}") for path in ("/livez", "/readyz?verbose", "/metrics", "/openapi.json", "/")),
    *(_request("POST /samples", body) for body in JSON_BODIES),
    *(_request("POST /samples", body, "Content-Type: application/msgpack\r\n") for body in MSGPACK_BODIES),
    _request("POST /samples", gzip.compress(JSON_BODIES[0], mtime=0), "Content-Encoding: gzip\r\n"),
    b"POST /samples HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nIdempotency-Key: k\r\n"
    b'Metrics-Dropped: overflow=1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n8\r\n["a", 1]\r\n0\r\n\r\n',
    b"GET /checkout/max/2026-11-23/20 HTTP/1.1\r\nHost: localhost\r\nAccept: text/csv;q=0.9, */*\r\n"
    b'If-None-Match: W/"abc"\r\nX-Metrics-Hop: 1\r\nX-Metrics-Token: t\r\nX-Metrics-Within: 1.5\r\n\r\n',
    b'POST /samples HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n["a",1]',
    b"HEAD /checkout/max/2026-11-23 HTTP/1.0\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
]

SMALL = [
    *(request for request in REQUESTS if request.startswith(b"POST")),
    _request("POST /samples", JSON_BODIES[0], 'Idempotency-Key: "k"\r\nConnection: keep-alive\r\n') * 2,
    _request("POST /samples", LINES, "Content-Type: application/x-ndjson\r\nUser-Agent: a\r\n")
    + _request("GET /livez"),
]
TOKEN = "metrics_fuzz"
TOKEN_LINE = {"name": "shop", "scopes": ["ingest", "query"], "prefixes": ["check"]}
TOKEN_LINE |= {"sha256": sha256(TOKEN.encode()).hexdigest()}
TOKEN_FILES = [
    json.dumps(TOKEN_LINE).encode(),
    b"# comment\n\n" + json.dumps({"name": "grafana", "scopes": ["query"], "cn": "grafana.example"}).encode(),
]
_BEARER = f"Authorization: Bearer {TOKEN}\r\n"
_PROOF = f"X-Metrics-Hop: 1\r\nX-Metrics-Proof: 1795464000000 {'a' * 32} {'b' * 64}\r\n"
GUARDED = [
    *REQUESTS,
    _request("GET /checkout/max/2026-11-23/20", headers=_BEARER),
    _request("GET /keys?date=2026-11-23", headers=_BEARER + _PROOF),
    _request("GET /checkout/max/2026-11-23/20", headers=_PROOF + "Origin: https://a.example\r\n"),
    *(_request("POST /samples", body, _BEARER) for body in JSON_BODIES),
    _request("OPTIONS /samples", headers="Origin: https://a\r\nAccess-Control-Request-Method: POST\r\n"),
]

VALID: dict[str, list[bytes]] = {
    "summary": SUMMARIES,
    "record": RECORDS,
    "row": ROWS,
    "entry": ENTRIES,
    "body": BODIES,
    "spans": SPANS,
    "question": QUESTIONS,
    "header": HEADERS,
    "reply": REPLIES,
    "letter": LETTERS,
    "spool": spools(),
    "tokens": TOKEN_FILES,
    "http": REQUESTS,
    "lane": SMALL,
    "guarded": GUARDED,
}


def corpus(name: str) -> list[bytes]:
    """The inputs kept for a target."""
    path = CORPUS / f"{name}.hex"
    return [bytes.fromhex(line) for line in path.read_text().split()] if path.exists() else []


def resealed_record(body: bytes) -> bytes:
    """A record of version 1 to 3, by its length, whose checksum fits whatever the body is."""
    return struct.pack("<2sBBI", record.MAGIC, 1 + len(body) % 3, 0, zlib.crc32(body)) + body


def resealed_row(value: bytes) -> bytes:
    """The value with a checksum that fits, in place of its last four bytes."""
    return value[:-4] + struct.pack("<I", zlib.crc32(value[:-4]))


def resealed_segment(data: bytes) -> bytes:
    """The file with checksums that fit, as far as its records can be told apart."""
    at, sealed = 6 if data.startswith(b"\x89MASP\1") else 0, bytearray(data)
    while at + 9 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 1)
        payload = data[at + 9 : at + 9 + length]
        struct.pack_into("<I", sealed, at + 5, zlib.crc32(payload))
        at += 9 + length
    return bytes(sealed)
