"""A collector that counts as the real ones do, with the real parser and the real fold, and misbehaves when told to."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import msgspec

from metrics_app.aggregator.fold import FoldLimits, PartitionFold
from metrics_app.aggregator.row import NO_CHECKPOINT, Row, split_hour_key
from metrics_app.wire import dropped
from metrics_app.wire.bodies import BodyLimits, inflate, parse
from metrics_app.wire.msgpack_table import is_table

LIMITS = BodyLimits(max_items=100_000, max_ahead_s=300, retention_s=31 * 86_400, chunk_values=10_000)


class Collector:
    """An HTTP server on loopback.

    Attributes:
        mode: what it does with a request: "ok", a status such as 503, "hole" (no answer), "slow" (a second each),
            "cut" (does its work and breaks the connection), "tidings" (503 to all that has values), "late 503".
        mode_lasts: requests after which all is well again.
        max_body: bytes; more are 413.
        headers: sent with each refusal.
        ahead_s: seconds that its clock is ahead of the real time.
        fold: what has been counted.
        tables: requests taken whose bodies were tables.
        knows_tables: whether it takes them; False: as a release of before them does.
        seen: (moment, values, encoding) of each request taken.
        reported: values the clients say they dropped, by reason.
    """

    def __init__(self, port: int = 0, fold: PartitionFold | None = None) -> None:
        self.mode: str | int = "ok"
        self.mode_lasts = sys.maxsize
        self.max_body = sys.maxsize
        self.headers: dict[str, str] = {}
        self.requests = 0
        self.tables = 0
        self.knows_tables = True
        self.ahead_s = 0.0
        self.seen: list[tuple[float, int, str]] = []
        self.reported: Counter[str] = Counter()
        self.fold = fold or PartitionFold(lambda key: None, FoldLimits(), NO_CHECKPOINT)
        self.lock = threading.Lock()
        self._released = threading.Event()
        self._port = port
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                collector.take(self)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(collector.now_s() if timestamp is None else timestamp)

            def log_message(self, *facts: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128
            block_on_close = False

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # the connection is gone

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def now_s(self) -> float:
        return time.time() + self.ahead_s

    def stop(self) -> None:
        if self._server is not None:
            self._released.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def take(self, request: BaseHTTPRequestHandler) -> None:
        self.requests += 1
        sent = request.rfile.read(int(request.headers["Content-Length"]))
        mode = self.mode if self.mode_lasts > 0 else "ok"
        self.mode_lasts -= 1
        if len(sent) > self.max_body:
            mode = 413
        if mode == "hole":
            self._released.wait(60)
            request.close_connection = True
            return
        if mode == "late 503":
            time.sleep(0.5)
            mode = 503
        if isinstance(mode, int):
            self._reply(request, mode, {"detail": "told to"}, self.headers)
            return
        if mode == "slow":
            time.sleep(1.0)
        encoding = request.headers.get("Content-Encoding", "")
        body = inflate(sent, 8 << 20) if encoding else sent
        if is_table(body) and not self.knows_tables:
            self._reply(request, 400, {"detail": "expected series"})
            return
        request_id = request.headers.get("Idempotency-Key", "").encode()
        parsed = parse(body, request.headers["Content-Type"], self.now_s(), LIMITS, request_id)
        if mode == "tidings" and parsed.accepted:
            self._reply(request, 503, {"detail": "told to"}, self.headers)
            return
        with self.lock:
            self.fold.apply(self.fold.offset + 1, int(self.now_s() * 1000), parsed.chunks)
            self.tables += is_table(body)
            self.seen.append((time.monotonic(), parsed.accepted, encoding))
            self.reported.update(dropped.read(request.headers.get(dropped.HEADER, "")))
        if mode == "cut":
            request.close_connection = True
            return
        rejected = [asdict(item) for item in parsed.rejected]
        nothing_kept = parsed.reasons and not parsed.accepted
        self._reply(request, 400 if nothing_kept else 202, {"accepted": parsed.accepted, "rejected": rejected})

    def _reply(
        self, request: BaseHTTPRequestHandler, status: int, body: Any, headers: dict[str, str] | None = None
    ) -> None:
        encoded = msgspec.json.encode(body)
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(encoded)))
        request.end_headers()
        request.wfile.write(encoded)

    def rows(self) -> dict[str, list[Row]]:
        """Rows by key, of whatever hours."""
        found: dict[str, list[Row]] = {}
        with self.lock:
            for row_key in self.fold.cache:
                hour, key = split_hour_key(row_key)
                if (row := self.fold.find(key, hour)) is not None:
                    found.setdefault(key.decode(), []).append(row)
        return found

    def counted(self, key: str) -> int:
        return sum(row.summary.count for row in self.rows().get(key, []))

    def total(self, key: str) -> float:
        return sum(row.summary.sum for row in self.rows().get(key, []))

    def missing(self, key: str) -> int:
        return sum(row.missing for row in self.rows().get(key, []))

    def duplicates(self, key: str) -> int:
        return sum(row.duplicates for row in self.rows().get(key, []))
